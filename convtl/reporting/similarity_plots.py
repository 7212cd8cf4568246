"""Pictures of similarity: gain against measured distance, and measured against constructed similarity."""

from typing import Any

import numpy as np
import pandas as pd

from convtl.analysis.statistics.ranking import RankCorrelation, kendall_tau_b, rank_correlation
from convtl.reporting import numbers
from convtl.reporting.figures import (
    GREY,
    Axes,
    Figure,
    canvas,
    colours,
    drawable,
    legend,
    styled,
    whole_axis,
)
from convtl.reporting.plots import line, spread
from convtl.reporting.view import View
from convtl.study.similarity import DISTANCES, ESTIMATORS

_BANDS = (
    ("#222222", ":"),
    ("#8A8A8A", "--"),
    ("#7B4B2A", "-."),
    ("#B8860B", "-"),
    ("#4B0082", (0, (6, 2))),
)
"""Looks of controls, none of them a source's."""
_CIRCULAR = ("linear_probe", "knn")
"""About the accuracy of tuning the head, which is a part of D and G."""
_FEWEST = 5
"""Sources from which on a rank correlation is printed."""
_ON_LADDER = "sources, from similar to far"


def measured(view: View, column: str) -> list[str]:
    """Sources, at the crowded n, for which a measure was taken."""
    n, updates = view.crowded, view.schedules[0]
    return [name for name in view.sources_at(n, updates) if len(_values(view, name, column))]


def _values(view: View, source: str, column: str) -> pd.Series:
    """A measure of one source, one number a replicate."""
    n, updates = view.crowded, view.schedules[0]
    depths = view.has(source, n, updates)
    return view.z(source, n, depths[0], updates, column) if depths else pd.Series(dtype=float)


# --- F6 -----------------------------------------------------------------------------------------------


def places(view: View) -> tuple[dict[str, float], str]:
    """Source -> its place on the axis of distance, near ones first; and what that axis is."""
    names = measured(view, "mmd2")
    if len(names) > 1:
        found = {name: float(_values(view, name, "mmd2").mean()) for name in names}
        return dict(
            sorted(found.items(), key=lambda item: item[1])
        ), "distance to the target (MMD², pixels)"
    return {name: float(index) for index, name in enumerate(view.ladder)}, _ON_LADDER


def gain_title(view: View) -> str:
    return (
        "F6. Gain along the ladder"
        if places(view)[1] == _ON_LADDER
        else "F6. Gain against distance"
    )


def _banded(view: View) -> str:
    """The source whose controls are drawn as bands: the one with most of them."""
    bases = [name.partition(":")[0] for name in view.controls if ":" in name]
    return max(dict.fromkeys(bases), key=bases.count) if bases else ""


@styled
def gain_by_distance(view: View) -> Figure:
    """G against distance with only the last layer trained and with all; bands: controls."""
    n, updates = view.crowded, view.schedules[0]
    spots, what = places(view)
    looks, banded = colours(view.names), _banded(view)
    bands = [name for name in view.controls if name.partition(":")[0] == banded or name == "self"]
    figure, [axes] = canvas(2, width=4.9, height=3.7, sharey=True)
    for axis, depth in zip(axes, (1, "all"), strict=True):
        for index, name in enumerate(bands):
            values = view.gain(name, n, depth, updates)  # type: ignore[arg-type]
            if len(values):
                mean, low, high = spread(values)
                colour, dashes = _BANDS[index % len(_BANDS)]
                axis.axhspan(low, high, color=colour, alpha=0.15, linewidth=0)
                axis.axhline(
                    mean, color=colour, linestyle=dashes, linewidth=1.4, label=drawable(name)
                )
        for name in (other for other in view.controls if other not in bands):
            base = name.partition(":")[0]
            if base in spots:
                values = view.gain(name, n, depth, updates)  # type: ignore[arg-type]
                hollow: dict[str, Any] = {"markerfacecolor": "white"}
                line(axis, [spots[base]], [values], looks[base], name, **hollow)
        for name, place in spots.items():
            line(axis, [place], [view.gain(name, n, depth, updates)], looks[name], f"from {name}")  # type: ignore[arg-type]
        axis.axhline(0, color=GREY, linewidth=1)
        axis.set_title("only the last layer trained" if depth == 1 else "all layers trained")
        axis.set_xlabel(what)
        if what == _ON_LADDER:
            whole_axis(axis.xaxis, list(spots.values()), list(spots))
            axis.set_xlim(-0.5, len(spots) - 0.5)
    axes[0].set_ylabel("G over scratch, logit")
    legend(figure, axes)
    return figure


