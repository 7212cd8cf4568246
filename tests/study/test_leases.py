"""Leases: a heartbeat that stops frees what a process had, by the clock of whoever looks."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convtl.study import leases as module
from convtl.study.leases import Leases

A, B = "0123456789abcdef", "f123456789abcdef"

OTHER = """
import sys, time
from pathlib import Path
from convtl.study import leases
leases.BEAT = 0.05
mine = leases.Leases(Path(sys.argv[1]))
print(mine.take(sys.argv[2]), flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    monkeypatch.setattr(module, "BEAT", 0.05)
    monkeypatch.setattr(module, "EXPIRES", 1.0)


def wait_for(lease: Leases, trial: str, seconds: float) -> bool:
    """Whether a lease can be had within so many seconds, as a process asks that waits for others."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if lease.take(trial):
            return True
        time.sleep(0.05)
    return False


def test_a_living_process_keeps_its_lease_and_a_killed_one_does_not(tmp_path) -> None:
    mine, third = Leases(tmp_path), Leases(tmp_path)
    command = [sys.executable, "-c", OTHER, str(tmp_path), A]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert not wait_for(mine, A, 2.5), "taken from a process that lives"
        other.kill()
    assert wait_for(mine, A, 20)
    assert not wait_for(third, A, 2.5)
    mine.close()
    assert third.take(A)
    third.close()
    assert list(tmp_path.iterdir()) == [], "leases, hearts of dead processes"


def test_clocks_need_not_agree(tmp_path) -> None:
    mine, other = Leases(tmp_path), Leases(tmp_path)
    assert other.take(A)
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    assert not mine.take(A)
    mine.close()
    other.close()


def test_of_many_that_find_a_dead_lease_one_has_it(tmp_path) -> None:
    (tmp_path / f"{A}.lease").write_text("long-gone")
    several = [Leases(tmp_path) for _ in range(5)]
    assert sum(lease.take(A) for lease in several) == 1
    for lease in several:
        lease.close()


def test_a_lease_of_a_process_killed_before_its_name_was_written(tmp_path) -> None:
    (tmp_path / f"{A}.lease").write_text("")
    mine = Leases(tmp_path)
    assert not mine.take(A), "its owner may be about to write its name"
    assert wait_for(mine, A, 20)
    mine.close()


def test_closing_leaves_the_leases_of_others(tmp_path) -> None:
    mine, other = Leases(tmp_path), Leases(tmp_path)
    assert mine.take(A)
    assert other.take(B)
    mine.close()
    assert not Leases(tmp_path).take(B)
    other.close()


def test_where_no_file_can_be_made_everyone_may_work(tmp_path) -> None:
    mine = Leases(Path(tmp_path / "nowhere"))
    assert mine.take(A)
    mine.release([A])
    mine.close()
