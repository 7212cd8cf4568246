"""Stop on a signal: Ctrl-C, a scheduler that wants the machine back, a time limit that is near.

Where work can be kept (`held_back`) a signal is noted, and obeyed once the work is kept; elsewhere it raises
`Stopped` at once, as Ctrl-C does. Nothing is handled in jobs of submitit, which requeues them by its own signals.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

STOPPED = "stopped"
"""File that tells jobs that have not begun that they are not to."""

REQUEUE = 75
"""Exit code after a signal from outside, EX_TEMPFAIL of sysexits.h: the same command goes on later."""

_SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Ctrl-C; what schedulers and spot machines send; what `sbatch --signal` sends before a time limit."""

_GRACE_SECONDS = 60.0
"""Time for children to keep their work before they are killed."""

_KILLED_SECONDS = 10.0
"""Time for killed children to be gone."""


class Stopped(KeyboardInterrupt):
    """A signal asked the process to stop; `code` is its exit code."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 130 if number == signal.SIGINT else REQUEUE


@dataclass
class _State:
    earlier: dict[int, Any] = field(default_factory=dict)
    """handlers to be put back, by signal; none while signals are not handled here"""
    signal: int | None = None
    """the first signal that came"""
    holding: int = 0
    on_first: Callable[[], None] | None = None


_state = _State()


@contextmanager
def on_signals() -> Iterator[None]:
    """Handle signals in this block; no effect outside the main thread and in jobs of submitit."""
    main = threading.current_thread() is threading.main_thread()
    if _state.earlier or not main or "SUBMITIT_EXECUTOR" in os.environ:
        yield
        return
    try:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as by nohup
                _state.earlier[number] = signal.signal(number, _handle)
        yield
    finally:
        for number, handler in _state.earlier.items():
            with suppress(TypeError):  # None: not installed from Python
                signal.signal(number, handler)
        _state.earlier.clear()
        _state.signal = None


def _handle(number: int, frame: FrameType | None) -> None:
    again = _state.signal is not None
    if again and number != signal.SIGINT:  # schedulers ask more than once
        return
    _state.signal = number
    if _state.on_first is not None and not again:
        _state.on_first()
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
    """Return whether a signal has come."""
    return _state.signal is not None


def obey(stop: bool | None = None) -> None:
    """Raise `Stopped` if a signal has come; of several processes, if they have agreed on `stop`."""
    if requested() if stop is None else stop:
        raise Stopped(_state.signal or signal.SIGTERM)


@contextmanager
def stopping_children(busy: Path | None = None, number: int = signal.SIGTERM) -> Iterator[None]:
    """Pass the first signal on to the processes below this one, wait for the block to end, then stop.

    Children that have not ended after a minute are killed. Other processes of this one's group are left alone.

    Args:
      busy: folder with a file for each child that is to get the signal, named by its process id (an idle worker
        would die of it, and launchers then kill the others); null for all. A file `STOPPED` is added.
      number: the signal that children get.
    """
    _state.on_first = partial(_stop_children, busy, number)
    try:
        with held_back():
            yield
    finally:
        _state.on_first = None
        if requested():
            children = psutil.Process().children(recursive=True)
            _each(children, psutil.Process.kill)
            psutil.wait_procs(children, timeout=_KILLED_SECONDS)  # none outlives this process


def _stop_children(busy: Path | None, number: int) -> None:
    children = psutil.Process().children(recursive=True)
    if busy is not None:
        (busy / STOPPED).touch()
    marked = [child for child in children if busy is None or (busy / str(child.pid)).exists()]
    _each(marked, lambda child: child.send_signal(number))
    late = threading.Timer(_GRACE_SECONDS, _each, [children, psutil.Process.kill])
    late.daemon = True
    late.start()


def _each(children: list[psutil.Process], end: Callable[[psutil.Process], None]) -> None:
    for child in children:
        with suppress(psutil.Error):
            end(child)
