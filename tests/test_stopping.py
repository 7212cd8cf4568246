"""Signals are noted where work can be kept, and obeyed at once elsewhere."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from convtl.entry import guarded
from convtl.runtime.stopping import (
    Stopped,
    held_back,
    obey,
    on_signals,
    requested,
    stopping_jobs,
)

INT, TERM, USR1 = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1


def send(number: int = TERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [INT, TERM, USR1, signal.SIGUSR2])
def test_a_signal_stops_the_process_at_once(number: int) -> None:
    with pytest.raises(Stopped, match=signal.Signals(number).name), on_signals():
        send(number)


@pytest.mark.parametrize(
    ("signals", "name", "completed"),
    [
        ([TERM], "SIGTERM", True),
        ([INT], "SIGINT", True),
        ([TERM, TERM, USR1], "SIGTERM", True),
        ([INT, INT], "SIGINT", False),
        ([TERM, INT], "SIGINT", False),
    ],
    ids=["once", "Ctrl-C", "schedulers ask more than once", "Ctrl-C twice", "impatient"],
)
def test_held_back_signals_wait_for_the_end_but_not_a_second_ctrl_c(
    signals: list[int], name: str, completed: bool
) -> None:
    reached = []

    def work() -> None:
        for number in signals:
            send(number)
            assert requested()
        reached.append("the end")

    with pytest.raises(Stopped, match=name), on_signals(), held_back():
        work()
    assert bool(reached) == completed
    assert not requested()


def test_a_held_back_signal_is_obeyed_where_work_is_kept() -> None:
    def work() -> None:
        obey()
        send()
        obey()
        pytest.fail("went on")

    with pytest.raises(Stopped), on_signals(), held_back():
        work()


def test_a_signal_after_several_have_agreed_to_go_on_waits_for_the_next_time() -> None:
    def work() -> None:
        send()
        obey(False)
        assert requested()
        obey(True)
        pytest.fail("went on")

    with pytest.raises(Stopped), on_signals(), held_back():
        work()


def test_a_second_signal_does_not_disturb_the_way_out() -> None:
    cleaned = []

    def work() -> None:
        try:
            send()
        finally:
            send(USR1)
            cleaned.append(True)

    with pytest.raises(Stopped, match="SIGTERM"), on_signals():
        work()
    assert cleaned == [True]


def test_an_error_is_not_covered_up_by_a_held_back_signal() -> None:
    def work() -> None:
        send()
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"), on_signals(), held_back():
        work()


class Clumsy:
    """Its destructor, in which a signal arrives, drops what is raised."""

    def __del__(self) -> None:
        send()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dropped_stop_is_obeyed_at_the_next_place() -> None:
    def work() -> None:
        Clumsy()
        obey()
        pytest.fail("went on")

    with pytest.raises(Stopped, match="SIGTERM"), on_signals():
        work()


def test_earlier_handlers_are_put_back_and_ignored_signals_stay_ignored() -> None:
    before = signal.signal(INT, signal.SIG_IGN)  # as by `nohup`
    earlier = signal.getsignal(TERM)
    try:
        with on_signals(), on_signals():
            assert signal.getsignal(TERM) != earlier
            send(INT)
        assert signal.getsignal(TERM) == earlier
    finally:
        signal.signal(INT, before)


def test_in_jobs_of_submitit_nothing_is_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    earlier = signal.getsignal(TERM)
    with on_signals():
        assert signal.getsignal(TERM) == earlier


@pytest.mark.parametrize(("number", "code"), [(INT, 130), (TERM, 75), (USR1, 75)])
def test_exit_codes(number: int, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def main(words: list[str]) -> int:
        with on_signals():
            send(number)
        return 0

    assert guarded(main) == code
    name = signal.Signals(number).name
    line = f"convtl: stopped by {name}; the same command goes on where it stopped\n"
    assert capsys.readouterr().err == line


KEEP = """
import sys
from pathlib import Path
from convtl.runtime.stopping import Stopped, obey, on_signals

try:
    with on_signals(Path(sys.argv[1])):
        print("ready", flush=True)
        while True:
            obey()
except Stopped as error:
    sys.exit(error.code)
"""
DEAF = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
print(child.pid, flush=True)
time.sleep(100)
"""


def stopped(program: str) -> tuple[int, str]:
    """Exit code and first line of a job below a process that gets a signal."""

    def work(stop: Path) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", program, str(stop)], stdout=subprocess.PIPE, text=True
        ) as job:
            assert job.stdout is not None
            lines.append(job.stdout.readline())
            send()
            codes.append(job.wait(20))

    lines: list[str] = []
    codes: list[int] = []
    with pytest.raises(Stopped, match="SIGTERM"), on_signals(), stopping_jobs() as stop:
        work(stop)
    return codes[0], lines[0]


def test_jobs_keep_their_work_before_their_parent_stops() -> None:
    assert stopped(KEEP) == (75, "ready\n")


def test_deaf_jobs_and_their_children_are_killed_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("convtl.runtime.stopping._GRACE_SECONDS", 0.2)
    code, pid = stopped(DEAF)
    assert code == -signal.SIGKILL
    grandchild = int(pid)
    assert not psutil.pid_exists(grandchild) or (
        psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE
    )
