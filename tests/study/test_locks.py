"""Locks keep two processes from running the same trial; a dead process holds none."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import pytest

from convtl.errors import UserError
from convtl.storage.files import locked
from convtl.study.store import TrialLocks

A, B, LIKE_A = "0123456789abcdef", "f123456789abcdef", "012fffffffffffff"

OTHER = """
import sys
from pathlib import Path
from convtl.study.store import TrialLocks
locks = TrialLocks(Path(sys.argv[1]))
for line in sys.stdin:
    verb, trial = line.split()
    print(locks.take(trial) if verb == "take" else locks.release([trial]), flush=True)
"""


@contextmanager
def other_process(out: Path) -> Iterator[Any]:
    """Another process with locks of its own; call it with a verb and a trial."""
    command = [sys.executable, "-c", OTHER, str(out)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def ask(verb: str, trial: str) -> str:
            process.stdin.write(f"{verb} {trial}\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        ask.process = process
        try:
            yield ask
        finally:
            process.kill()


def test_two_processes_exclude_each_other_until_one_releases(tmp_path) -> None:
    here = TrialLocks(tmp_path)
    with other_process(tmp_path) as other:
        assert here.take(A)
        assert here.take(A), "a process keeps what it has"
        assert here.take(LIKE_A), "and what shares its file"
        assert other("take", A) == other("take", LIKE_A) == "False"
        assert other("take", B) == "True"
        assert not here.take(B)
        here.release([A])
        assert other("take", A) == "False", "another trial still holds the file"
        here.release([LIKE_A])
        assert other("take", A) == "True"
        assert not here.take(A)
        other("release", B)
        assert here.take(B)
    here.close()


def test_a_killed_process_holds_nothing_and_closing_frees_all(tmp_path) -> None:
    here = TrialLocks(tmp_path)
    with other_process(tmp_path) as other:
        assert other("take", A) == "True"
        assert not here.take(A)
        other.process.kill()
        other.process.wait()
        assert here.take(A)
    here.close()
    with other_process(tmp_path) as other:
        assert other("take", A) == "True"


def test_folders_have_their_own_locks(tmp_path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, other = TrialLocks(tmp_path / "one"), TrialLocks(tmp_path / "two")
    assert one.take(A)
    assert other.take(A)
    one.close()
    other.close()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_one_line_says_that_work_may_be_done_twice(
    tmp_path, monkeypatch, capsys, code
) -> None:
    def refused(*_args: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refused)
    one, other = TrialLocks(tmp_path), TrialLocks(tmp_path)
    assert all(locks.take(trial) for locks in (one, other) for trial in (A, B))
    one.close()
    other.close()
    line = f"convtl: out: no file locks in '{tmp_path}': processes may do the same work twice\n"
    assert capsys.readouterr().err == line


def test_tasks_are_done_after_one_another(tmp_path) -> None:
    with locked("out", tmp_path, "report"):
        again = filelock.FileLock(tmp_path / ".locks" / "report")
        with pytest.raises(filelock.Timeout):
            again.acquire(timeout=0)
    again.acquire(timeout=0)
    again.release()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path) -> None:
    (tmp_path / ".locks").write_text("")
    with pytest.raises(
        UserError, match=f"out: cannot write in '{tmp_path}': {os.strerror(errno.EEXIST)}"
    ):
        TrialLocks(tmp_path).take(A)


def test_a_folder_that_went_away_is_not_made_anew(tmp_path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match=f"out: cannot write in '{out}'"):
        TrialLocks(out).take(A)
    with pytest.raises(UserError, match=f"out: cannot write in '{out}'"), locked("out", out, "a"):
        pass
    assert not out.exists()
