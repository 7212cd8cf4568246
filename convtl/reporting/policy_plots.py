"""Pictures of policies: regret of rules for the depth, and accuracy against what training costs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from convtl.analysis.arms import SCRATCH
from convtl.analysis.cells import NotEnoughData
from convtl.analysis.contrasts import DEPTHS, RULE
from convtl.analysis.statistics import Estimate, estimate, performance_profile, regret_per_replicate
from convtl.reporting import numbers
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
from convtl.reporting.plots import labels
from convtl.reporting.view import View, over_targets

_FEWEST = 3
"""Points from which on a panel of cost says anything."""

Regrets = dict[str, pd.DataFrame]
"""Policy -> (target, replicate) x cells of the rule: regret, logits."""

# --- F8 -----------------------------------------------------------------------------------------------


def regrets(view: View) -> tuple[Regrets, pd.Series]:
    """Regret of each policy in each cell of the rule, and each cell's range of mean z over depths.

    Empty where a cell of the rule was not run, or with fewer than two replicates.
    """
    updates = view.schedules[0]
    try:
        scores = {cell: view.cells.curve(*cell, DEPTHS, updates) for cell in RULE}
        seen = {cell: view.cells.curve(*cell, DEPTHS, updates, "val_accuracy") for cell in RULE}
    except NotEnoughData:
        return {}, pd.Series(dtype=float)
    shared = sorted(
        set.intersection(*(set(table.index) for table in (*scores.values(), *seen.values())))
    )
    targets = [t for t in view.targets if sum(place[0] == t for place in shared) > 1]
    found: dict[str, dict[tuple[str, int], list[pd.Series]]] = {}
    spans: dict[tuple[str, int], list[float]] = {cell: [] for cell in RULE}
    for target in targets:
        index = pd.MultiIndex.from_tuples(
            [p for p in shared if p[0] == target], names=["target", "replicate"]
        )
        z = {cell: table.loc[index].to_numpy(float) for cell, table in scores.items()}
        val = {cell: table.loc[index].to_numpy(float) for cell, table in seen.items()}
        for name, chosen in _policies(z, val).items():
            for cell in RULE:
                values = pd.Series(regret_per_replicate(z[cell], chosen[cell]), index)
                found.setdefault(name, {}).setdefault(cell, []).append(values)
        for cell in RULE:
            spans[cell].append(float(np.ptp(z[cell].mean(axis=0))))
    tables = {
        name: pd.DataFrame({cell: pd.concat(own) for cell, own in cells.items()})
        for name, cells in found.items()
    }
    return tables, pd.Series(
        {cell: float(np.mean(span)) for cell, span in spans.items() if span}, dtype=float
    )


def _policies(
    z: Mapping[tuple[str, int], np.ndarray], val: Mapping[tuple[str, int], np.ndarray]
) -> dict[str, dict[tuple[str, int], np.ndarray | int]]:
    """Policy -> cell -> position of the depth that it takes: one, or one a replicate."""
    m = len(next(iter(z.values())))
    over_cells = np.sum(list(z.values()), axis=0)
    others = (over_cells.sum(axis=0) - over_cells) / (m - 1)
    return {
        "the rule": {cell: DEPTHS.index(depth) for cell, depth in RULE.items()},
        "always the last layer": dict.fromkeys(RULE, 0),
        "always all layers": {cell: len(DEPTHS) - 1 for cell in RULE},
        "best single depth": {cell: others.argmax(axis=1) for cell in RULE},
        "chosen on validation": {cell: val[cell].argmax(axis=1) for cell in RULE},
    }


def mean_regrets(found: Regrets) -> dict[str, tuple[Estimate, pd.Series]]:
    """Policy -> its mean regret over cells and targets, and the numbers of the replicates."""
    means = {name: over_targets(table.mean(axis=1)) for name, table in found.items()}
    return {name: (estimate(values), values) for name, values in means.items() if len(values)}


@styled
def regret_bars(view: View) -> Figure:
    """Mean regret of policies with intervals and replicates; and how often regret is small."""
    found, spans = regrets(view)
    means = mean_regrets(found)
    looks = colours(list(means))
    figure, [axes] = canvas(2, width=5.0, height=3.4)
    for place, (name, (one, values)) in enumerate(means.items()):
        bars = [[one.effect - one.interval.low], [one.interval.high - one.effect]]
        look: dict[str, Any] = {
            "color": looks[name][0],
            "alpha": 0.55,
            "ecolor": "black",
            "capsize": 3.0,
        }
        axes[0].bar(place, one.effect, width=0.65, yerr=bars if one.m > 1 else None, **look)
        axes[0].plot(
            np.full(len(values), place + 0.22), values, ".", color="black", alpha=0.4, markersize=4
        )
    axes[0].axhline(0, color=GREY, linewidth=1)
    whole_axis(axes[0].xaxis, range(len(means)), [name.replace(" ", "\n", 2) for name in means])
    axes[0].tick_params(axis="x", labelsize=8)
    axes[0].set_ylabel("regret, logit (lower is better)")
    thresholds = np.linspace(0, 1.0, 51)
    for name, table in found.items():
        scores = 1 - (table / spans.clip(lower=0.05)).to_numpy(float)
        share, low, high = performance_profile(scores, 1 - thresholds - 1e-9)
        dashes = "--" if name.startswith("best") else "-"  # it may lie on that of another policy
        axes[1].plot(thresholds, share, dashes, color=looks[name][0], label=name)
        axes[1].fill_between(thresholds, low, high, color=looks[name][0], alpha=0.12, linewidth=0)
    axes[1].set_xlabel("regret, as a share of best minus worst depth of the cell")
    axes[1].set_ylabel("share of runs with no more")
    percent_axis(axes[1].xaxis)
    percent_axis(axes[1].yaxis)
    legend(figure, axes)
    return figure


def regret_caption(view: View) -> str:
    """Regrets in words, the smallest first."""
    means = mean_regrets(regrets(view)[0])
    ordered = sorted(means.items(), key=lambda item: item[1][0].effect)
    said = [f"{name} {numbers.contrast(one)}" for name, (one, _) in ordered]
    cells = ", ".join(f"{source} n={n}" for source, n in RULE)
    return (
        f"Mean over {cells}, {view.schedules[0]:,} updates: {'; '.join(said)}. Regret: how much the policy's depth "
        "falls short of the best one, which is chosen on replicates that do not score it (so it can be below 0)."
    )


# --- F9 -----------------------------------------------------------------------------------------------


Point = tuple[float, float, str, int, int]
"""(cost, mean accuracy, source, depth, updates)"""


def cost_points(view: View, n: int, column: str) -> list[Point]:
    """Every arm with n labels a class: what training it costs (`flops` or `trained_weights`) and its accuracy."""
    found = []
    for updates in view.schedules:
        for source in (*view.sources_at(n, updates), SCRATCH):
            for depth in view.has(source, n, updates) if source != SCRATCH else (view.full,):
                accuracy = view.z(source, n, depth, updates, "test_accuracy")
                price = view.z(
                    source, n, depth, updates, "flops_per_update" if column == "flops" else column
                )
                if len(accuracy) and len(price) and price.mean() > 0:
                    total = float(price.mean()) * (updates if column == "flops" else 1)
                    found.append((total, float(accuracy.mean()), source, depth, updates))
    return found


def cost_counts(view: View) -> list[int]:
    """Up to four n with enough points for a picture of cost."""
    return [n for n in view.counts if len(cost_points(view, n, "flops")) >= _FEWEST][:4]


def front(points: list[Point]) -> list[Point]:
    """Those that no other beats at the same or a lower cost."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p[0], -p[1])):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept


