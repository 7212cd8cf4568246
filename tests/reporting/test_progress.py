"""What a run in flight is told on to."""

from typing import Any

from convtl.reporting.progress import Progress
from convtl.study.watcher import CurvePoint


class Follower:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def curve(self, points: Any) -> None:
        self.told.append(points)

    def trial(self, row: Any) -> None:
        self.told.append(row)


def test_it_follows_training_if_it_has_a_tracker(capsys: Any) -> None:
    progress, points = Progress(3, 1), [CurvePoint("t", 1e-3, 3, 6, 1.0, 0.5)]
    assert not progress.follows
    progress.curve(points)  # nobody listens
    progress.tracker = tracker = Follower()  # type: ignore[assignment]
    assert progress.follows
    progress.curve(points)
    progress.trial({"status": "done"}, 1.0)
    assert tracker.told == [points, {"status": "done"}]
