"""The pictures of a report: each takes a block of trials and returns a figure.

Bars and bands in pictures are 95 % percentile bootstrap intervals over whole replicates; the numbers in
the cells of the map are sign-flip intervals, as in the tables.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from convtl.analysis.arms import SCRATCH, Block
from convtl.analysis.statistics import bootstrap_interval
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
from convtl.reporting.summary import Cell

_PANELS = 4
"""Most columns of a figure that has several rows."""


def _depth_axis(axis: Axes, block: Block) -> None:
    depths = block.depths or (block.full,)
    names = []
    for depth in depths:
        notes = [
            block.units.get(depth, ""),
            "all" if block.full_known and depth == block.full else "",
        ]
        inside = ", ".join(note for note in notes if note)
        names.append(f"{depth}\n({inside})" if inside else str(depth))
    axis.tick_params(axis="x", labelsize=8.5)
    whole_axis(axis.xaxis, depths, names)
    axis.set_xlim(min(depths) - 0.5, max(depths) + 0.5)
    axis.set_xlabel("depth: trained layers, from the last")


def labels(n: int) -> str:
    return f"{n} labelled image{'s' if n > 1 else ''} a class"


def spread(values: pd.Series) -> tuple[float, float, float]:
    """Mean and bootstrap interval (the mean itself for one replicate)."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, mean, mean
    low, high = bootstrap_interval(values.to_numpy(float))
    return mean, float(low), float(high)


def line(
    axis: Axes,
    xs: Sequence[float],
    arms: Sequence[pd.Series],
    look: tuple[str, str],
    label: str,
    shift: float = 0.0,
    **extra: Any,
) -> None:
    """Means with interval bars, and a dot for every replicate."""
    colour, marker = look
    known = [(x, arm) for x, arm in zip(xs, arms, strict=True) if len(arm)]
    if not known:
        return
    stats = np.array([spread(arm) for _, arm in known])
    places = np.array([x for x, _ in known], float)
    at = places + shift if axis.get_xscale() == "linear" else places * (1 + shift)
    bars = np.abs(stats[:, 1:] - stats[:, :1]).T
    style = {
        "color": colour,
        "marker": marker,
        "markersize": 5.5,
        "capsize": 2.5,
        "elinewidth": 1.3,
        **extra,
    }
    axis.errorbar(at, stats[:, 0], yerr=bars, label=drawable(label), zorder=3, **style)
    for place, (_, arm) in zip(at, known, strict=True):
        axis.plot(
            np.full(len(arm), place), arm, ".", color=colour, alpha=0.35, markersize=4, zorder=2
        )


def shifts(number: int, width: float) -> np.ndarray:
    """Small offsets that keep the bars of several lines apart."""
    return (np.arange(number) - (number - 1) / 2) * min(width, 0.45 / max(number, 1))


@styled
def accuracy_by_depth(block: Block) -> Figure:
    """A panel per n, a line per source, scratch as a band."""
    looks = colours(block.sources)
    figure, [axes] = canvas(len(block.counts), sharey=True)
    for axis, n in zip(axes, block.counts, strict=True):
        _depth_axis(axis, block)
        scratch = block.scratch_arm(n, "test_accuracy")
        if len(scratch):
            mean, low, high = spread(scratch)
            axis.axhspan(low, high, color=GREY, alpha=0.18, linewidth=0)
            axis.axhline(
                mean, color=GREY, linestyle="--", linewidth=1.5, label="scratch (all layers)"
            )
        for shift, source in zip(shifts(len(looks), 0.07), block.sources, strict=True):
            arms = [block.arm(source, n, depth, "test_accuracy") for depth in block.depths]
            line(axis, block.depths, arms, looks[source], f"from {source}", shift)
        axis.set_title(labels(n))
        percent_axis(axis.yaxis)
    axes[0].set_ylabel("test accuracy")
    legend(figure, axes)
    return figure