def gain_by_distance_caption(view: View) -> str:
    """Rank correlation of gain and distance; gains beside those of controls."""
    n, updates = view.crowded, view.schedules[0]
    spots, what_places = places(view)
    by = "the order of the ladder" if what_places == _ON_LADDER else what_places.partition(" (")[0]
    said = []
    for depth, what in ((1, "the last layer"), ("all", "all layers")):
        gains = {name: view.gain(name, n, depth, updates) for name in spots}
        known = [name for name in spots if len(gains[name]) and name not in view.unmatched]
        if len(known) >= _FEWEST:
            means = np.array([gains[name].mean() for name in known])
            tau = kendall_tau_b(np.array([spots[name] for name in known]), means)
            ends = [
                f"{name} {numbers.signed(gains[name].mean())}" for name in (known[0], known[-1])
            ]
            said.append(
                f"{what}: rank correlation of G with {by} {numbers.signed(tau)} ({', '.join(ends)})"
            )
        elif known:
            each = [f"{name} {numbers.signed(gains[name].mean())}" for name in known]
            said.append(f"{what}: {', '.join(each)} (too few sources for a correlation)")
    if out := [name for name in spots if name in view.unmatched]:
        said.append(f"left out of it, as not matched: {', '.join(out)}")
    base = _banded(view)
    if base:
        names = [base, *(name for name in view.controls if name.startswith(f"{base}:"))]
        found = [(name, view.gain(name, n, "all", updates)) for name in names]
        beside = [
            f"{name} {numbers.signed(values.mean())}" for name, values in found if len(values)
        ]
        said.append(f"controls, all layers: {', '.join(beside)}")
    return f"n={n}, {updates:,} updates. {'; '.join(said)}." if said else ""


# --- F11 ----------------------------------------------------------------------------------------------


@styled
def constructed(view: View) -> Figure:
    """Each distance along the ladder and the mixture dial, a panel a distance."""
    columns = [column for column in DISTANCES if len(measured(view, column)) > 1]
    figure, [axes] = canvas(len(columns), width=3.5, height=3.4)
    rungs, mixed = view.ladder, view.dial
    for axis, column in zip(axes, columns, strict=True):
        own = [_values(view, name, column) for name in rungs]
        line(axis, range(len(rungs)), own, ("#0072B2", "o"), "ladder")
        if len(rungs) > 1 and len(mixed) > 1:
            places = [(1 - float(name.partition("@")[2])) * (len(rungs) - 1) for name in mixed]
            values = [_values(view, name, column) for name in mixed]
            line(
                axis,
                places,
                values,
                ("#D55E00", "D"),
                "mixture dial (1 to 0)",
                0.08,
                linestyle="--",
            )
        whole_axis(axis.xaxis, range(len(rungs)), rungs)
        axis.tick_params(axis="x", rotation=35)
        axis.set_title(f"{column}, {'primary' if column == DISTANCES[0] else 'secondary'}")
    axes[0].set_ylabel("distance to the target")
    legend(figure, axes)
    return figure


def constructed_caption(view: View) -> str:
    """Whether measures put the ladder in its order."""
    rungs, said = view.ladder, []
    for column in DISTANCES:
        table = (
            pd.DataFrame({name: _values(view, name, column) for name in rungs})
            .dropna(axis=1, how="all")
            .dropna()
        )
        if table.shape[1] < _FEWEST or not len(table):
            continue
        order = np.tile(np.arange(table.shape[1], dtype=float), (len(table), 1))
        found = rank_correlation(table.to_numpy(float), order)
        said.append(f"{column} {numbers.signed(found.tau)} ({_p(found.p)})")
    return (
        f"Rank correlation (Kendall) of each distance with the ladder's order: {'; '.join(said)}."
        if said
        else ""
    )


