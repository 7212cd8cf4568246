"""Figures of what training takes: images, updates, learning rates, arithmetic."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import figure as mpl

from convtl.analysis.conditions import SCRATCH
from convtl.analysis.statistics import data_equivalent
from convtl.reporting.figures.drawing import (
    Parts,
    Points,
    figure,
    heat,
    line_figure,
    lines,
    looks,
    short,
)
from convtl.reporting.figures.series import panels, usual


def _with_arrows(parts: Parts, **form: Any) -> mpl.Figure:
    """Learning curves, with arrows from the first source to where scratch gets as far."""
    drawing = lines(parts, **form)
    for axis, part in zip(drawing.axes, parts.values(), strict=True):
        name, *_ = part
        curve, scratch = (
            {n: float(values.mean()) for n, values in part.get(key, {}).items() if len(values)}
            for key in (name, SCRATCH)
        )
        for n, height in curve.items() if len(scratch) > 1 and name != SCRATCH else ():
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


@line_figure(
    "More images",
    "Test accuracy by the number of labelled images a class, all layers trained. Arrows: how many images "
    "a fresh net (scratch) would need to be as good: ×4 says four times as many, > that it does not get "
    "there with the most images that were tried.",
    draw=_with_arrows,
    x="labelled images a class",
    y="test accuracy",
    fewest=2,
    log=True,
    shares=True,
)
def learning_curves(report: Any) -> Points:
    for panel in panels(report.conditions):
        for arm in [arm for arm in panel.arms if arm.is_domain or arm.source == SCRATCH]:
            values = panel.ask("test_accuracy", depth="all", **arm.where)
            yield ", ".join(panel.targets), arm.name, panel.n, values


@line_figure(
    "Longer training",
    "Test accuracy by the number of updates, all layers trained. A fresh net (scratch) that still rises "
    "at its longest schedule might catch up: what pretraining gains is then speed.",
    x="updates",
    y="test accuracy",
    fewest=2,
    log=True,
    shares=True,
)
def schedules(report: Any) -> Points:
    table = usual(report.conditions)
    for panel in panels(report.conditions):
        rows = table[table["target"].isin(panel.targets) & (table["n_per_class"] == panel.n)]
        for arm in panel.arms:
            for updates in sorted(rows.loc[rows["source"] == arm.source, "updates"].unique()):
                where = {"depth": "all", "updates": updates, **arm.where}
                yield panel.title, arm.name, updates, panel.ask("test_accuracy", **where)


@line_figure(
    "What accuracy costs",
    "Test accuracy by the arithmetic of one fine-tuning, from one trained layer at the left to all at the "
    "right; layers that are not trained are computed once. Pretraining, and trying several learning "
    "rates, are not counted.",
    x="floating-point operations",
    y="test accuracy",
    fewest=2,
    log=True,
    shares=True,
)
def cost(report: Any) -> Points:
    for panel in panels(report.conditions):
        for arm in [arm for arm in panel.arms if arm.is_domain]:
            for depth in panel.depths(arm):
                flops = panel.ask("flops_per_update", depth=depth, **arm.where)
                values = panel.ask("test_accuracy", depth=depth, **arm.where)
                if len(flops):
                    yield panel.title, arm.name, flops.mean() * panel.where["updates"], values


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
