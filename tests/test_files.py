"""Files appear whole; what is left of dead writers goes, what living ones write stays."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from convtl.errors import StorageError
from convtl.storage import files
from convtl.storage.files import storage_errors, sweep, temporary_folder, written


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_at_the_end_and_whole(tmp_path) -> None:
    path = tmp_path / "table.csv"
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
        with temporary_folder(tmp_path / "net") as folder:
            (folder / "arrays").write_bytes(b"half")
            raise ValueError("no")

    with pytest.raises(OSError, match="full"):
        half_a_file()
    with pytest.raises(ValueError, match="no"):
        half_a_folder()
    assert names(tmp_path) == ["table.csv"]
    assert (tmp_path / "table.csv").read_bytes() == b"one"


def test_a_folder_that_went_away_is_not_made_anew(tmp_path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FileNotFoundError), written(out / "table.csv"):
        pass
    with pytest.raises(FileNotFoundError), temporary_folder(out / "checkpoints" / "net"):
        pass
    assert names(tmp_path) == []


def test_a_folder_is_the_callers_to_rename(tmp_path) -> None:
    with temporary_folder(tmp_path / "net") as folder:
        (folder / "arrays").write_bytes(b"1")
        folder.rename(tmp_path / "net")
    assert names(tmp_path) == ["net"]


WRITER = """
import os, sys
from pathlib import Path
from convtl.storage.files import temporary_folder, written
with written(Path(sys.argv[1]) / "a.csv") as file, temporary_folder(Path(sys.argv[1]) / "net") as folder:
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


def dead_process() -> int:
    """Id of a process that has just ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_only_parts_of_dead_processes_are_swept(tmp_path) -> None:
    machine, dead, here = files._machine(), dead_process(), os.getpid()
    swept = [
        f".a.{machine}.{dead}.01234567.part",
        f".net.{machine}.{dead}.01234567.part.old",
        ".old.deadbeef.1.01234567.part",
    ]
    stays = [
        ".hidden",
        ".a.part",
        f"a.{machine}.{dead}.01234567.part",
        f".a.{machine}.{here}.01234567.part",
        ".new.deadbeef.1.01234567.part",
    ]
    for name in (*swept, *stays):
        (tmp_path / name).touch()
    os.utime(tmp_path / swept[2], (0, 0))  # another machine's, since long abandoned
    (tmp_path / swept[1]).unlink()
    (tmp_path / swept[1]).mkdir()
    sweep([tmp_path, tmp_path / "nowhere"])
    assert names(tmp_path) == sorted(stays)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("784000 requested and 405376 written"), "No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "Permission denied"),
        (OSError("odd"), "odd"),
    ],
)
def test_errors_of_the_file_system_are_one_line(tmp_path, error, reason) -> None:
    with (
        pytest.raises(StorageError, match=f"^out: cannot read '{tmp_path}': {reason}$"),
        storage_errors("out", tmp_path, "read"),
    ):
        raise error
