"""Interface through which a study reports its progress."""

from collections.abc import Sequence
from typing import NamedTuple

from convtl.study.rows import Row


class CurvePoint(NamedTuple):
    """A training run (a trial at one learning rate) after `update` updates."""

    trial: str
    rate: float
    update: int
    updates: int
    loss: float  # of the training images, at this update
    val_accuracy: float


class Watcher:
    """Interface for a study's progress: lines, FLOPs, rows, curves; does nothing."""

    def say(self, line: str) -> None: ...

    def working_on(self, task: str) -> None: ...

    def expect(self, flops: float) -> None: ...

    def trial(self, row: Row, flops: float) -> None: ...

    @property
    def follows(self) -> bool:
        """True if `curve` is to be called at present."""
        return False

    def curve(self, points: Sequence[CurvePoint]) -> None: ...
