"""What whoever follows a study is told, and the one who tells nobody."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

Row = dict[str, Any]


class CurvePoint(NamedTuple):
    """Where one training run is: a trial at one learning rate, after so many of its updates."""

    trial: str
    rate: float
    update: int
    updates: int
    loss: float
    """of the training images, at this update"""
    val_accuracy: float


class Tracker(Protocol):
    """Listens to one process that works on a study.

    Attributes:
      follows: whether it wants `curve`, which costs an evaluation on validation images.
    """

    follows: bool

    def begin(self, there: Iterable[Row]) -> None:
        """The study's own trials begin, of which `there` were done before; trials until now chose learning rates."""

    def curve(self, points: Sequence[CurvePoint]) -> None:
        """All runs in flight at one update, some times in a schedule."""

    def trial(self, row: Row) -> None:
        """A trial has ended and left `row`."""

    def progress(self, done: int, total: int) -> None:
        """So many of the study's trials are done, by whichever process."""

    def finish(
        self,
        table: Sequence[Row],
        figures: Sequence[Path],
        report: Path | None,
        summary: dict[str, Any],
        failures: Sequence[str] = (),
    ) -> None:
        """All was tried: its rows (`MOST_ROWS` at most), PNG files, the HTML report, the headline numbers, failures."""

    def fail(self, reason: str) -> None:
        """The process ends before the study does, by an error."""

    def preempted(self, reason: str) -> None:
        """The process is stopped from outside; the same command goes on later."""


class Silence:
    """Tells nobody."""

    follows = False

    def begin(self, there: Iterable[Row]) -> None: ...

    def curve(self, points: Sequence[CurvePoint]) -> None: ...

    def trial(self, row: Row) -> None: ...

    def progress(self, done: int, total: int) -> None: ...

    def finish(
        self,
        table: Sequence[Row],
        figures: Sequence[Path],
        report: Path | None,
        summary: dict[str, Any],
        failures: Sequence[str] = (),
    ) -> None: ...

    def fail(self, reason: str) -> None: ...

    def preempted(self, reason: str) -> None: ...
