"""Advice on the depth to fine-tune own pictures, and on more labels.

Validation images choose; test images only measure the choice. The depth with the best mean accuracy is advised, unless
fewer layers lose at most `LOSS` in their mean and are shown to lose no more: the one-sided 95 % bound of their loss, in
means over the numbers of labels that have both depths (Student's t over the few replicates), lies below it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import pandas as pd

from convtl.analysis.conditions import SCRATCH, Conditions
from convtl.analysis.learning_curve import LearningCurve, NotEnoughData, learning_curve
from convtl.analysis.statistics import Interval, student_interval

LOSS = 0.01
"""Accuracy that fewer layers may lose."""


@dataclass(frozen=True)
class Choice:
    """The depth that is advised with so many labels a class.

    Attributes:
      images: training images in all.
      accuracies: depth -> mean test accuracy over replicates.
      best: the depth with the best mean on validation images; depth: the advised one.
      loss: of the advised depth there against the best one, pooled over numbers of labels; None where it is the best.
      interval: of the test accuracy at the advised depth; None for one replicate.
    """

    n_per_class: int
    images: int
    accuracies: dict[int, float]
    best: int
    depth: int
    loss: Interval | None
    interval: Interval | None
    replicates: int


@dataclass(frozen=True)
class Advice:
    """Advice for one source and target.

    Attributes:
      choices: by labels a class, ascending; the last is for all that there are.
      curve: accuracy against images at `curve_depth`, the advised depth or the nearest one with enough sizes; or the
        reason why there is none.
      trial: the trial at the advised depth with all labels whose validation accuracy is highest.
    """

    source: str
    target: str
    choices: tuple[Choice, ...]
    curve: LearningCurve | str
    curve_depth: int
    trial: str

    @property
    def now(self) -> Choice:
        return self.choices[-1]


def advise(conditions: Conditions) -> list[Advice]:
    """Make the advice for every pretrained source and target."""
    advice = []
    for source, target in product(conditions.sources, conditions.targets):
        tested, seen = (
            _tables(conditions, source, target, column)
            for column in ("test_accuracy", "val_accuracy")
        )
        if source != SCRATCH and tested:
            advice.append(_advice(conditions, source, target, tested, seen))
    return advice


def _tables(
    conditions: Conditions, source: str, target: str, column: str
) -> dict[int, pd.DataFrame]:
    """Labels a class -> a column, replicates x depths, of replicates with all depths."""
    tables = {}
    for n in conditions.sizes:
        place = {"source": source, "target": target, "n_per_class": n}
        depths = [depth for depth in conditions.depths if conditions.has(**place, depth=depth)]
        columns = {depth: conditions.values(column, **place, depth=depth) for depth in depths}
        if len(table := pd.DataFrame(columns).dropna()):
            tables[n] = table
    return tables


def _advice(
    conditions: Conditions,
    source: str,
    target: str,
    tested: Mapping[int, pd.DataFrame],
    seen: Mapping[int, pd.DataFrame],
) -> Advice:
    """Choose depths by accuracies on validation images; report those on test images."""
    place = {"source": source, "target": target}
    images = {
        n: int(
            conditions.values("n_train", **place, n_per_class=n, depth=table.columns[0]).median()
        )
        for n, table in tested.items()
    }
    choices = tuple(_choice(n, images[n], tested[n], seen) for n in sorted(tested))
    n, depth = choices[-1].n_per_class, choices[-1].depth
    where = {**place, "n_per_class": n, "depth": depth}
    n_test = float(conditions.values("n_test", **where).median())
    curve_depth, curve = _curve(tested, images, depth, n_test)
    validation = conditions.values("val_accuracy", **where)
    rows = conditions.frame[conditions.frame["replicate"] == validation.idxmax()]
    for key, value in where.items():
        rows = rows[rows[key] == value]
    return Advice(source, target, choices, curve, curve_depth, str(rows["trial"].iloc[0]))


def _choice(n: int, images: int, tested: pd.DataFrame, seen: Mapping[int, pd.DataFrame]) -> Choice:
    means = _means(seen[n])
    best = max(means, key=lambda depth: (means[depth], -depth))
    depth, loss = best, None
    for fewer in sorted(d for d in means if d < best and means[best] - means[d] <= LOSS):
        pooled = _pooled_loss(seen, fewer, best)
        if len(pooled) > 1 and student_interval(pooled, 0.9).high < LOSS:
            depth, loss = fewer, student_interval(pooled, 0.9)
            break
    values = tested[depth]
    interval = student_interval(values) if len(values) > 1 else None
    return Choice(n, images, _means(tested), best, depth, loss, interval, len(values))


def _means(table: pd.DataFrame) -> dict[int, float]:
    return {int(str(depth)): float(column.mean()) for depth, column in table.items()}


def _pooled_loss(tables: Mapping[int, pd.DataFrame], fewer: int, best: int) -> pd.Series:
    """Loss of fewer layers in each replicate, mean over sizes with both depths."""
    losses = [t[best] - t[fewer] for t in tables.values() if {fewer, best} <= set(t.columns)]
    return pd.concat(losses, axis=1).dropna().mean(axis=1)


def _curve(
    tables: Mapping[int, pd.DataFrame], images: Mapping[int, int], depth: int, n_test: float
) -> tuple[int, LearningCurve | str]:
    """Fit the curve at the advised depth, or the nearest one with enough sizes."""
    why = ""
    depths = {int(str(depth)) for table in tables.values() for depth in table}
    for other in sorted(depths, key=lambda one: (abs(one - depth), one)):
        values = {images[n]: table[other] for n, table in tables.items() if other in table}
        accuracies = pd.DataFrame(values)
        try:
            return other, learning_curve(list(values), accuracies.to_numpy(float), n_test)
        except NotEnoughData as error:
            why = why or str(error)
    return depth, why
