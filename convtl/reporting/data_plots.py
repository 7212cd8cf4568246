"""Pictures over the number of labels: learning curves with data equivalents, and the rates that were chosen."""

from typing import Any

import numpy as np
import pandas as pd

from convtl.analysis.arms import SCRATCH
from convtl.analysis.cells import NotEnoughData
from convtl.analysis.statistics import DataEquivalent, data_equivalent
from convtl.reporting import numbers
from convtl.reporting.depth_plots import depth_axis
from convtl.reporting.figures import (
    GREY,
    Axes,
    Figure,
    canvas,
    colours,
    drawable,
    legend,
    log_axis,
    percent_axis,
    styled,
    whole_axis,
)
from convtl.reporting.plots import line, shifts
from convtl.reporting.view import View

_CHOSEN = "#009E73"
_COLUMNS = 4
"""Panels side by side."""
_WORTH_AN_ARROW = 0.2
"""Doublings of n from which on a data equivalent is drawn."""

# --- F5 -----------------------------------------------------------------------------------------------


def equivalents(view: View, source: str, updates: int) -> list[tuple[int, float, DataEquivalent]]:
    """(n, mean accuracy at the depth that validation chooses, data equivalent) wherever scratch has a curve."""
    counts, means = _scratch_curve(view, updates)
    if len(counts) < 2:
        return []
    found = []
    for n in view.counts_of(source, updates):
        accuracy = view.chosen(source, n, updates, "test_accuracy")
        if len(accuracy):
            reached = float(accuracy.mean())
            found.append((n, reached, data_equivalent(reached, counts, means, n)))
    return found


def _scratch_curve(view: View, updates: int) -> tuple[list[int], list[float]]:
    arms = {n: view.z(SCRATCH, n, "all", updates, "test_accuracy") for n in view.counts}
    return [n for n, arm in arms.items() if len(arm)], [
        float(arm.mean()) for arm in arms.values() if len(arm)
    ]


def curve_places(view: View) -> tuple[list[str], list[int]]:
    """Sources and schedules with two numbers of labels or more."""
    schedules = [
        u for u in view.schedules if any(len(view.counts_of(s, u)) > 1 for s in view.names)
    ]
    return [
        s for s in view.names if any(len(view.counts_of(s, u)) > 1 for u in schedules)
    ], schedules


@styled
def learning_curves(view: View) -> Figure:
    """Accuracy against n, a panel for each source and schedule; arrows lead to scratch's curve."""
    sources, schedules = curve_places(view)
    panels = [(s, updates) for updates in schedules for s in sources if view.counts_of(s, updates)]
    columns = len(sources) if len(sources) <= _COLUMNS and len(schedules) > 1 else _COLUMNS
    wide = min(columns, len(panels))
    figure, [axes] = canvas(
        len(panels), columns=columns, width=10.5 / max(3, wide), height=3.1, sharey=True
    )
    for index, (axis, (source, updates)) in enumerate(zip(axes, panels, strict=True)):
        _curve_panel(axis, view, source, updates)
        if index % wide == 0:
            axis.set_ylabel("test accuracy")
    legend(figure, axes)
    return figure


def _curve_panel(axis: Axes, view: View, source: str, updates: int) -> None:
    counts = view.counts_of(source, updates)
    log_axis(axis.xaxis, view.counts)
    axis.set_xlim(view.counts[0] / 1.3, view.counts[-1] * 1.3)
    arms: dict[str, tuple[Any, tuple[str, str], dict[str, Any]]] = {
        "last layer only": (1, ("#E69F00", "s"), {"linestyle": ":"}),
        "all layers": ("all", ("#0072B2", "o"), {"linestyle": "--"}),
    }
    for name, (depth, look, extra) in ({} if view.only else arms).items():
        values = [view.z(source, n, depth, updates, "test_accuracy") for n in counts]
        line(axis, counts, values, look, name, 0.03 if depth == "all" else -0.03, **extra)
    values = [view.chosen(source, n, updates, "test_accuracy") for n in counts]
    line(axis, counts, values, (_CHOSEN, "D"), view.only or "depth chosen on validation")
    fresh, _ = _scratch_curve(view, updates)
    line(
        axis,
        fresh,
        [view.z(SCRATCH, n, "all", updates, "test_accuracy") for n in fresh],
        (GREY, "x"),
        "scratch",
    )
    for n, reached, worth in equivalents(view, source, updates):
        _arrow(axis, n, reached, worth)
    axis.set_title(drawable(f"from {source}, {updates:,} updates"))
    axis.set_xlabel("labelled images a class (n)")
    percent_axis(axis.yaxis)


def _arrow(axis: Axes, n: int, reached: float, worth: DataEquivalent) -> None:
    """From the tuned net to scratch's curve at the same height; a bar where scratch was not run so far."""
    place = n * 2**worth.log2_ratio
    if abs(worth.log2_ratio) < _WORTH_AN_ARROW:
        return
    look: dict[str, Any] = {
        "color": _CHOSEN,
        "linewidth": 1.2,
        "shrinkA": 5,
        "shrinkB": 0,
        "arrowstyle": "-|>",
    }
    if worth.censored:
        look["linestyle"] = (0, (2, 2))
    axis.annotate("", xy=(place, reached), xytext=(n, reached), arrowprops=look)
    side = 1 if place > n else -1  # beyond the arrow's head, where no line is
    beside: dict[str, Any] = {
        "textcoords": "offset points",
        "va": "center",
        "fontsize": 8.5,
        "fontweight": "bold",
    }
    beside |= {"xytext": (4 * side, 0), "ha": "left" if side > 0 else "right"}
    axis.annotate(times(worth), (place, reached), color=_CHOSEN, **beside)