@styled
def cost(view: View, uncached: Mapping[int, float]) -> Figure:
    """Accuracy against the arithmetic of training (above) and trained weights (below), a panel per n.

    Args:
      uncached: depth -> FLOPs an update that the frozen layers would cost if their outputs were not kept.
    """
    counts = cost_counts(view)
    looks = colours(view.names) | {SCRATCH: (GREY, "x")}
    figure, grid = canvas(
        len(counts), rows=2, width=10.5 / max(3, len(counts)), height=3.0, sharey="col"
    )
    for axes, (column, what) in zip(
        grid,
        {"flops": "FLOPs of training", "trained_weights": "trained weights"}.items(),
        strict=True,
    ):
        for axis, n in zip(axes, counts, strict=True):
            points = cost_points(view, n, column)
            _points(axis, points, looks, uncached if column == "flops" else {})
            edge = front(points)
            axis.plot(
                [p[0] for p in edge],
                [p[1] for p in edge],
                color="black",
                linewidth=1.2,
                label="Pareto front",
            )
            log_axis(axis.xaxis, [p[0] for p in points])
            axis.xaxis.set_tick_params(rotation=30)
            axis.set_xlabel(what)
            percent_axis(axis.yaxis)
        axes[0].set_ylabel("test accuracy")
    for axis, n in zip(grid[0], counts, strict=True):
        axis.set_title(labels(n))
    legend(figure, [axis for axes in grid for axis in axes])
    return figure