def _p(p: float) -> str:
    """`p = 0.030`, `p < 0.001`."""
    return f"p = {numbers.p_value(p)}".replace("= <", "< ")


def correlations(view: View) -> dict[tuple[str, str], RankCorrelation]:
    """(measure, outcome) -> rank correlation over sources; distances with their sign turned (larger = nearer)."""
    n, updates = view.crowded, view.schedules[0]
    outcomes = {
        "G, all layers": lambda name: view.gain(name, n, "all", updates),
        "G, last layer": lambda name: view.gain(name, n, 1, updates),
        "D": lambda name: view.benefit(name, n, updates),
    }
    found = {}
    for column in (*DISTANCES, *ESTIMATORS):
        names = [name for name in measured(view, column) if name not in view.unmatched]
        if len(names) < _FEWEST:
            continue
        sign = -1.0 if column in DISTANCES else 1.0
        for what, outcome in outcomes.items():
            one = pd.DataFrame({name: sign * _values(view, name, column) for name in names}).dropna(
                axis=1, how="all"
            )
            other = pd.DataFrame({name: outcome(name) for name in one}).dropna(axis=1, how="all")
            both = one[list(other)].dropna().index.intersection(other.dropna().index)
            if other.shape[1] >= _FEWEST and len(both):
                values = one.loc[both, list(other)].to_numpy(float), other.loc[both].to_numpy(float)
                found[column, what] = rank_correlation(*values)
    return found


@styled
def predictors(found: dict[tuple[str, str], RankCorrelation]) -> Figure:
    """Rank correlation of every measure with G and with D, with bootstrap intervals."""
    measures = list(dict.fromkeys(measure for measure, _ in found))
    outcomes = list(dict.fromkeys(outcome for _, outcome in found))
    figure, [axes] = canvas(
        len(outcomes), width=3.4, height=max(2.6, 0.32 * len(measures) + 1.0), sharey=True
    )
    for axis, outcome in zip(axes, outcomes, strict=True):
        for index, measure in enumerate(reversed(measures)):
            if (one := found.get((measure, outcome))) is not None:
                _correlation(axis, index, one, measure in DISTANCES)
        names = [f"{name} (nearness)" if name in DISTANCES else name for name in reversed(measures)]
        names = [f"{name} †" if name in _CIRCULAR else name for name in names]
        whole_axis(axis.yaxis, range(len(measures)), names)
        axis.axvline(0, color=GREY, linewidth=1)
        axis.set_xlim(-1.08, 1.08)
        axis.set_title(f"with {outcome}")
        axis.set_xlabel("Kendall's tau over sources")
    legend(figure, axes)
    return figure


def _correlation(axis: Axes, place: int, one: RankCorrelation, distance: bool) -> None:
    colour, what = (
        ("#0072B2", "distance between data")
        if distance
        else ("#D55E00", "estimator from the source net")
    )
    bars = np.array([[max(0.0, one.tau - one.low)], [max(0.0, one.high - one.tau)]])
    axis.errorbar(
        [one.tau],
        [place],
        xerr=bars,
        color=colour,
        marker="o",
        capsize=2.5,
        label=what,
        linestyle="none",
    )


def predictors_caption(found: dict[tuple[str, str], RankCorrelation]) -> str:
    """Which measure goes along best with gain and with the benefit of depth, of those that are evidence."""
    said = []
    found = {place: one for place, one in found.items() if place[0] not in _CIRCULAR}
    for outcome in dict.fromkeys(outcome for _, outcome in found):
        own = {measure: one for (measure, what), one in found.items() if what == outcome}
        best = max(own, key=lambda measure: abs(own[measure].tau))
        one = own[best]
        said.append(
            f"with {outcome} {best} ({numbers.signed(one.tau)}, {_p(one.p)} over {one.items} sources)"
        )
    return (
        f"Strongest rank correlation: {'; '.join(said)} (the strongest of {len({m for m, _ in found})} without those "
        "with †, so p is too small). † is about the accuracy of the last layer alone, a part of G and D: no evidence "
        "for a claim."
    )