def times(worth: DataEquivalent) -> str:
    """`×3.2`, `≥×10`: labels that scratch needs, times those of the tuned net."""
    sign = {"right": "≥", "left": "≤"}.get(worth.censored, "")
    return f"{sign}×{2**worth.log2_ratio:.2g}"


def learning_curves_caption(view: View) -> str:
    """What transfer is worth in labels, source by source."""
    sources, schedules = curve_places(view)
    said = []
    for updates in schedules:
        for source in sources:
            worth = [f"{times(e)} at n={n}" for n, _, e in equivalents(view, source, updates)]
            if worth:
                said.append(f"{source} {numbers.listed(worth)} ({updates:,} updates)")
    if not said:
        return "Scratch was not run with two numbers of labels, so nothing can be said of what transfer is worth."
    return f"Labels that scratch needs to do as well, times n: {'; '.join(said)}. ≥, ≤: scratch was not run so far."


# --- F7 -----------------------------------------------------------------------------------------------


def _raw(view: View, source: str, n: int, depth: int, updates: int, column: str) -> pd.Series:
    """A column of every target and replicate."""
    try:
        return view.cells.z(source, n, depth, updates, column=column)
    except NotEnoughData:
        return pd.Series(dtype=float)


@styled
def rates(view: View) -> Figure:
    """The learning rate by depth: a panel for each source and schedule, a line for each n."""
    looks = colours([str(n) for n in view.counts])
    panels = _rate_panels(view)
    columns = min(_COLUMNS + 1, len(panels))
    figure, [axes] = canvas(
        len(panels), columns=columns, width=11.0 / max(4, columns), height=2.5, sharey=True
    )
    every = [float(value) for value in view.cells.rows["lr"].dropna() if value > 0]
    for index, (axis, (source, updates)) in enumerate(zip(axes, panels, strict=True)):
        depth_axis(axis, view)
        whole_axis(axis.xaxis, view.depths, list(map(str, view.depths)))
        axis.set_xlabel("trained layers")
        for n in view.counts:  # so that the legend has them in their order
            axis.plot(
                [],
                [],
                color=looks[str(n)][0],
                marker=looks[str(n)][1],
                markersize=4,
                label=f"n={n}",
            )
        log_axis(axis.yaxis, every or [1.0])
        for shift, n in zip(shifts(len(looks), 0.16), view.counts, strict=True):
            _rates_of(axis, view, source, n, updates, looks[str(n)], float(shift))
        axis.set_title(drawable(f"{source},\n{updates:,} updates"), fontsize=9)
        if index % columns == 0:
            axis.set_ylabel("learning rate")
    legend(figure, axes)
    return figure


def _rate_panels(view: View) -> list[tuple[str, int]]:
    """(source, updates) for which rates are known; scratch, which has one depth, is in the caption."""
    return [
        (source, updates)
        for updates in view.schedules
        for source in view.names
        if any(
            len(_raw(view, source, n, k, updates, "lr")) for n in view.counts for k in view.depths
        )
    ]


def _rates_of(
    axis: Axes, view: View, source: str, n: int, updates: int, look: tuple[str, str], shift: float
) -> None:
    middle = []
    for depth in view.depths:
        values = _raw(view, source, n, depth, updates, "lr")
        if not len(values):
            continue
        middle.append((depth + shift, float(np.exp(np.log(values).mean()))))
        for value in values.unique():
            axis.scatter(depth + shift, value, s=16, color=look[0], alpha=0.5, linewidth=0)
        edge = _raw(view, source, n, depth, updates, "lr_at_edge")
        for value in values[
            values.index.isin(edge.index[[flag is True for flag in edge]])
        ].unique():
            ring: dict[str, Any] = {
                "s": 90,
                "facecolor": "none",
                "edgecolor": "black",
                "linewidth": 0.9,
            }
            axis.scatter(depth + shift, value, label="at the edge of the grid", **ring)
    if middle:
        axis.plot(*zip(*middle, strict=True), color=look[0], marker=look[1], markersize=4)


def rates_caption(view: View) -> str:
    """How far chosen rates lie apart, and how many are at an edge."""
    rows = view.cells.rows
    rows = rows[rows["target"].isin(view.targets) & (rows["lr"] > 0)]
    rows = rows.drop_duplicates("trial")  # an end of a mixture is another source's trial
    arms = rows.drop_duplicates(
        ["target", "source", "similarity", "n_per_class", "depth", "updates", "lr"]
    )
    if not len(arms) or arms["n_rates"].max() <= 1:
        return "Every trial used one given rate; none was chosen."
    edge = sum(value is True for value in arms["lr_at_edge"])
    tuned, fresh = arms[arms["source"] != SCRATCH], arms[arms["source"] == SCRATCH]
    by_depth = np.exp(np.log(tuned["lr"]).groupby(tuned["depth"].astype(int)).mean())
    said = ", ".join(f"{value:.2g} at depth {depth}" for depth, value in by_depth.items())
    scratch = f", {np.exp(np.log(fresh['lr']).mean()):.2g} from scratch" if len(fresh) else ""
    return (
        f"Geometric mean over arms: {said} ({by_depth.max() / by_depth.min():.2g}-fold between depths){scratch}. "
        f"{edge} of {len(arms)} chosen rates are at the edge of the rates that were compared."
    )
