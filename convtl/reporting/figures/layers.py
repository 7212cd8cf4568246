"""Figures of single layers: their gradients, when they settle, what freezing them costs, how they move."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from convtl.analysis.gradients import arrivals, freezing_cost, relative_gradients
from convtl.reporting.figures.drawing import Points, line_figure
from convtl.reporting.figures.series import moves


def _probed(report: Any, probe: str, *keys: str) -> list[tuple[Any, ...]]:
    """The combinations of some columns in which fresh nets were looked at."""
    frame = report.conditions.gradients
    if frame is None:
        return []
    rows = frame.loc[frame["probe"] == probe, list(keys)].dropna().drop_duplicates()
    return list(rows.sort_values(list(keys), kind="stable").itertuples(index=False, name=None))


def _by_unit(report: Any, table: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """Names of LeNet-5's units, with one number a replicate."""
    frame = report.conditions.gradients
    rows = frame[(frame["model"] == "lenet5") & frame["unit"].notna()]
    units: dict[Any, str] = dict(zip(rows["position"], rows["unit"], strict=True))
    for place, values in table.items():
        yield units[place], values.dropna()


@line_figure(
    "Gradients by layer",
    "How large the gradient is at each layer of plain fully connected chains, against the last hidden "
    "layer, in powers of ten: at −2 a layer gets a hundredth. Lines are ways of setting first weights.",
    x="hidden layer, from the input",
    y="gradient, powers of ten",
    columns=3,
    dots=False,
)
def gradient_profile(report: Any) -> Points:
    nets = _probed(report, "profile", "hidden", "update", "activation", "initialiser")
    moments = [update for _, update, _, _ in nets]
    for hidden, update, activation, initialiser in nets:
        if hidden == nets[-1][0] and update in (min(moments), max(moments)):
            frame = report.conditions.gradients
            table = relative_gradients(frame, activation, initialiser, int(hidden), update)
            for place, values in table.dropna().items():
                yield f"{activation}, update {update:,.0f}", initialiser, place, values


@line_figure(
    "When layers settle",
    "The update of training, as a power of ten, by which the outputs of a layer are 90% of the way to "
    "what they become (linear CKA); of nets that learned. A layer cannot settle before those below it, so "
    "an order from below is built into this measure.",
    x="layer, from the input",
    y="settled at update, power of ten",
    columns=3,
)
def convergence(report: Any) -> Points:
    for optimiser, activation in _probed(report, "convergence", "optimiser", "activation"):
        table = arrivals(report.conditions.gradients, activation, optimiser)
        table = table.loc[:, table.notna().mean() >= 0.5].map(np.log10)
        for unit, values in _by_unit(report, table):
            yield f"{activation}, {optimiser}", "", unit, values


@line_figure(
    "What freezing one layer costs",
    "How much test accuracy, in logits, a net loses when one of its layers is left as it is from some "
    "update on, all others being trained. Higher: this layer still had more to learn.",
    x="layer, from the input",
    y="cost, logits",
    columns=3,
    zero=True,
)
def freezing_costs(report: Any) -> Points:
    keys = ("optimiser", "activation", "update", "unit")
    for optimiser, activation, update in {k[:3]: 0 for k in _probed(report, "freezing", *keys)}:
        table = freezing_cost(report.conditions.gradients, activation, optimiser, update)
        for unit, values in _by_unit(report, table):
            yield f"{activation}, {optimiser}", f"from update {update:,.0f}", unit, values


@line_figure(
    "How far layers move",
    "How far each layer moved when all layers were tuned: the change of its weights, as a share of their "
    "size before; and how alike its outputs are before and after (linear CKA; 1: the same up to a "
    "rotation).",
    x="layer, from the input",
)
def movement(report: Any) -> Points:
    titles = {"displacement": "change of weights", "cka": "outputs before and after"}
    table = moves(report.conditions)
    for column, title in titles.items():
        for (source, unit), rows in table.groupby(["source", "unit"], sort=False):
            values = rows.set_index("replicate")[column].dropna()
            yield title, str(source), unit, values
