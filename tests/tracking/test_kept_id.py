"""The id of a W&B run, from one process of an invocation to the next."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from convtl.tracking.kept_id import KeptId

OTHER = """
import sys
from pathlib import Path
from convtl.tracking.kept_id import KeptId
kept = KeptId(Path(sys.argv[1]), "d1")
if len(sys.argv) > 2:
    kept.keep(sys.argv[2])
print(kept.id, flush=True)
sys.stdin.read()
"""


def other(out: Path, *words: str) -> tuple[subprocess.Popen[str], str]:
    """A process of the same invocation, and the id that it found."""
    done = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(out), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout is not None
    return done, done.stdout.readline().strip()


def end(process: subprocess.Popen[str], by: int = signal.SIGKILL) -> None:
    process.send_signal(by)
    process.communicate()


def test_what_a_killed_process_kept_is_found(tmp_path: Path) -> None:
    killed, found = other(tmp_path, "run1")
    assert found == "None"
    end(killed)
    kept = KeptId(tmp_path, "d1")
    assert kept.id == "run1"
    assert KeptId(tmp_path, "d2").id is None


def test_two_that_are_alive_share_nothing(tmp_path: Path) -> None:
    first, _ = other(tmp_path, "run1")
    second, found = other(tmp_path, "run2")
    assert found == "None"
    end(first)
    end(second)
    assert (
        KeptId(tmp_path, "d1").id == "run1"
    )  # the first one's; the second had no place to keep its own


def test_an_invocation_that_has_ended_leaves_nothing(tmp_path: Path) -> None:
    kept = KeptId(tmp_path, "d1")
    kept.keep("a-long-name-of-a-run")
    kept.keep("run1")
    assert [path.read_text() for path in (tmp_path / "claims").iterdir()] == ["run1\n"]
    kept.forget()
    assert list((tmp_path / "claims").iterdir()) == []
    assert KeptId(tmp_path, "d1").id is None


def test_one_that_goes_on_later_leaves_its_id(tmp_path: Path) -> None:
    kept = KeptId(tmp_path, "d1")
    kept.keep("run1")
    kept.release()
    process, found = other(tmp_path)
    assert found == "run1"
    end(process)


def test_who_waits_for_a_file_that_its_owner_removes_gets_a_new_one(tmp_path: Path) -> None:
    """As when one process ends while another has just opened the same file."""
    kept = KeptId(tmp_path, "d1")
    kept.keep("run1")
    opened = os.open
    raced = []

    def slow(path: Path, flags: int, mode: int) -> int:
        file = opened(path, flags, mode)
        if not raced:
            raced.append(True)
            (tmp_path / "claims" / "wandb-d1").unlink()
        return file

    try:
        os.open = slow  # type: ignore[assignment]
        later = KeptId(tmp_path, "d1")
    finally:
        os.open = opened
    assert raced
    assert later.id is None
    later.keep("run2")
    assert (tmp_path / "claims" / "wandb-d1").read_text() == "run2\n"


def test_where_nothing_can_be_kept_each_process_has_a_run_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "claims").write_text("in the way")
    kept = KeptId(tmp_path, "d1")
    kept.keep("run1")
    kept.forget()
    assert kept.id is None
