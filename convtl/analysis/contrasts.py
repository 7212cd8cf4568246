"""Contrasts of a claim: part means by replicate, and reasons not to judge.

Differences are taken within replicates, and targets are averaged inside a replicate.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any

import numpy as np
import pandas as pd

from convtl.analysis.conditions import DIFFERENCES, SCRATCH, Conditions, MissingCondition
from convtl.analysis.frame import axes_of, axis_text
from convtl.analysis.gradients import MEASURES
from convtl.analysis.statistics import replicates_to_decide, slope_per_replicate
from convtl.config.claims import ClaimConfig, PartConfig, TermConfig
from convtl.config.schema import Config
from convtl.models.registry import build_network
from convtl.study.grid import Trial
from convtl.study.rows import COLUMNS

MOST_AT_EDGE = 0.25
"""Share of a condition's replicates whose learning rate may be at the edge of those tried."""
_COORDINATES = ("source", "n_per_class", "depth", "updates", "similarity", "regime", "model")
_COUNTS = ("n_per_class", "updates")
"""Coordinates whose slope is on their log2."""
_OF_TRIALS = (
    *("source", "target", "model", "regime", "n_per_class", "updates", "depth", "depth_unit"),
    *("similarity", "replicate", "config"),
)
_MADE_UP = {
    **dict.fromkeys(("test_accuracy", "val_accuracy", "logit_accuracy", "source_accuracy"), 0.5),
    **{"n_test": 1000, "n_val": 100, "n_classes": 20, "flops_per_update": 1, "seconds": 1.0},
    **{"lr_at_edge": False, "usable": True},
}
_Where = dict[str, Any]
_Point = list[tuple[TermConfig, _Where]]
"""Terms, each with the coordinates of its condition."""


@dataclass(frozen=True, eq=False)
class Contrast:
    """One mean of a claim: a part, or one point of a part that lists several.

    Attributes:
      point: name of its point, if the part lists several and is no slope.
      table: replicates x targets.
      points: the mean in percentage points of accuracy; None where it is not one of accuracies.
      seen, marks: conditions that were looked up; those of them that may enter no claim, with the reason.
      lower_bound: whether scratch alone is at floor, so that a gain is at least this.
      speed: whether a gain is over scratch that has not levelled off, so that it may be one of speed.
      left_out: replicates that some of its conditions have and others lack.
    """

    part: PartConfig
    point: str
    table: pd.DataFrame
    points: float | None
    seen: frozenset[str]
    marks: dict[str, str]
    lower_bound: bool
    speed: bool
    left_out: int = 0

    @cached_property
    def values(self) -> pd.Series:
        """One number a replicate."""
        return self.table.mean(axis=1)

    @cached_property
    def effect(self) -> float:
        return float(self.values.mean())

    @property
    def name(self) -> str:
        return f"{self.part.name}, {self.point}" if self.point else self.part.name

    def margin(self, delta: float) -> float:
        margin = self.part.margin
        if margin == "delta" or (self.part.test == "within" and not margin):
            return delta
        return -delta if margin == "-delta" else float(margin)

    def holds(self, mean: float, delta: float, sign: float = 1.0) -> bool:
        """Return whether a mean is on the part's side; `sign` is of the first effect."""
        margin = self.margin(delta)
        sides = {"above": mean > margin, "below": mean < margin, "within": abs(mean) < margin}
        return sides.get(self.part.test, mean * sign > 0)

    @property
    def tolerant(self) -> bool:
        """Return whether no effect would hold, as on either side of an equivalence."""
        return self.part.test != "same_sign" and self.holds(0.0, 1e-9)

    @property
    def by_target(self) -> dict[str, float]:
        return {str(name): float(mean) for name, mean in self.table.mean().items()}

    def targets_agree(self, delta: float, holds: bool, sign: float) -> bool:
        """Return whether every target's mean is on the side of the verdict."""
        means = list(self.by_target.values())
        if self.part.test == "within" and not holds and len(set(np.sign(means))) > 1:
            return False
        return all(self.holds(mean, delta, sign) == holds for mean in means)

    def replicates_needed(self, delta: float, alpha: float) -> int | None:
        """Estimate replicates to tell the mean from its margin, or below `delta`."""
        margin = self.margin(delta)
        if self.part.test == "within":
            margin *= np.sign(self.effect)
        return replicates_to_decide(self.values - margin, 0.0 if margin else delta, alpha=alpha)