@styled
def benefit_map(block: Block, found: Sequence[Cell]) -> Figure:
    """D over source and n: value and interval in each cell, blue where training all layers is better."""
    rows, columns = list(block.sources), list(block.counts)
    figure, [[axis]] = canvas(
        1, width=1.9 * len(columns) + 1.2, height=max(1.6, 0.85 * len(rows) + 0.6)
    )
    values = np.full((len(rows), len(columns)), np.nan)
    for cell in found:
        if cell.benefit is not None:
            values[rows.index(cell.source), columns.index(cell.n)] = cell.benefit.found.effect
    limit = max(0.2, float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 0.2)
    image = axis.imshow(
        np.ma.masked_invalid(values), cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto"
    )
    axis.set_facecolor("#EEEEEE")
    for cell in found:
        if cell.benefit is None:
            continue
        value = cell.benefit.found
        text = numbers.signed(value.effect) + (" *" if cell.benefit.sign else "")
        text += f"\n{numbers.span(value.interval)}" if value.m > 1 else ""
        dark = abs(value.effect) > 0.6 * limit
        place = (columns.index(cell.n), rows.index(cell.source))
        axis.text(
            *place, text, ha="center", va="center", fontsize=9.5, color="white" if dark else "black"
        )
    whole_axis(axis.xaxis, range(len(columns)), [str(n) for n in columns])
    whole_axis(axis.yaxis, range(len(rows)), [f"from {source}" for source in rows])
    axis.grid(False)
    axis.set_xlabel("labelled images a class (n)")
    axis.set_title(f"D = {block.full_name} − only the last layer, logit")
    bar = figure.colorbar(image, ax=axis, shrink=0.9)
    bar.set_label("only the last ← better → more", fontsize=8.5)
    bar.outline.set_visible(False)
    return figure


@styled
def learning_curves(block: Block, found: Sequence[Cell]) -> Figure:
    """Accuracy against n, a panel per source: head, depth chosen on validation, all layers, scratch."""
    panels = block.sources or (SCRATCH,)
    figure, [axes] = canvas(len(panels), sharey=True)
    chosen = {(cell.source, cell.n): cell.chosen for cell in found}
    kinds = {
        "last layer only": (lambda source, n: 1, ("#E69F00", "s"), {"linestyle": ":"}),
        "depth chosen on validation": (
            lambda source, n: chosen.get((source, n)),
            ("#009E73", "D"),
            {},
        ),
        block.full_name: (lambda source, n: block.full, ("#0072B2", "o"), {"linestyle": "--"}),
    }
    for axis, source in zip(axes, panels, strict=True):
        log_axis(axis.xaxis, block.counts)
        for shift, (name, (depth_of, look, extra)) in zip(
            (-0.03, 0.0, 0.03), kinds.items(), strict=True
        ):
            if source == SCRATCH:
                continue
            depths = [depth_of(source, n) for n in block.counts]
            pairs = zip(block.counts, depths, strict=True)
            arms = [
                block.arm(source, n, depth, "test_accuracy")
                if depth is not None
                else pd.Series(dtype=float)
                for n, depth in pairs
            ]
            line(axis, block.counts, arms, look, name, shift, **extra)
        arms = [block.scratch_arm(n, "test_accuracy") for n in block.counts]
        line(axis, block.counts, arms, (GREY, "x"), "scratch", 0.05)
        axis.set_title(drawable(f"from {source}" if source != SCRATCH else source))
        axis.set_xlabel("labelled images a class (n)")
        percent_axis(axis.yaxis)
    axes[0].set_ylabel("test accuracy")
    legend(figure, axes)
    return figure


@styled
def cost_curve(block: Block) -> Figure:
    """Accuracy against arithmetic an update, and against the number of trained weights."""
    looks, counts = colours(block.sources), _some(block.counts)
    columns = {"flops_per_update": "FLOPs an update", "trained_weights": "trained weights"}
    figure, lines = canvas(len(counts), rows=2, height=3.0, sharey="col")
    for (column, label), axes in zip(columns.items(), lines, strict=True):
        for axis, n in zip(axes, counts, strict=True):
            used: list[float] = []
            for source in block.sources:
                used += _cost_line(axis, block, source, n, column, looks[source])
            scratch = block.scratch_arm(n, column)
            if len(scratch) and scratch.median() > 0:
                used.append(float(scratch.median()))
                accuracy = block.scratch_arm(n, "test_accuracy").mean()
                axis.plot(used[-1], accuracy, "x", color=GREY, markersize=8, mew=2, label="scratch")
            log_axis(axis.xaxis, used or [1.0])
            axis.xaxis.set_tick_params(rotation=30)
            axis.set_xlabel(label)
            percent_axis(axis.yaxis)
    for axis, n in zip(lines[0], counts, strict=True):
        axis.set_title(labels(n))
    for axes in lines:
        axes[0].set_ylabel("test accuracy")
    legend(figure, [axis for axes in lines for axis in axes])
    return figure


