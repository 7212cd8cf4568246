"""Figures of what training takes: images, updates, learning rates, arithmetic."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import figure as mpl

from convtl.analysis.conditions import SCRATCH
from convtl.analysis.statistics import data_equivalent
from convtl.reporting.figures.drawing import INTERVALS, Parts, figure, heat, lines, looks, short
from convtl.reporting.figures.series import panels, usual

Table = dict[str, dict[str, dict[Any, Any]]]
_MOST = 5


def _with_arrows(parts: Table) -> mpl.Figure:
    """Learning curves, with arrows from the first source to where scratch gets as far."""
    drawing = lines(parts, "labelled images a class", "test accuracy", log=True, shares=True)
    for axis, part in zip(drawing.axes, parts.values(), strict=True):
        scratch = {n: float(values.mean()) for n, values in part.get(SCRATCH, {}).items()}
        name = next(iter(part))
        for n, values in part[name].items() if len(scratch) > 1 and name != SCRATCH else ():
            height = float(values.mean())
            worth = data_equivalent(height, list(scratch), list(scratch.values()), n)
            factor = 2**worth.log2_ratio
            if factor < 1.2 or worth.censored == "left":
                continue
            style = {"arrowstyle": "->", "color": looks(part)[name][0], "linewidth": 1.2}
            axis.annotate("", (n * factor, height), (n, height), arrowprops=style)
            text = ">" * (worth.censored == "right") + f"×{factor:.2g}"
            middle = (n * np.sqrt(factor), height)
            axis.annotate(text, middle, (0, 3), textcoords="offset points", ha="center")
    return drawing


@figure(
    "More images",
    _with_arrows,
    "Test accuracy by the number of labelled images a class, all layers trained. Arrows: how many images "
    "a fresh net (scratch) would need to be as good: ×4 says four times as many, > that it does not get "
    "there with the most images that were tried. " + INTERVALS,
)
def learning_curves(report: Any) -> Parts:
    parts: Table = {}
    for panel in panels(report.conditions):
        curves = parts.setdefault(", ".join(panel.targets), {})
        for arm in sorted(panel.arms, key=lambda arm: arm.source == SCRATCH):
            values = panel.ask("test_accuracy", depth="all", **arm.where)
            if len(values) and (arm.is_domain or arm.source == SCRATCH):
                curves.setdefault(arm.name, {})[panel.n] = values
    return _several(parts)


@figure(
    "Longer training",
    partial(lines, x="updates", y="test accuracy", log=True, shares=True),
    "Test accuracy by the number of updates, all layers trained. A fresh net (scratch) that still rises "
    "at its longest schedule might catch up: what pretraining gains is then speed. " + INTERVALS,
)
def schedules(report: Any) -> Parts:
    parts: Table = {}
    table = usual(report.conditions)
    for panel in panels(report.conditions):
        rows = table[table["target"].isin(panel.targets) & (table["n_per_class"] == panel.n)]
        for arm in sorted(panel.arms, key=lambda arm: arm.source == SCRATCH):
            for updates in sorted(rows.loc[rows["source"] == arm.source, "updates"].unique()):
                values = panel.ask("test_accuracy", depth="all", updates=updates, **arm.where)
                if len(values):
                    curves = parts.setdefault(panel.title, {})
                    curves.setdefault(arm.name, {})[updates] = values
    return _several(parts)


def _several(parts: Table) -> Table:
    """Curves of two places and more, at most so many in a panel; scratch, the last of them, always."""
    curves = {
        title: [(name, line) for name, line in part.items() if len(line) > 1]
        for title, part in parts.items()
    }
    return {
        title: dict([*pairs[: _MOST - 1], *pairs[_MOST - 1 :][-1:]])
        for title, pairs in curves.items()
        if pairs
    }


@figure(
    "What accuracy costs",
    partial(lines, x="floating-point operations", y="test accuracy", log=True, shares=True),
    "Test accuracy by the arithmetic of one fine-tuning, from one trained layer at the left to all at the "
    "right; layers that are not trained are computed once. Pretraining, and trying several learning "
    "rates, are not counted. " + INTERVALS,
)
def cost(report: Any) -> Parts:
    parts: Table = {}
    for panel in panels(report.conditions):
        for arm in [arm for arm in panel.arms if arm.is_domain][:_MOST]:
            for depth in panel.depths(arm):
                flops = panel.ask("flops_per_update", depth=depth, **arm.where)
                values = panel.ask("test_accuracy", depth=depth, **arm.where)
                if len(flops) and len(values):
                    operations = float(flops.mean()) * panel.where["updates"]
                    curves = parts.setdefault(panel.title, {})
                    curves.setdefault(arm.name, {})[operations] = values
    return _several(parts)


def _rate_map(shares: pd.DataFrame) -> mpl.Figure:
    texts = shares.map(lambda share: f"{share:.0%}" if share > 0 else "")
    scale = {"cmap": "Blues", "vmin": 0, "vmax": 1}
    return heat(shares, texts, "learning rate", "trained layers", **scale)


@figure(
    "Which learning rates were chosen",
    _rate_map,
    "Share of trials that chose a learning rate by their validation images, by the number of trained "
    "layers. At the right: the share whose rate was the lowest or the highest that was tried, so that a "
    "better one may lie beyond; of a condition with more than a quarter of these no claim is judged.",
)
def learning_rates(report: Any) -> pd.DataFrame:
    frame = report.conditions.frame
    rows = frame[frame["usable"] & frame["lr"].notna() & (frame["n_rates"] > 1)]
    depths = rows["depth"].astype(int).astype(str).str.rjust(3)
    trained = depths.where(rows["source"] != SCRATCH, SCRATCH).rename("")
    rates = ((2 * np.log10(rows["lr"])).round() / 2).rename("")  # the grid's half decades
    shares = pd.crosstab(trained, rates, normalize="index")
    shares = shares.rename(columns=lambda step: short(10**step))
    edges = rows["lr_at_edge"].astype(float).groupby(trained).mean()
    return shares.assign(**{"at edge": edges}) if len(shares) else shares