def contrasts_of(claim: ClaimConfig, conditions: Conditions) -> list[Contrast]:
    """Measure all means of a claim, part by part.

    Raises:
      MissingCondition: one of its conditions is missing or ambiguous.
    """
    if claim.parts[0].test == "same_sign":
        raise MissingCondition("the first part needs a test of its own")
    contrasts = []
    for part in claim.parts:
        points = _points(part)
        lines = [points] if part.slope_over is not None else [[point] for point in points]
        targets = part.targets or claim.targets or conditions.targets
        contrasts += [_contrast(part, line, targets, conditions) for line in lines]
    return contrasts


def _points(part: PartConfig) -> list[_Point]:
    """The points of a part: one, or as many as its terms list values."""
    lists = [getattr(term, key) or () for term in part.terms for key in _COORDINATES]
    lengths = {len(values) for values in lists if len(values) > 1}
    if len(lengths) > 1 or (part.slope_over is not None and not lengths):
        raise MissingCondition(f"{part.name}: its points need lists of one length")
    return [
        [(term, _coordinates(term, point)) for term in part.terms]
        for point in range(max(lengths, default=1))
    ]


def _coordinates(term: TermConfig, point: int) -> _Where:
    given = {key: getattr(term, key) for key in _COORDINATES if getattr(term, key)}
    return {key: values[point % len(values)] for key, values in given.items()} | term.where


def _point_name(part: PartConfig, line: Sequence[_Point]) -> str:
    """Name the coordinate in which points of a part differ: `depth 2`."""
    listed = (
        f"{key} {where[key]}"
        for term, where in line[0]
        for key in _COORDINATES
        if len(line) == 1 and len(getattr(term, key) or ()) > 1
    )
    return next(listed, "")


def _contrast(
    part: PartConfig, line: Sequence[_Point], targets: Sequence[str], conditions: Conditions
) -> Contrast:
    x, gradients = _places(part, len(line)), {term.measure for term in part.terms} == {"gradient"}
    by_target = {
        target: [[(term, {**where, "target": target}) for term, where in point] for point in line]
        for target in (("",) if gradients else targets)
    }
    logits, shares = (
        pd.DataFrame({t: _along(x, points, conditions, column) for t, points in by_target.items()})
        for column in ("logit_accuracy", "test_accuracy")
    )
    if not len(table := logits.dropna()):
        raise MissingCondition(f"{part.name}: no replicate has every condition and target")
    points = [point for line in by_target.values() for point in line]
    seen, marks, lower_bound, replicates = _examined(points, conditions)
    return Contrast(
        part=part,
        point=_point_name(part, line),
        table=table,
        points=None if gradients else 100 * float(shares.dropna().to_numpy().mean()),
        seen=frozenset(seen),
        marks=marks,
        lower_bound=lower_bound,
        speed=any(_is_speed(term, where, conditions) for point in points for term, where in point),
        left_out=max(0, len(replicates) - len(table)),
    )


# --- numbers ----------------------------------------------------------------------------------------


def _places(part: PartConfig, points: int) -> np.ndarray | None:
    """x of each point of a slope."""
    over = part.slope_over
    if over is None:
        return None
    if isinstance(over, str):
        lists = [getattr(term, over, None) or () for term in part.terms]
        over = next((values for values in lists if len(values) > 1), ())
        over = tuple(np.log2(over)) if part.slope_over in _COUNTS else over
    if len(over) != points or "all" in over:
        raise MissingCondition(
            f"{part.name}: slope_over needs a number for each of {points} points"
        )
    return np.asarray(over, float)


def _along(
    x: np.ndarray | None, points: Sequence[_Point], conditions: Conditions, column: str
) -> pd.Series:
    """Sum the terms of the only point, or take their slope times the range of x."""
    sums = []
    for point in points:
        terms = [term.weight * _value(term, where, conditions, column) for term, where in point]
        sums.append(pd.concat(terms, axis=1).dropna().sum(axis=1))
    if x is None:
        return sums[0]
    table = pd.concat(sums, axis=1).dropna()
    return pd.Series(slope_per_replicate(x, table.to_numpy()) * np.ptp(x), table.index)


def _value(term: TermConfig, where: _Where, conditions: Conditions, column: str) -> pd.Series:
    if term.measure == "gradient":
        return conditions.gradient(str(term.name), **term.where)
    return conditions.measured(term.measure, column, **_options(term), **where)


def _options(term: TermConfig) -> _Where:
    return {name: getattr(term, name) for name in ("depths", "low", "high", "scratch_updates")}


