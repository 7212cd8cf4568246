"""Being asked to stop: by Ctrl-C, by a scheduler that wants the machine back, by a job's time limit.

Where work can be kept, a signal is held back until it is kept (`held_back`, `obey`); elsewhere it ends the process
at once, as Ctrl-C does.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any

REQUEUE = 75
"""Exit code of who was stopped from outside and can go on later: EX_TEMPFAIL of sysexits.h."""

STOPPED = (REQUEUE, 130)
"""Exit codes after a signal; 130 after Ctrl-C, as shells have it."""

_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)
"""Ctrl-C; what schedulers and spot machines send; what `sbatch --signal` and submitit send before a time limit."""


class Stopped(KeyboardInterrupt):
    """The process was asked to stop.

    Attributes:
      number: of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)

    def __reduce__(self) -> tuple[type["Stopped"], tuple[int]]:
        return Stopped, (self.number,)

    @property
    def code(self) -> int:
        """Exit code: 130 after Ctrl-C, else the one that says: try again."""
        return 130 if self.number == signal.SIGINT else REQUEUE


_earlier: dict[int, Any] = {}
"""Handlers from before ours, by signal; those that a launcher (submitit) installed are called in the end."""
_holding = 0
_asked: list[int] = []
"""Signals that are held back, each once."""
_raised: Stopped | None = None
"""What the last signal that was obeyed has raised."""
_hand_on: Callable[[], None] | None = None
_for_good = ExitStack()
_between_jobs = False


@contextmanager
def on_signals() -> Iterator[None]:
    """Handles the signals while this lasts; outside the main thread, where nobody can, changes nothing."""
    global _raised
    if threading.current_thread() is not threading.main_thread() or _earlier:
        yield
        return
    try:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as by nohup
                _earlier[number] = signal.signal(number, _handle)
        yield
    finally:
        _raised = None
        _asked.clear()
        for number, handler in _earlier.items():
            with suppress(TypeError):  # None: it was not installed from Python
                signal.signal(number, handler)
        _earlier.clear()


@contextmanager
def let_go() -> Iterator[None]:
    """For work that the process does itself where it meant to wait for others: nothing is held back or handed on."""
    global _holding, _hand_on
    holding, hand_on = _holding, _hand_on
    _holding, _hand_on = 0, None
    try:
        obey()
        yield
    finally:
        _holding, _hand_on = holding, hand_on


@contextmanager
def one_job() -> Iterator[None]:
    """One of the jobs of a process that takes one after another: who is asked to stop does none that comes after.

    From the first job on signals are handled until the process ends; between two of them they are held back.
    """
    global _raised, _between_jobs
    if not _earlier:
        _for_good.enter_context(on_signals())
    _between_jobs = False
    try:
        obey()
        yield
    except Stopped as stopped:
        _raised = None
        _asked.append(stopped.number)
        raise
    finally:
        _between_jobs = True


@contextmanager
def held_back() -> Iterator[None]:
    """A signal that arrives in here is obeyed at its end, or wherever `obey` is called; a second Ctrl-C at once."""
    global _holding
    _holding += 1
    try:
        yield
    finally:
        _holding -= 1
    if not _holding:
        obey()


@contextmanager
def handed_on(tell: Callable[[], None]) -> Iterator[None]:
    """As `held_back`, for who waits for others: as soon as a signal arrives, `tell` is called."""
    global _hand_on
    _hand_on = tell
    try:
        with held_back():
            yield
    finally:
        _hand_on = None


def asked() -> bool:
    """Whether a signal is being held back, or was lost on its way."""
    return (bool(_asked) or _raised is not None) and not _on_its_way()


def obey() -> None:
    """Does what a signal asks that was held back, or lost.

    Raises:
      Stopped: the process is to end.
    """
    if _on_its_way():
        return
    if _raised is not None:
        raise _raised
    _asked.sort(key=lambda number: _launchers(number) is None)
    while _asked:  # a launcher may have the process go on: then the next one is to be done
        _stop(_asked.pop(0))


def obey_with_others() -> None:
    """As `obey`, where another process may have been asked and this one not."""
    here = asked()
    obey()
    if not here:
        raise Stopped(signal.SIGTERM)


def _handle(number: int, frame: FrameType | None) -> None:
    impatient = number == signal.SIGINT and bool(_asked)
    if _on_its_way() and number != signal.SIGINT:
        return  # schedulers ask more than once
    held = _holding or (_between_jobs and _launchers(number) is None)
    if not held or impatient:
        _stop(number)
        return
    if number not in _asked:
        _asked.append(number)
    if _hand_on is not None:
        _hand_on()


def _on_its_way() -> bool:
    """Whether `Stopped` was raised and is being handled, by us or by those below."""
    if _raised is None:
        return False
    handled = sys.exception()
    while handled is not None and handled is not _raised:
        handled = handled.__context__
    return (
        handled is _raised
    )  # if not, it was dropped, as Python does with what is raised in callbacks, destructors


def _stop(number: int) -> None:
    """Hands the signal to the launcher that wanted it, which may have the process go on; else ends the process."""
    global _raised
    launchers = _launchers(number)
    if launchers is None:
        _raised = Stopped(number)
        raise _raised
    launchers(number, None)


def _launchers(number: int) -> Callable[[int, FrameType | None], Any] | None:
    """The handler that somebody installed, and not Python itself."""
    handler = _earlier.get(number)
    ours = handler in (signal.SIG_DFL, signal.default_int_handler, None)
    # submitit passes over SIGTERM, which on SLURM comes beside its own signal, and on one machine means what it says
    passed_over = number == signal.SIGTERM and os.environ.get("SUBMITIT_EXECUTOR") == "local"
    return None if ours or passed_over else handler
