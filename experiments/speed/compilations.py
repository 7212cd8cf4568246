"""Counts the programs that XLA compiles."""

from types import TracebackType
from typing import Self

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"
_counting: list["Compilations"] = []


class Compilations:
    """Counts while it is open.

    Attributes:
      number: programs compiled, or read from the compilation cache.
      seconds: what that took.
    """

    def __init__(self) -> None:
        self.number, self.seconds = 0, 0.0

    def __enter__(self) -> Self:
        if not _heard:  # listeners cannot be taken away again one by one
            jax.monitoring.register_event_duration_secs_listener(_hear)
            _heard.append(True)
        _counting.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _counting.remove(self)


_heard: list[bool] = []


def _hear(event: str, duration_secs: float, **_: str | int) -> None:
    if event == _EVENT:
        for counter in _counting:
            counter.number += 1
            counter.seconds += duration_secs
