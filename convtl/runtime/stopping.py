"""Stopping on signals: Ctrl-C, preemption by a scheduler, a near time limit.

Inside `held_back` a signal takes effect at the end of the block, when work is saved; elsewhere it raises `Stopped` at
once. Nothing is handled in jobs of submitit, which requeues them by its own signals.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

_SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Ctrl-C; those of schedulers and spot machines; those of `sbatch --signal` before a time limit."""

_GRACE_SECONDS = 60.0  # for jobs to keep their work before they are killed


class Stopped(KeyboardInterrupt):
    """A stop by a signal; the exit code 75 (EX_TEMPFAIL) asks for a restart."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 130 if number == signal.SIGINT else 75


@dataclass
class _State:
    holding: int = 0
    signal: int | None = None  # the first that came
    file: Path | None = None  # asks as a signal does, once it is there
    jobs: tuple[Path, threading.Timer] | None = None  # their file, and what kills them later


_state = _State()


@contextmanager
def on_signals(file: Path | None = None) -> Iterator[None]:
    """Handle signals in this block; `file` acts as a signal once it exists."""
    _state.file = file or _state.file
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    if _handle in handlers.values() or not main or "SUBMITIT_EXECUTOR" in os.environ:
        yield
        return
    handlers = {n: old for n, old in handlers.items() if old is not signal.SIG_IGN}  # as by nohup
    for number in handlers:
        signal.signal(number, _handle)
    try:
        yield
    finally:
        for number, old in handlers.items():
            signal.signal(number, old or signal.SIG_DFL)
        _state.signal = None


def _handle(number: int, frame: object) -> None:
    again = _state.signal is not None
    if again and number != signal.SIGINT:  # schedulers ask more than once
        return
    _state.signal = number
    if _state.jobs is not None and not again:
        stop, late = _state.jobs
        stop.touch()
        late.start()
    if again or not _state.holding:
        raise Stopped(number)


@contextmanager
def held_back() -> Iterator[None]:
    """Delay signals to the end of this block, except a second Ctrl-C."""
    _state.holding += 1
    try:
        yield
    finally:
        _state.holding -= 1
    if not _state.holding:
        obey()


def requested() -> bool:
    """Return whether a signal has come, or its file exists."""
    return _state.signal is not None or (_state.file is not None and _state.file.exists())


def obey(stop: bool | None = None) -> None:
    """Raise `Stopped` if `stop` is true or, without it, if a signal has come."""
    if requested() if stop is None else stop:
        raise Stopped(_state.signal or signal.SIGTERM)


@contextmanager
def stopping_jobs() -> Iterator[Path]:
    """Yield a file that the first signal creates, to stop jobs (`on_signals`).

    After a signal child processes are killed at the end of the block, or after a minute.
    """
    late = threading.Timer(_GRACE_SECONDS, _kill_children)
    with TemporaryDirectory(prefix="convtl-jobs-") as folder:
        stop = Path(folder, "stop")
        _state.jobs = (stop, late)
        try:
            with held_back():
                yield stop
        finally:
            _state.jobs = None
            late.cancel()
            if requested():
                psutil.wait_procs(_kill_children(), timeout=10)


def _kill_children() -> list[psutil.Process]:
    killed = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "resource_tracker" not in str(child.cmdline()):  # Python's own, which ends by itself
                child.kill()
                killed.append(child)
    return killed
