"""Trials in flight: what has come of them so far, and how that is kept on disk and taken up again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from convtl.models.network import Variables
from convtl.study.grid import Trial
from convtl.study.materials import Start
from convtl.study.rates import NO_SCORE, Score, next_rates
from convtl.study.shared_features import Prefix
from convtl.study.target_data import TargetData
from convtl.training.checkpoints import Kept
from convtl.training.runs import Run, RunState


@dataclass(eq=False)
class Running:
    """A trial in flight: the rates it has tried, and the variables of the best so far."""

    trial: Trial
    start: Start
    data: TargetData
    prefix: Prefix | None = None
    """the frozen part, where its features are shared on disk"""
    shared_run: Run | None = None
    """what its runs share, once it is known: all but their rates"""
    scores: dict[float, Score] = field(default_factory=dict)
    outstanding: int = 0
    best: Variables | None = None
    seconds: float = 0.0
    paused: dict[float, RunState] = field(default_factory=dict)
    """runs that are on their way, as they stood last, by rate"""

    def wanted(self) -> list[float]:
        return next_rates(self.trial.settings.lr, self.scores, self.trial.settings.lr_extend)

    def update(self, rate: float) -> int:
        """How many updates of a run are done."""
        return self.paused[rate].update if rate in self.paused else 0


def kept(running: Running) -> Kept | None:
    """What is to be kept of a trial in flight; None if it has come to nothing yet."""
    arrays: dict[str, Any] = {} if running.best is None else {"best": running.best}
    if running.paused:
        arrays["runs"] = {
            str(number): one.arrays() for number, one in enumerate(running.paused.values())
        }
    if not arrays:
        return None
    return Kept(
        arrays,
        {
            "trial": running.trial.id,
            "seconds": running.seconds,
            "scores": [
                [rate, *(score if score != NO_SCORE else (None, None))]
                for rate, score in running.scores.items()
            ],
            "runs": [[rate, one.update] for rate, one in running.paused.items()],
        },
    )


def take_up(running: Running, found: Kept, resumes: Callable[[RunState], bool]) -> None:
    """Has a trial go on where it was kept.

    Args:
      resumes: whether a run can go on from there; one that cannot begins anew.
    """
    said = found.metadata
    try:
        runs = {
            rate: RunState.of(update, found.arrays["runs"][str(number)])
            for number, (rate, update) in enumerate(said["runs"])
        }
        scores: dict[float, Score] = {
            rate: NO_SCORE if accuracy is None else (accuracy, minus_loss)
            for rate, accuracy, minus_loss in said["scores"]
        }
        seconds, trial = float(said["seconds"]), said["trial"]
    except (KeyError, TypeError, ValueError):  # another version's
        return
    if trial != running.trial.id:
        return
    running.seconds, running.scores, running.best = seconds, scores, found.arrays.get("best")
    running.paused = {rate: paused for rate, paused in runs.items() if resumes(paused)}
