"""Files appear whole; what is left of dead writers goes, what living ones write stays."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from convtl.storage import files
from convtl.storage.files import folder_for, sweep, try_writing, written


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_at_the_end_and_whole(tmp_path) -> None:
    path = tmp_path / "new" / "table.csv"
    with written(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    with written(path) as file:
        file.write(b"two")
        file.flush()
        assert path.read_bytes() == b"one"
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["table.csv"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path) -> None:
    (tmp_path / "table.csv").write_bytes(b"one")

    def half_a_file() -> None:
        with written(tmp_path / "table.csv") as file:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "full")

    def half_a_folder() -> None:
        with folder_for(tmp_path / "net") as folder:
            (folder / "arrays").write_bytes(b"half")
            raise ValueError("no")

    with pytest.raises(OSError, match="full"):
        half_a_file()
    with pytest.raises(ValueError, match="no"):
        half_a_folder()
    assert names(tmp_path) == ["table.csv"]
    assert (tmp_path / "table.csv").read_bytes() == b"one"


def test_a_folder_is_the_callers_to_rename(tmp_path) -> None:
    with folder_for(tmp_path / "net") as folder:
        (folder / "arrays").write_bytes(b"1")
        folder.rename(tmp_path / "net")
    assert names(tmp_path) == ["net"]


WRITER = """
import os, sys
from pathlib import Path
from convtl.storage.files import folder_for, written
with written(Path(sys.argv[1]) / "a.csv") as file, folder_for(Path(sys.argv[1]) / "net") as folder:
    file.write(b"half")
    (folder / "arrays").write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.read()
    folder.rename(Path(sys.argv[1]) / "net")
"""


@pytest.mark.parametrize("killed", [True, False])
def test_parts_go_with_their_writer_and_not_before(tmp_path, killed) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == b"writing\n"
        before = names(tmp_path)
        assert len(before) == 2
        sweep([tmp_path, tmp_path / "nowhere"])
        assert names(tmp_path) == before
        if killed:
            writer.kill()
        else:
            writer.stdin.close()
        writer.wait()
    sweep([tmp_path])
    assert names(tmp_path) == ([] if killed else ["a.csv", "net"])


def test_only_parts_are_swept(tmp_path) -> None:
    kept = [".hidden", ".a.part", ".a.0123456789ab", "a.0123456789ab.part", ".a.0123456789AB.part"]
    for name in [*kept, ".a.0123456789ab.part"]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".net.0123456789ab.part.old").mkdir()
    sweep([tmp_path])
    assert names(tmp_path) == sorted(kept)


def test_writers_and_sweepers_at_once(tmp_path) -> None:
    """A sweep between the making of a part and its locking costs its writer nothing."""
    done = threading.Event()

    def sweeping() -> None:
        while not done.is_set():
            sweep([tmp_path])

    sweepers = [threading.Thread(target=sweeping) for _ in range(2)]
    for sweeper in sweepers:
        sweeper.start()
    try:
        for number in range(300):
            with written(tmp_path / "a") as file:
                file.write(b"%d" % number)
            assert (tmp_path / "a").read_bytes() == b"%d" % number
            with folder_for(tmp_path / f"net{number}") as folder:
                folder.rename(tmp_path / f"net{number}")
    finally:
        done.set()
        for sweeper in sweepers:
            sweeper.join()
    assert len(names(tmp_path)) == 301


def test_without_locks_only_what_is_old_is_swept(tmp_path, monkeypatch) -> None:
    def refused(*_args) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", refused)
    with written(tmp_path / "a") as file:
        file.write(b"1")
    for name in (".new.0123456789ab.part", ".old.0123456789ab.part"):
        (tmp_path / name).write_bytes(b"")
    os.utime(tmp_path / ".old.0123456789ab.part", (0, 0))
    sweep([tmp_path])
    assert names(tmp_path) == [".new.0123456789ab.part", "a"]


def test_a_sweep_at_the_end_of_trying_does_no_harm(tmp_path, monkeypatch) -> None:
    unlink = Path.unlink

    def swept_first(path: Path, missing_ok: bool = False) -> None:
        monkeypatch.setattr(Path, "unlink", unlink)
        sweep([tmp_path])
        path.unlink(missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", swept_first)
    try_writing(tmp_path)
    assert names(tmp_path) == []


def test_trying_leaves_nothing(tmp_path) -> None:
    try_writing(tmp_path)
    assert names(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        try_writing(tmp_path / "nowhere")