def _is_speed(term: TermConfig, where: _Where, conditions: Conditions) -> bool:
    """Return whether a gain is over scratch that more updates would improve."""
    if term.measure != "transfer_gain":
        return False
    updates, is_flat = conditions.scratch_flat(**where)
    scratch = conditions.compared(term.measure, **_options(term), **where)[1]
    return not is_flat or conditions.table()["updates"][scratch] < updates


# --- what stands against judging --------------------------------------------------------------------


def _examined(
    points: Sequence[_Point], conditions: Conditions
) -> tuple[set[str], dict[str, str], bool, set[int]]:
    """Conditions of points, unfit ones, whether scratch is at floor, replicates."""
    seen: set[str] = set()
    marks: dict[str, str] = {}
    lower_bound = False
    replicates: set[int] = set()
    usual = {axis: conditions.usual.get(axis) for axis in axes_of(conditions.frame)}
    if conditions.gradients is not None and any(
        term.measure == "gradient" for point in points for term, _ in point
    ):
        replicates |= set(conditions.gradients["replicate"])
    for cell in (cell for point in points for cell in _cells(point, conditions)):
        table = conditions.table().iloc[cell].to_dict("records")
        lines = {described(line, usual): line for line in table}
        replicates |= {replicate for code in cell for replicate in conditions.of(code).index}
        seen |= lines.keys()
        edges = [name for name, line in lines.items() if line["at_edge"] > MOST_AT_EDGE]
        marks |= dict.fromkeys(edges, "at the edge of its learning rates")
        flaws = {line["flaw"] for line in table}
        if len(flaws) == 1 and "" not in flaws:
            marks |= dict.fromkeys(lines, f"at {flaws.pop()}, as is all that it is compared with")
        lower_bound |= any((line["source"], line["flaw"]) == (SCRATCH, "floor") for line in table)
    return seen, marks, lower_bound, replicates


def _cells(point: _Point, conditions: Conditions) -> Iterator[list[int]]:
    """Yield the conditions compared: two of each difference, all others together."""
    others: list[int] = []
    for term, where in point:
        if term.measure in DIFFERENCES:
            yield conditions.compared(term.measure, **_options(term), **where)
        elif term.measure != "gradient":
            others += conditions.compared(term.measure, **_options(term), **where)
    if others:
        yield others


def described(line: Mapping[Any, Any], usual: Mapping[str, Any]) -> str:
    """Describe a condition, with additional axes that have an unusual value."""
    similarity = "" if pd.isna(line["similarity"]) else f"@{line['similarity']:g}"
    regime = "" if line["regime"] == "fine_tune" else f" by {line['regime']}"
    others = "".join(
        f", {axis.removeprefix('axes.')} {line[axis]}"
        for axis, value in usual.items()
        if line[axis] not in ("", value)
    )
    return (
        f"{line['source']}{similarity} to {line['target']}, n={line['n_per_class']}, "
        f"depth {line['depth']}{regime}, {line['updates']} updates{others}"
    )


# --- before there are rows --------------------------------------------------------------------------


class PlannedConditions(Conditions):
    """Conditions of trials that were not run, with made-up numbers."""

    def __init__(self, config: Config, trials: Sequence[Trial]) -> None:
        models = {trial.model: trial.settings.models[trial.model] for trial in trials}
        networks = {name: build_network(model, (64, 64, 1), 10) for name, model in models.items()}
        rows = [
            {name: getattr(trial, name) for name in _OF_TRIALS}
            | {"trial": trial.id, "validation": trial.settings.validation}
            | {"n_units": len(networks[trial.model].weighted)}
            | {
                f"axes.{key}" if key in COLUMNS else key: axis_text(v)
                for key, v in trial.axes.items()
            }
            for trial in trials
        ]
        frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=[*_OF_TRIALS, "n_units"])
        frame = frame.assign(**_MADE_UP).astype({"similarity": float})
        super().__init__(frame, main_targets=config.target)
        measured = (config.measure, *(trial.settings.measure for trial in trials))
        self._fresh = config.replicates if any("gradients" in each for each in measured) else 0

    def gradient(self, name: str, **where: Any) -> pd.Series:
        if not self._fresh:
            raise MissingCondition("no table of gradients (measure=gradients makes one)")
        if name not in MEASURES:
            raise MissingCondition(f"gradient: got {name}; accepted: {', '.join(MEASURES)}")
        try:
            signature(MEASURES[name]).bind(self.frame, **where)
        except TypeError as error:
            raise MissingCondition(f"gradient: {name}: {error}") from None
        return pd.Series(0.5, range(self._fresh))
