"""Being asked to stop: by Ctrl-C, by a scheduler that wants the machine back, by a job's time limit.

Where work can be kept, a signal is held back until it is kept (`held_back`, `obey`); elsewhere it ends the process
at once, as Ctrl-C does.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

REQUEUE = 75
"""Exit code of who was stopped from outside and can go on later: EX_TEMPFAIL of sysexits.h."""

STOPPED = (REQUEUE, 130)
"""Exit codes after a signal; 130 after Ctrl-C, as shells have it."""

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
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

    @property
    def code(self) -> int:
        """Exit code: 130 after Ctrl-C, else the one that says: try again."""
        return 130 if self.number == signal.SIGINT else REQUEUE


_earlier: dict[int, Any] = {}
"""Handlers from before ours, by signal; those that a launcher (submitit) installed are called in the end."""
_holding = 0
_asked: int | None = None
_raised: Stopped | None = None
"""What the last signal that was obeyed has raised."""


@contextmanager
def on_signals() -> Iterator[None]:
    """Handles the signals while this lasts; outside the main thread, where nobody can, changes nothing."""
    global _asked, _raised
    if threading.current_thread() is not threading.main_thread() or _earlier:
        yield
        return
    try:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as by nohup
                _earlier[number] = signal.signal(number, _handle)
        yield
    finally:
        _asked = _raised = None
        for number, handler in _earlier.items():
            with suppress(TypeError):  # None: it was not installed from Python
                signal.signal(number, handler)
        _earlier.clear()


@contextmanager
def held_back() -> Iterator[None]:
    """A signal that arrives in here is obeyed at its end, or wherever `obey` is called; a second one at once."""
    global _holding
    _holding += 1
    try:
        yield
    finally:
        _holding -= 1
    if not _holding:
        obey()


def asked() -> bool:
    """Whether a signal is being held back, or was lost on its way."""
    return _asked is not None or _lost()


def obey() -> None:
    """Does what a signal asks that was held back, or lost.

    Raises:
      Stopped: the process is to end.
    """
    global _asked
    if _lost():
        assert _raised is not None
        raise _raised
    if _asked is not None:
        number, _asked = _asked, None
        _stop(number)


def obey_with_others() -> None:
    """As `obey`, where another process may have been asked and this one not."""
    here = asked()
    obey()
    if not here:
        raise Stopped(signal.SIGTERM)


def _handle(number: int, frame: FrameType | None) -> None:
    global _asked
    if _holding and _asked is None:
        _asked = number
        return
    first, _asked = _asked, None
    _stop(number)
    _asked = first  # a launcher has the process go on: what was asked before is still to be done


def _lost() -> bool:
    """Whether `Stopped` was raised and is not on its way: Python drops what is raised in callbacks and destructors."""
    on_its_way = sys.exception()
    while on_its_way is not None and on_its_way is not _raised:
        on_its_way = on_its_way.__context__
    return on_its_way is not _raised


def _stop(number: int) -> None:
    """Hands the signal to the launcher that wanted it, which may have the process go on; else ends the process."""
    global _raised
    earlier = _launchers(_earlier.get(number))
    if earlier is None:
        _raised = Stopped(number)
        raise _raised
    earlier(number, None)


def _launchers(handler: Any) -> Callable[[int, FrameType | None], Any] | None:
    """A handler that somebody installed, and not Python itself."""
    ours = handler in (signal.SIG_DFL, signal.default_int_handler, None)
    return None if ours else handler