def _points(
    axis: Axes,
    points: list[Point],
    looks: Mapping[str, tuple[str, str]],
    uncached: Mapping[int, float],
) -> None:
    """A thin line a source and schedule; depths are written at the front only, where they can be read."""
    short = min((updates for *_, updates in points), default=0)
    arms: dict[tuple[str, int], list[Point]] = {}
    for point in points:
        arms.setdefault((point[2], point[4]), []).append(point)
    for (source, updates), own in arms.items():
        colour, marker = looks[source]
        name = drawable(f"from {source}" if source != SCRATCH else source)
        look: dict[str, Any] = {"markersize": 5.0, "linewidth": 0.8}
        if updates != short:
            look = {
                "markersize": 7.0,
                "linewidth": 0.8,
                "linestyle": ":",
                "markerfacecolor": "none",
            }
        axis.plot(
            *_line(own),
            marker=marker,
            color=colour,
            label=name if updates == short else None,
            **look,
        )
        for total, accuracy, _, depth, _ in own:
            if more := uncached.get(depth):
                far = total + more * updates
                axis.plot([total, far], [accuracy] * 2, color=colour, linewidth=0.6, alpha=0.45)
                axis.plot(far, accuracy, "|", color=colour, markersize=6, alpha=0.7)
    for total, accuracy, _, depth, _ in front(points):
        text = {"xytext": (0, 6), "textcoords": "offset points", "fontsize": 8, "ha": "center"}
        axis.annotate(str(depth), (total, accuracy), **text)  # type: ignore[arg-type]


def _line(points: list[Point]) -> tuple[list[float], list[float]]:
    return [point[0] for point in points], [point[1] for point in points]


def cost_caption(view: View, uncached: Mapping[int, float]) -> str:
    """What lies on the front, n by n; what keeping features saves."""
    said = []
    for n in cost_counts(view):
        edge = front(cost_points(view, n, "flops"))
        if edge:
            places = [f"{source} {depth} ({updates:,})" for _, _, source, depth, updates in edge]
            said.append(f"n={n}: {', '.join(places)}")
    text = (
        f"On the front of accuracy against arithmetic, as source, depth (updates): {'; '.join(said)}."
        if said
        else ""
    )
    if uncached:
        text += (
            " Frozen layers are computed once and their outputs kept; the bar to the right of a point is what training "
            "costs if they are computed again at every update."
        )
    return f"{text} Filled: the shortest schedule; hollow: longer ones. Pretraining and trying rates are not counted."
