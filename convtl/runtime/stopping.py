"""Stop on a signal: Ctrl-C, a scheduler that wants the machine back, a time limit that is near.

Where work can be kept (`held_back`) a signal is noted, and obeyed once the work is kept; elsewhere it raises
`Stopped` at once, as Ctrl-C does. Nothing is handled in jobs of submitit, which requeues them by its own signals.
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
"""Ctrl-C; what schedulers and spot machines send; what `sbatch --signal` sends before a time limit."""

_GRACE_SECONDS = 60.0  # for jobs to keep their work before they are killed


class Stopped(KeyboardInterrupt):
    """A signal asked the process to stop; `code` is its exit code: 75 (EX_TEMPFAIL) asks to be started again."""

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
    """Handle signals of the main thread in this block; from now on take `file`, once there, for one."""
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
    """Note a signal that comes in this block, and obey it at its end; obey a second Ctrl-C at once."""
    _state.holding += 1
    try:
        yield
    finally:
        _state.holding -= 1
    if not _state.holding:
        obey()


def requested() -> bool:
    """Return whether a signal has come, or the file that stands for one."""
    return _state.signal is not None or (_state.file is not None and _state.file.exists())


def obey(stop: bool | None = None) -> None:
    """Raise `Stopped` if a signal has come; of several processes, if they have agreed on `stop`."""
    if requested() if stop is None else stop:
        raise Stopped(_state.signal or signal.SIGTERM)


@contextmanager
def stopping_jobs() -> Iterator[Path]:
    """Yield a file that is made on the first signal, for jobs to take for one (`on_signals`); then stop.

    Processes below this one, and no others of its group, are killed at the end, or a minute after the signal.
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
