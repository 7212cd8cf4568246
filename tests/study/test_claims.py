"""Claims keep two processes from doing the same trial; a dead process holds none."""

import errno
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from convtl.errors import UserError
from convtl.study import claims as module
from convtl.study.claims import Claims

A, B = "0123456789abcdef", "f123456789abcdef"

OTHER = """
import sys
from pathlib import Path
from convtl.study.claims import Claims
claims = Claims(Path(sys.argv[1]))
for line in sys.stdin:
    verb, trial = line.split()
    print(claims.take(trial) if verb == "take" else claims.release([trial]), flush=True)
"""


@contextmanager
def other_process(out):
    """Another process with claims of its own; call it with a verb and a trial."""
    command = [sys.executable, "-c", OTHER, str(out)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def ask(verb: str, trial: str) -> str:
            process.stdin.write(f"{verb} {trial}\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        ask.kill = process.kill
        ask.wait = process.wait
        try:
            yield ask
        finally:
            process.kill()


def test_two_processes_exclude_each_other_until_one_releases(tmp_path) -> None:
    mine = Claims(tmp_path)
    with other_process(tmp_path) as other:
        assert mine.take(A)
        assert mine.take(A), "a process keeps what it has"
        assert other("take", A) == "False"
        assert other("take", B) == "True"
        assert not mine.take(B)
        mine.release([A])
        assert other("take", A) == "True"
        assert not mine.take(A)
        other("release", B)
        assert mine.take(B)
    mine.close()


def test_a_kill_frees_what_was_claimed(tmp_path) -> None:
    mine = Claims(tmp_path)
    with other_process(tmp_path) as other:
        assert other("take", A) == "True"
        assert not mine.take(A)
        other.kill()
        other.wait()
        assert mine.take(A)
    mine.close()


def test_closing_frees_all(tmp_path) -> None:
    mine = Claims(tmp_path)
    assert mine.take(A)
    mine.close()
    with other_process(tmp_path) as other:
        assert other("take", A) == "True"


def test_another_folder_is_another_matter(tmp_path) -> None:
    one, other = Claims(tmp_path / "one"), Claims(tmp_path / "two")
    assert one.take(A)
    assert other.take(A)
    one.close()
    other.close()


def refused(*_args):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


@pytest.mark.parametrize("platform", ["without locks", "with locks that this file system refuses"])
def test_without_locks_claims_are_leases(tmp_path, monkeypatch, platform) -> None:
    if platform == "without locks":
        monkeypatch.setattr(module, "fcntl", None)
    else:
        monkeypatch.setattr(module.fcntl, "lockf", refused)
    one, other = Claims(tmp_path), Claims(tmp_path)
    assert one.take(A)
    assert one.take(A), "a process keeps what it has"
    assert not one.supported
    assert not other.take(A)
    assert other.take(B)
    one.release([A])
    assert other.take(A)
    assert not one.take(A)
    other.close()
    assert one.take(A)
    one.close()
    assert [path.name for path in (tmp_path / "claims").iterdir()] == ["trials.lock"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path) -> None:
    (tmp_path / "claims").write_text("")
    with pytest.raises(UserError, match=f"out: cannot write in '{tmp_path}'"):
        Claims(tmp_path)
