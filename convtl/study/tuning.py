"""Confirmatory learning rates: chosen once for an arm, on other targets, then frozen.

Two stages: the tuning trials (replicates that serve nothing else, each with its own grid and validation
images), then the study's trials, each at the one rate that did best for the same arm on the tuning
replicates of the targets that are not its own: so no label of a trial's own target is used beyond its
n_per_class. Where a study has no other target, those of its own are taken: other replicates, whose classes
and images are others only if the target has enough of them (`class_draw: disjoint`); the report says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from convtl.analysis.statistics import logit_accuracy
from convtl.config import Config, TuningConfig
from convtl.study.grid import Trial, settings_of, trials_of, with_rate
from convtl.study.store import FINAL, Row


def tuning_points(content: Mapping[str, Any]) -> list[Trial]:
    """The trials on which rates are chosen; none where every trial validates for itself."""
    points: dict[
        tuple[str, str], Trial
    ] = {}  # one trial may serve two arms (scratch, in two blocks)
    for settings, values in settings_of(content):
        tuning = settings.tuning
        if tuning is None:
            continue
        wanted = dict.fromkeys(name for own in settings.target for name in _others(tuning, own))
        stage = replace(
            settings,
            tuning=None,
            movement=False,
            target=tuple(wanted),
            replicate=tuple(range(tuning.first, tuning.first + tuning.replicates)),
        )
        points |= {(point.id, point.arm): point for point in trials_of(stage, values)}
    return list(points.values())


def _others(tuning: TuningConfig, own: str) -> tuple[str, ...]:
    return tuple(name for name in tuning.targets if name != own) or (own,)


def frozen(
    points: Sequence[Trial], tuning: Iterable[Trial], rows: Mapping[str, Row]
) -> list[Trial]:
    """The study's trials with their rates; trials that tune for themselves are returned as they are.

    Args:
      points: of the study, as `expand` gives them.
      tuning: the tuning trials.
      rows: trial id -> row; tuning trials that are not finished leave their arms out.
    """
    by_arm: dict[tuple[str, str], list[Trial]] = {}
    for trial in tuning:
        by_arm.setdefault((trial.arm, trial.target), []).append(trial)
    alike = cache(_at_rate)
    found = []
    for point in points:
        rule = point.settings.tuning
        if rule is None:
            found.append(point)
            continue
        chosen = [
            t for target in _others(rule, point.target) for t in by_arm.get((point.arm, target), [])
        ]
        if chosen and all(rows.get(trial.id, {}).get("status") in FINAL for trial in chosen):
            rate, facts = choose_rate([rows[trial.id] for trial in chosen], point.settings.lr)
            settings = alike(_Same(point.settings), rate)
            found.append(replace(with_rate(point, rate, settings), tuned=facts))
    return found


class _Same:
    """A config known by which object it is: comparing whole configs for every trial takes long."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def __hash__(self) -> int:
        return id(self.config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.config is self.config


def _at_rate(same: _Same, rate: float) -> Config:
    return replace(same.config, lr=(rate,))


def choose_rate(rows: Sequence[Row], grid: Sequence[float]) -> tuple[float, dict[str, Any]]:
    """The rate with the highest mean logit accuracy on validation; equals: lower loss, then lower rate.

    Only rates that every one of the tuning trials has tried (and survived) are compared. If there is none,
    the lowest of the grid is taken.

    Returns:
      The rate, and `n_rates` (how many were compared) and `lr_at_edge` (best is lowest or highest of them).
    """
    scores = [{rate: (z, -loss) for rate, z, loss in _scores(row)} for row in rows]
    shared = sorted(set.intersection(*(set(own) for own in scores)))
    if not shared:
        return min(grid), {"n_rates": 0, "lr_at_edge": True}
    means = {rate: tuple(np.mean([own[rate] for own in scores], axis=0)) for rate in shared}
    best = max(shared, key=lambda rate: means[rate])
    edge = len(shared) > 1 and best in (shared[0], shared[-1])
    return best, {"n_rates": len(shared), "lr_at_edge": edge}


def _scores(row: Row) -> list[tuple[float, float, float]]:
    """(rate, logit accuracy, loss) of the rates that did not diverge."""
    return [
        (rate, float(logit_accuracy(accuracy, row["n_val"])), loss)
        for rate, accuracy, loss in row.get("scores", [])
        if accuracy is not None
    ]
