"""Pictures of depth: accuracy by trained layers, and the depth benefit D over sources and labels."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from convtl.analysis.principles import ALPHA
from convtl.analysis.statistics import Estimate, crossing, estimate, max_t
from convtl.reporting import numbers
from convtl.reporting.figures import (
    GREY,
    Axes,
    Figure,
    canvas,
    colours,
    drawable,
    legend,
    percent_axis,
    styled,
    whole_axis,
)
from convtl.reporting.plots import labels, line, shifts, spread
from convtl.reporting.view import View

# --- F3 -----------------------------------------------------------------------------------------------


def places(view: View) -> list[tuple[int, int]]:
    """(updates, n) at which some source was trained at several depths."""
    return [(u, n) for u in view.schedules for n in view.counts if view.sources_at(n, u)]


@styled
def accuracy_by_depth(view: View) -> Figure:
    """A panel per schedule and n, a line per source, scratch as a band."""
    looks = colours(view.names)
    panels = places(view)
    columns = min(4, len(panels))
    figure, [axes] = canvas(len(panels), columns=columns, width=10.5 / max(2, columns), sharey=True)
    for index, (axis, (updates, n)) in enumerate(zip(axes, panels, strict=True)):
        _depth_panel(axis, view, n, updates, looks)
        if index % columns == 0:
            axis.set_ylabel("test accuracy")
    legend(figure, axes)
    return figure


def _depth_panel(
    axis: Axes, view: View, n: int, updates: int, looks: dict[str, tuple[str, str]]
) -> None:
    depth_axis(axis, view)
    scratch = view.z("scratch", n, "all", updates, "test_accuracy")
    if len(scratch):
        mean, low, high = spread(scratch)
        axis.axhspan(low, high, color=GREY, alpha=0.18, linewidth=0)
        axis.axhline(mean, color=GREY, linestyle="--", linewidth=1.5, label="scratch (all layers)")
        axis.plot(
            np.full(len(scratch), view.full + 0.4),
            scratch,
            "x",
            color=GREY,
            alpha=0.5,
            markersize=3,
        )
    sources = view.sources_at(n, updates)
    for shift, source in zip(shifts(len(sources), 0.09), sources, strict=True):
        depths = view.has(source, n, updates)
        arms = [view.z(source, n, depth, updates, "test_accuracy") for depth in depths]
        line(axis, depths, arms, looks[source], f"from {source}", float(shift))
    axis.set_title(f"{labels(n)},\n{updates:,} updates")
    percent_axis(axis.yaxis)


def depth_axis(axis: Axes, view: View) -> None:
    """Trained layers, with the name of the first of them."""
    names = [f"{depth}\n{view.units.get(depth, '')}" for depth in view.depths]
    axis.tick_params(axis="x", labelsize=8.5)
    whole_axis(axis.xaxis, view.depths, names)
    axis.set_xlim(min(view.depths) - 0.5, max(view.depths) + 0.5)
    axis.set_xlabel("trained layers, from the last")


def accuracy_by_depth_caption(view: View) -> str:
    """For each source, which depth is best on average and by how much."""
    said = []
    updates = view.schedules[0]
    for source in view.names:
        best = {}
        for n in view.counts_of(source, updates):
            means = view.curve(source, n, updates, "test_accuracy").mean()
            if len(means) > 1:
                best[n] = int(means.index[int(np.argmax(means.to_numpy()))])
        if best:
            places = [f"{depth} at n={n}" for n, depth in best.items()]
            said.append(f"from {source} {numbers.listed(places)}")
    return (
        f"Depth of the highest mean accuracy after {updates:,} updates (no test of it): {'; '.join(said)}."
        if said
        else "One depth only, so depths cannot be compared."
    )


# --- F4 -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Benefit:
    """D of one source, n and schedule; `at_edge`: at floor or ceiling, so that it enters no test."""

    source: str
    n: int
    updates: int
    found: Estimate
    sign: int
    at_edge: bool = False


def depth_benefits(view: View) -> list[Benefit]:
    """D wherever head and whole net were both trained; signs by p adjusted over all of them (max-T)."""
    places = [
        (source, n, updates)
        for source in view.names
        for updates in view.schedules
        for n in view.counts
    ]
    values = {place: view.benefit(*place) for place in places}
    values = {place: series for place, series in values.items() if len(series)}
    if not values:
        return []
    tested = {place: series for place, series in values.items() if not view.edge(*place)}
    adjusted = dict.fromkeys(values, 1.0)
    if tested:
        ps = max_t(pd.DataFrame(dict(enumerate(tested.values()))).to_numpy(float).T)
        adjusted |= dict(zip(tested, map(float, ps), strict=True))
    return [
        Benefit(
            *place,
            found := estimate(series),
            int(np.sign(found.effect)) if adjusted[place] <= ALPHA else 0,
            place not in tested,
        )
        for place, series in values.items()
    ]


@styled
def benefit_map(view: View) -> Figure:
    """D over sources (similar ones above) and labels, a panel a schedule; the black line, behind numbers, is D = 0."""
    found = depth_benefits(view)
    rows, columns = list(dict.fromkeys(b.source for b in found)), sorted({b.n for b in found})
    schedules = sorted({b.updates for b in found})
    height = max(2.2, 0.5 * len(rows) + 0.9)
    figure, [axes] = canvas(
        len(schedules),
        width=min(0.95 * len(columns) + 1.1, 10.0 / len(schedules)),
        height=height,
        sharey=True,
    )
    limit = max([0.2, *(abs(b.found.effect) for b in found)])
    for axis, updates in zip(axes, schedules, strict=True):
        own = [b for b in found if b.updates == updates]
        values = np.full((len(rows), len(columns)), np.nan)
        for b in own:
            values[rows.index(b.source), columns.index(b.n)] = b.found.effect
        image = axis.imshow(
            np.ma.masked_invalid(values), cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto"
        )
        axis.set_facecolor("#EEEEEE")
        for b in own:
            text = numbers.signed(b.found.effect) + ("*" if b.sign else "†" if b.at_edge else "")
            colour = "white" if abs(b.found.effect) > 0.6 * limit else "black"
            axis.text(
                columns.index(b.n),
                rows.index(b.source),
                text,
                ha="center",
                va="center",
                fontsize=9,
                color=colour,
                bbox={
                    "facecolor": image.cmap((b.found.effect + limit) / (2 * limit)),
                    "linewidth": 0,
                    "pad": 1.5,
                },
                zorder=4,
            )
        _contour(axis, view, rows, columns, updates)
        whole_axis(axis.xaxis, range(len(columns)), [str(n) for n in columns])
        whole_axis(axis.yaxis, range(len(rows)), [f"from {source}" for source in rows])
        axis.grid(False)
        axis.set_title(f"{updates:,} updates")
    figure.supxlabel("labelled images a class (n)", fontsize=10)
    bar = figure.colorbar(image, ax=axes, shrink=0.9)
    bar.set_label("D, logit: the last ← better → all", fontsize=8.5)
    bar.outline.set_visible(False)
    return figure


def crossings(view: View, source: str, updates: int) -> tuple[list[int], float] | None:
    """(n that were run, log2 n at which D reaches 0, infinite where it is outside); None where D does not rise."""
    arms = {n: view.benefit(source, n, updates) for n in view.counts}
    table = pd.DataFrame({n: arm for n, arm in arms.items() if len(arm)}).dropna()
    if table.shape[1] < 2 or not len(table):
        return None
    counts = list(map(int, table.columns))
    at = crossing(counts, table.to_numpy(float))
    if math.isnan(at.log2_n):
        return None
    return counts, {"left": -math.inf, "right": math.inf}.get(at.censored, at.log2_n)


def _contour(axis: Axes, view: View, rows: list[str], columns: list[int], updates: int) -> None:
    """Where D = 0, source by source, if that is inside what was run; stretches of neighbouring sources are joined."""
    place: dict[int, float] = {}
    for row, source in enumerate(rows):
        found = crossings(view, source, updates)
        if found is None or math.isinf(found[1]):
            continue
        place[row] = float(
            np.interp(found[1], [math.log2(n) for n in columns], range(len(columns)))
        )
        axis.plot(
            [place[row]] * 2, [row - 0.5, row + 0.5], color="black", linewidth=2.4, label="D = 0"
        )
        if row - 1 in place:
            axis.plot([place[row - 1], place[row]], [row - 0.5] * 2, color="black", linewidth=2.4)


def benefit_map_caption(view: View) -> str:
    """Signs, and where D crosses 0."""
    found = depth_benefits(view)
    signs = [b.sign for b in found if not b.at_edge]
    text = (
        f"Of {numbers.plural(len(signs), 'cell')}, training all layers is better than the last alone in "
        f"{signs.count(1)}, worse in {signs.count(-1)}, and not settled in {signs.count(0)}."
    )
    if len(signs) < len(found):
        text += (
            f" † {numbers.plural(len(found) - len(signs), 'cell')} at floor or ceiling: not tested."
        )
    said: dict[str, list[str]] = {}
    for updates in view.schedules:
        for source in view.names:
            if (at := crossings(view, source, updates)) is None:
                continue
            counts, place = at
            where = (
                f"D is above 0 already at the smallest n ({counts[0]})"
                if place == -math.inf
                else f"D is not above 0 up to the largest n ({counts[-1]})"
                if place == math.inf
                else f"D reaches 0 near n={2**place:.0f}"
            )
            said.setdefault(where, []).append(f"{source} ({updates:,} updates)")
    return " ".join([text, *(f"{where}: {', '.join(own)}." for where, own in said.items())])


# --- F4, the dial and the ladder ------------------------------------------------------------------------


@styled
def similarity_effect(view: View) -> Figure:
    """D (above) and z of head and whole net (below), along the mixture dial and along the ladder."""
    n, updates = view.crowded, view.schedules[0]
    parts = {"mixture dial: share of near classes": view.dial, "ladder of sources": view.ladder}
    parts = {what: names for what, names in parts.items() if len(names) > 1}
    figure, grid = canvas(
        len(parts), rows=2, width=10.0 / max(2, len(parts)), height=2.4, sharey="row"
    )
    for column, (what, names) in enumerate(parts.items()):
        shares = [float(name.partition("@")[2]) if "@" in name else math.nan for name in names]
        places = list(range(len(names)))
        for row, arms in enumerate(
            (
                {
                    "D = z(all) − z(last)": (
                        "#0072B2",
                        "o",
                        [view.benefit(name, n, updates) for name in names],
                    )
                },
                {
                    "all layers": (
                        "#0072B2",
                        "o",
                        [view.z(name, n, "all", updates) for name in names],
                    ),
                    "last layer only": (
                        "#E69F00",
                        "s",
                        [view.z(name, n, 1, updates) for name in names],
                    ),
                },
            )
        ):
            axis = grid[row][column]
            for name, (colour, marker, values) in arms.items():
                line(axis, places, values, (colour, marker), name)
            titles = [f"{s:g}" if s == s else name for s, name in zip(shares, names, strict=True)]
            whole_axis(axis.xaxis, places, [drawable(title) for title in titles])
            axis.set_xlim(-0.5, len(names) - 0.5)
            if row == 0:
                axis.axhline(0, color=GREY, linewidth=1)
                axis.set_title(what)
        grid[1][column].set_xlabel("similar → far")
    grid[0][0].set_ylabel("D, logit")
    grid[1][0].set_ylabel("z, logit")
    legend(figure, [axis for axes in grid for axis in axes])
    return figure


def similarity_effect_caption(view: View) -> str:
    """From one end to the other: D, and which of its two halves moves."""
    n, updates = view.crowded, view.schedules[0]
    said = []
    for what, names in (("mixture dial", view.dial), ("ladder", view.ladder)):
        if len(names) < 2:
            continue
        near, far = names[0], names[-1]
        d = [float(view.benefit(name, n, updates).mean()) for name in (near, far)]
        head, full = (
            float(view.z(far, n, k, updates).mean() - view.z(near, n, k, updates).mean())
            for k in (1, "all")
        )
        said.append(
            f"along the {what} D goes from {numbers.signed(d[0])} ({near}) to {numbers.signed(d[1])} ({far}); z of "
            f"the last layer alone changes by {numbers.signed(head)}, that of all layers by {numbers.signed(full)}"
        )
    return f"n={n}, {updates:,} updates: {'; '.join(said)}." if said else ""