def _cost_line(
    axis: Axes, block: Block, source: str, n: int, column: str, look: tuple[str, str]
) -> list[float]:
    """One source; every point carries its depth."""
    points = []
    for depth in block.depths:
        price, accuracy = (
            block.arm(source, n, depth, column),
            block.arm(source, n, depth, "test_accuracy"),
        )
        if len(price) and len(accuracy) and price.median() > 0:
            points.append((float(price.median()), float(accuracy.mean()), depth))
    if not points:
        return []
    colour, marker = look
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    axis.plot(xs, ys, color=colour, marker=marker, markersize=5, label=drawable(f"from {source}"))
    for index, (x, y, depth) in enumerate(points):
        # depths of almost one price lie on top of each other: their numbers go round the point
        place = ((0, 6), (0, -13), (-8, -3), (0, 6), (8, -3))[index % 5]
        axis.annotate(
            str(depth), (x, y), xytext=place, textcoords="offset points", ha="center", fontsize=8
        )
    return xs


@styled
def rates(block: Block) -> Figure:
    """The chosen learning rate by depth, a panel per source; rings mark rates at the edge of the grid."""
    looks = colours([str(n) for n in block.counts])
    panels = list(block.sources) + ([SCRATCH] if len(block.scratch) else [])
    figure, [axes] = canvas(len(panels), sharey=True)
    every = [float(value) for value in block.both["lr"].dropna()]
    for axis, source in zip(axes, panels, strict=True):
        _depth_axis(axis, block)
        log_axis(axis.yaxis, every or [1.0])
        for shift, n in zip(shifts(len(looks), 0.16), block.counts, strict=True):
            _rates_of(axis, block, source, n, looks[str(n)], float(shift))
        axis.set_title(drawable(f"from {source}" if source != SCRATCH else source))
    axes[0].set_ylabel("learning rate chosen")
    legend(figure, axes)
    return figure


def _rates_of(
    axis: Axes, block: Block, source: str, n: int, look: tuple[str, str], shift: float
) -> None:
    depths = block.depths if source != SCRATCH else (block.full,)
    middle = []
    for depth in depths:
        lr = block.arm(source, n, depth, "lr")
        edge = block.arm(source, n, depth, "lr_at_edge")
        if not len(lr):
            continue
        middle.append((depth + shift, float(np.exp(np.log(lr).median()))))
        for value, times in zip(*np.unique(lr.to_numpy(float), return_counts=True), strict=True):
            axis.scatter(depth + shift, value, s=14 * times, color=look[0], alpha=0.45, linewidth=0)
        at_edge = sorted(
            {float(lr[replicate]) for replicate in edge.index if edge[replicate] is True}
        )
        for value in at_edge:
            ring: dict[str, Any] = {
                "s": 130,
                "facecolor": "none",
                "edgecolor": "black",
                "linewidth": 1.1,
            }
            axis.scatter(depth + shift, value, label="some at the edge of their grid", **ring)
    if middle:
        axis.plot(
            *zip(*middle, strict=True),
            color=look[0],
            marker=look[1],
            markersize=4.5,
            label=f"n={n} (median)",
        )


@styled
def calibration(block: Block) -> Figure:
    """Expected calibration error and negative log-likelihood against depth."""
    looks, counts = colours(block.sources), _some(block.counts)
    columns = {"test_ece": "calibration error (ECE)", "test_nll": "negative log-likelihood, nats"}
    figure, lines = canvas(len(counts), rows=2, height=2.7, sharey="row")
    for (column, label), axes in zip(columns.items(), lines, strict=True):
        for axis, n in zip(axes, counts, strict=True):
            _depth_axis(axis, block)
            scratch = block.scratch_arm(n, column)
            if len(scratch):
                mean, low, high = spread(scratch)
                axis.axhspan(low, high, color=GREY, alpha=0.18, linewidth=0)
                axis.axhline(
                    mean, color=GREY, linestyle="--", linewidth=1.5, label="scratch (all layers)"
                )
            for shift, source in zip(shifts(len(looks), 0.07), block.sources, strict=True):
                arms = [block.arm(source, n, depth, column) for depth in block.depths]
                line(axis, block.depths, arms, looks[source], f"from {source}", shift)
        axes[0].set_ylabel(label)
    for axis, n in zip(lines[0], counts, strict=True):
        axis.set_title(labels(n))
        axis.set_xlabel("")
    legend(figure, [axis for axes in lines for axis in axes])
    return figure


def _some(counts: Sequence[int]) -> list[int]:
    """At most `_PANELS` of the numbers of labels, spread over their range."""
    places = np.linspace(0, len(counts) - 1, min(_PANELS, len(counts))).round().astype(int)
    return [counts[place] for place in places]
