"""Figures of single layers: their gradients, when they settle, what freezing them costs, how they move."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from convtl.analysis.gradients import arrivals, freezing_cost, relative_gradients
from convtl.reporting.figures.drawing import Parts, figure, lines
from convtl.reporting.figures.series import moves

Table = dict[str, dict[str, dict[Any, Any]]]
_NETS = (
    "Means over {{ report.conditions.gradients.replicate.nunique() }} nets, with 95% intervals; small "
    "dots are single nets."
)


def _probed(report: Any, probe: str, *keys: str) -> list[tuple[Any, ...]]:
    """The combinations of some columns in which a probe was made."""
    frame = report.conditions.gradients
    if frame is None:
        return []
    rows = frame.loc[frame["probe"] == probe, list(keys)].dropna().drop_duplicates()
    return list(rows.sort_values(list(keys), kind="stable").itertuples(index=False, name=None))


def _by_unit(frame: pd.DataFrame, table: pd.DataFrame) -> dict[str, pd.Series]:
    """Name of a unit of LeNet-5 -> one number a replicate."""
    rows = frame[(frame["model"] == "lenet5") & frame["unit"].notna()]
    units = dict(zip(rows["position"].astype(int), rows["unit"], strict=True))
    return {units[place]: table[place].dropna() for place in table}


@figure(
    "Gradients by layer",
    partial(
        lines, x="hidden layer, from the input", y="gradient, powers of ten", columns=3, dots=False
    ),
    "How large the gradient is at each layer of plain fully connected chains, against the last hidden "
    "layer, in powers of ten: at −2 a layer gets a hundredth. Lines are ways of setting the first "
    f"weights. {_NETS}",
)
def gradient_profile(report: Any) -> Parts:
    parts: Table = {}
    keys = ("update", "activation", "initialiser")
    nets = _probed(report, "profile", *keys, "hidden")
    moments = {update for update, *_ in nets}
    deepest = max((hidden for *_, hidden in nets), default=0)
    for update, activation, initialiser, hidden in nets:
        if hidden == deepest and update in (min(moments), max(moments)):
            table = relative_gradients(
                report.conditions.gradients, activation, initialiser, int(hidden), update
            ).dropna()
            part = parts.setdefault(f"{activation}, update {update:,.0f}", {})
            part[initialiser] = {place: table[place] for place in table}
    return parts


@figure(
    "When layers settle",
    partial(lines, x="layer, from the input", y="settled at update (log10)", columns=3),
    "The update of training, as a power of ten, by which the outputs of a layer are 90% of the way to "
    "what they become (linear CKA). A layer cannot settle before those below it, so an order from below "
    f"is built into this measure. {_NETS}",
)
def convergence(report: Any) -> Parts:
    frame = report.conditions.gradients
    parts: Table = {}
    for optimiser, activation in _probed(report, "convergence", "optimiser", "activation"):
        table = arrivals(frame, activation, optimiser)
        table = np.log10(table.loc[:, table.notna().mean() >= 0.5])
        parts[f"{activation}, {optimiser}"] = {"nets that learned": _by_unit(frame, table)}
    return parts


@figure(
    "What freezing one layer costs",
    partial(lines, x="layer, from the input", y="cost, logits", columns=3, zero=True),
    "How much test accuracy, in logits, a net loses when one of its layers is left as it is from some "
    f"update on, all others being trained. Higher: this layer still had more to learn. {_NETS}",
)
def freezing_costs(report: Any) -> Parts:
    frame = report.conditions.gradients
    parts: Table = {}
    keys = ("optimiser", "activation", "update", "unit")
    moments = dict.fromkeys(key[:3] for key in _probed(report, "freezing", *keys))
    for optimiser, activation, update in moments:
        table = freezing_cost(frame, activation, optimiser, update)
        part = parts.setdefault(f"{activation}, {optimiser}", {})
        part[f"frozen from update {update:,.0f}"] = _by_unit(frame, table)
    return parts


@figure(
    "How far layers move",
    partial(lines, x="layer, from the input", y=""),
    "How far each layer moved when all layers were tuned. Left: change of its weights, as a share of "
    "their size before. Right: how alike its outputs are before and after (linear CKA; 1: the same up "
    "to a rotation). Small dots are replicates, large marks their means, bars 95% intervals.",
)
def movement(report: Any) -> Parts:
    table = moves(report.conditions)
    parts: Table = {}
    titles = {"displacement": "change of weights", "cka": "outputs before and after"}
    for (source, unit), rows in table.groupby(["source", "unit"], sort=False):
        for column, title in titles.items():
            line = parts.setdefault(title, {}).setdefault(str(source), {})
            line[unit] = rows.set_index("replicate")[column].dropna()
    return parts
