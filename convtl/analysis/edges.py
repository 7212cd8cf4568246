"""Frozen rates at the edge of those that were compared, and what that may have cost.

A rate is chosen among those that all tuning trials of an arm have tried (`convtl.study.tuning`). A single
tuning trial may have gone on past an edge; what it gains there bounds what the arm gives away.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from convtl.analysis.statistics import logit_accuracy
from convtl.study.grid import Trial
from convtl.study.store import FINAL, Row
from convtl.study.tuning import choose_rate


@dataclass(frozen=True)
class TunedArm:
    """Tuning trials that chose a rate.

    Attributes:
      rows: theirs; grid: the rates that they began with.
      whole: whether all layers are trained.
    """

    rows: tuple[Row, ...]
    grid: tuple[float, ...]
    whole: bool


@dataclass(frozen=True)
class Loss:
    """Logit validation accuracy at a tuning trial's own best rate minus that at its arm's rate.

    Own best rates are the best on the very validation images that are looked at, so this is too much, if anything.

    Attributes:
      mean, largest: over `trials` tuning trials.
    """

    mean: float
    largest: float
    trials: int


@dataclass(frozen=True)
class Edges:
    """Arms whose rate is the lowest or the highest of those compared.

    Attributes:
      arms: all arms; at_edge: those.
      whole, fewer: the loss where all layers are trained, and where fewer are; None where no such arm is there.
    """

    arms: int
    at_edge: int
    whole: Loss | None
    fewer: Loss | None


def tuned_arms(
    points: Sequence[Trial], tuning: Iterable[Trial], rows: Mapping[str, Row]
) -> list[TunedArm]:
    """The arms whose tuning trials are all finished, each once.

    Args:
      points, tuning: of the study, and its tuning trials, as for `convtl.study.tuning.frozen`.
      rows: trial id -> row.
    """
    by_arm: dict[tuple[str, str], list[Trial]] = {}
    for trial in tuning:
        by_arm.setdefault((trial.arm, trial.target), []).append(trial)
    full: dict[str, int] = {}
    for point in points:
        full[point.model] = max(full.get(point.model, 0), point.depth)
    found: dict[frozenset[str], TunedArm] = {}
    for point in points:
        rule = point.settings.tuning
        if rule is None:
            continue
        others = [name for name in rule.targets if name != point.target] or [point.target]
        trials = {t.id for target in others for t in by_arm.get((point.arm, target), [])}
        own = tuple(rows.get(name, {}) for name in sorted(trials))
        if own and all(row.get("status") in FINAL for row in own):
            arm = TunedArm(own, tuple(point.settings.lr), point.depth == full[point.model])
            found.setdefault(frozenset(trials), arm)
    return list(found.values())


def edges_of(arms: Sequence[TunedArm]) -> Edges:
    """How many arms end at an edge, and what that may cost."""
    losses: dict[bool, list[float]] = {True: [], False: []}
    at_edge = 0
    for arm in arms:
        rate, facts = choose_rate(arm.rows, arm.grid)
        if facts["lr_at_edge"]:
            at_edge += 1
            losses[arm.whole] += [loss for row in arm.rows for loss in _loss(row, rate)]
    return Edges(len(arms), at_edge, _summary(losses[True]), _summary(losses[False]))


def _loss(row: Row, rate: float) -> list[float]:
    """Of one tuning trial; none where its run at the arm's rate diverged."""
    scores = {
        tried: float(logit_accuracy(accuracy, row["n_val"]))
        for tried, accuracy, _ in row.get("scores", [])
        if accuracy is not None
    }
    return [max(scores.values()) - scores[rate]] if rate in scores else []


def _summary(losses: Sequence[float]) -> Loss | None:
    return Loss(float(np.mean(losses)), max(losses), len(losses)) if losses else None
