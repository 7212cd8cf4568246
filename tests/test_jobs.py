"""Who waits for jobs on this machine has them keep their work and end, whenever they begin."""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from convtl.runtime.jobs import announced, asking_jobs
from convtl.runtime.stopping import Stopped, asked, held_back, let_go, obey, on_signals


def _job(folder: Path, delay: float, ended: Any) -> None:
    time.sleep(delay)  # as if it were being started: no signal comes
    try:
        with announced(folder), held_back():
            until = time.monotonic() + 60
            while time.monotonic() < until:
                obey()
                time.sleep(0.01)
    except Stopped as stopped:
        ended.put(stopped.number)


def test_jobs_that_begin_after_the_signal_are_asked_too(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ended = context.Queue()
    folder = tmp_path / "jobs"
    jobs = [context.Process(target=_job, args=(folder, delay, ended)) for delay in (0.0, 4.0)]

    def wait() -> None:
        for job in jobs:
            job.start()
        while not folder.exists() or not list(folder.iterdir()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)
        for job in jobs:
            job.join(60)

    with pytest.raises(Stopped, match="SIGTERM"), on_signals(), asking_jobs(folder):
        wait()
    assert [job.exitcode for job in jobs] == [0, 0]
    assert [ended.get(timeout=5) for _ in jobs] == [signal.SIGTERM] * 2
    assert not folder.exists()


def test_a_job_that_is_done_by_who_waits_is_stopped_itself(tmp_path: Path) -> None:
    reached = []

    def work() -> None:
        with let_go():
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append("went on")

    with pytest.raises(Stopped), on_signals(), asking_jobs(tmp_path / "jobs"):
        work()
    assert reached == []
    assert not asked()
