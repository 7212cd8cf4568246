"""The picture of ways of fine-tuning: accuracy against arithmetic, a labelled point for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from convtl.analysis.contrasts import PLAIN
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
)
from convtl.reporting.plots import spread

READ = (
    f"Line: {PLAIN}; numbers: trained layers; beside each panel: the other ways, with theirs; points of one price are "
    "drawn side by side; ringed: on the Pareto front (no other point has a higher mean at no more arithmetic). "
    "Bars and grey band (scratch): 95% bootstrap over whole replicates. Each panel has its own accuracy axis. "
    "Pretraining and trying rates are not counted, and frozen layers below the trained ones are computed once."
)
_FLATTEST = 0.06
"""Least range of an accuracy axis, so that small differences look small."""
_APART = 0.062
"""Least distance of two labels, as a share of a panel's height."""
_SIDE = 0.035
"""Distance of two points of one price, as a share of a panel's width."""


@dataclass(frozen=True)
class Arm:
    """A regime and the number of trained layers; `units` are their names."""

    regime: str
    depth: int
    units: str

    @property
    def name(self) -> str:
        return f"{self.regime} {self.depth}"


@dataclass(frozen=True, eq=False)
class Point:
    """FLOPs of one fine-tuning, and test accuracy, one number a replicate."""

    cost: float
    accuracy: pd.Series

    @property
    def mean(self) -> float:
        return float(self.accuracy.mean())


@dataclass(frozen=True, eq=False)
class Panel:
    """What one panel shows; `scratch` is empty where no fresh net was trained."""

    title: str
    points: Mapping[Arm, Point]
    scratch: pd.Series


def arm_order(arm: Arm) -> tuple[bool, str, int]:
    """Plain fine-tuning first, then by name."""
    return arm.regime != PLAIN, arm.regime, arm.depth


def front(points: Mapping[Arm, Point]) -> list[Arm]:
    """Arms that no other reaches or beats at the same or a lower cost, the cheapest first."""
    kept: list[Arm] = []
    for arm in sorted(points, key=lambda arm: (points[arm].cost, -points[arm].mean)):
        if not kept or points[arm].mean > points[kept[-1]].mean:
            kept.append(arm)
    return kept


@styled
def ways(panels: Sequence[Panel]) -> Figure:
    """A panel for each setting and number of labels, one axis of arithmetic for all."""
    wide = 2 if len(panels) in (2, 4) or len(panels) > 6 else 3
    figure, [axes] = canvas(
        len(panels), columns=wide, width=10.4 / min(wide, len(panels)), height=2.6
    )
    if len(panels) <= wide:
        figure.set_figheight(4.6)
    arms = sorted({arm for panel in panels for arm in panel.points}, key=arm_order)
    looks = colours(list(dict.fromkeys(arm.regime for arm in arms)))
    every = [point.cost for panel in panels for point in panel.points.values()]
    ends = min(every), max(every)
    room = max(float(np.log(ends[1] / ends[0])), 1.0)
    for axis, panel in zip(axes, panels, strict=True):
        log_axis(axis.xaxis, every)
        axis.set_xlim(ends[0] * np.exp(-0.1 * room), ends[1] * np.exp(0.1 * room))
        percent_axis(axis.yaxis)
        axis.set_title(drawable(panel.title))
        _panel(axis, panel, looks, room)
    figure.supxlabel("FLOPs of one fine-tuning (an update's, times updates)", fontsize=10)
    figure.supylabel("test accuracy", fontsize=10)
    legend(figure, axes)
    return figure


def _panel(axis: Axes, panel: Panel, looks: Mapping[str, tuple[str, str]], room: float) -> None:
    stats = {arm: spread(point.accuracy) for arm, point in panel.points.items()}
    spans = [*stats.values()]
    if len(panel.scratch):
        mean, low, high = spread(panel.scratch)
        axis.axhspan(low, high, color=GREY, alpha=0.18, linewidth=0)
        axis.axhline(mean, color=GREY, linestyle="--", linewidth=1.5, label="scratch (all layers)")
        spans.append((mean, low, high))
    bottom, top = min(low for _, low, _ in spans), max(high for _, _, high in spans)
    margin = max(0.1 * (top - bottom), (_FLATTEST - (top - bottom)) / 2)
    axis.set_ylim(bottom - margin, top + 1.3 * margin)
    places = _side_by_side(panel.points, _SIDE * 1.2 * room)
    for regime, (colour, marker) in looks.items():
        own = sorted((arm for arm in panel.points if arm.regime == regime), key=arm_order)
        if own:
            _regime(
                axis,
                [places[arm] for arm in own],
                [stats[arm] for arm in own],
                colour,
                marker,
                regime,
            )
    ring: dict[str, Any] = {
        "s": 110,
        "facecolor": "none",
        "edgecolor": "black",
        "linewidth": 1.2,
        "zorder": 4,
    }
    edge = front(panel.points)
    axis.scatter(
        [places[arm] for arm in edge],
        [stats[arm][0] for arm in edge],
        label="on the Pareto front",
        **ring,
    )
    _labels(axis, places, stats, looks, 0.06 * room)


def _side_by_side(points: Mapping[Arm, Point], step: float) -> dict[Arm, float]:
    """Where each point is drawn: of points of one price, the first in its place and the others around it."""
    places: dict[Arm, float] = {}
    for arm in sorted(points, key=arm_order):
        cost, tried = points[arm].cost, 0
        while any(abs(np.log(cost / taken)) < 0.9 * step for taken in places.values()):
            tried += 1
            away = (tried + 1) // 2 * (1 if tried % 2 else -1)
            cost = points[arm].cost * float(np.exp(away * step))
        places[arm] = cost
    return places


def _regime(
    axis: Axes,
    xs: Sequence[float],
    stats: Sequence[tuple[float, float, float]],
    colour: str,
    marker: str,
    regime: str,
) -> None:
    means = [mean for mean, _, _ in stats]
    bars = np.array([[mean - low, high - mean] for mean, low, high in stats]).T
    look: dict[str, Any] = {
        "color": colour,
        "marker": marker,
        "markersize": 5.5,
        "capsize": 2.5,
        "elinewidth": 1.2,
    }
    line = "-" if regime == PLAIN else "none"
    axis.errorbar(
        xs,
        means,
        yerr=np.abs(bars),
        linestyle=line,
        linewidth=1.4,
        label=drawable(regime),
        zorder=3,
        **look,
    )


def _labels(
    axis: Axes,
    places: Mapping[Arm, float],
    stats: Mapping[Arm, tuple[float, float, float]],
    looks: Mapping[str, tuple[str, str]],
    near: float,
) -> None:
    """Numbers above bars of the line; names beside the panel for other ways, and where these are close to the line."""
    free = {arm for arm in places if arm.regime == PLAIN and _alone(arm, places, near)}
    box = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.4}
    for arm in free:
        text: dict[str, Any] = {
            "ha": "center",
            "va": "bottom",
            "fontsize": 9,
            "color": looks[PLAIN][0],
            "bbox": box,
        }
        top = places[arm], stats[arm][2]
        axis.annotate(str(arm.depth), top, xytext=(0, 5), textcoords="offset points", **text)
    others = sorted((arm for arm in places if arm not in free), key=lambda arm: stats[arm][0])
    low, high = axis.get_ylim()
    heights = spaced([(stats[arm][0] - low) / (high - low) for arm in others], _APART)
    for arm, height in zip(others, heights, strict=True):
        colour = looks[arm.regime][0]
        leader = {
            "arrowstyle": "-",
            "color": colour,
            "linewidth": 0.7,
            "alpha": 0.6,
            "shrinkA": 0,
            "shrinkB": 4,
        }
        leader["relpos"] = (0, 0.5)  # ends at the first letter, so that it crosses no name
        axis.annotate(
            drawable(arm.name),
            (places[arm], stats[arm][0]),
            xytext=(1.05, height),
            textcoords="axes fraction",
            ha="left",
            va="center",
            fontsize=9,
            color=colour,
            arrowprops=leader,
            annotation_clip=False,
        )


def _alone(arm: Arm, places: Mapping[Arm, float], near: float) -> bool:
    return all(
        other.regime == PLAIN or abs(np.log(place / places[arm])) > near
        for other, place in places.items()
    )


def spaced(heights: Sequence[float], apart: float) -> list[float]:
    """Ascending heights, moved as little as it takes for neighbours to be `apart` and all within 0..1.

    Where they do not fit they are spread evenly.
    """
    number = len(heights)
    if number > 1:
        apart = min(apart, 1 / (number - 1))
    # what is left when the distances are taken out must ascend: an isotonic fit, by pooling
    pools: list[list[float]] = []
    for index, height in enumerate(heights):
        pools.append([height - index * apart, 1.0])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, m), (b, k) = pools[-2:]
            pools[-2:] = [[(a * m + b * k) / (m + k), m + k]]
    fitted = [value for value, count in pools for _ in range(int(count))]
    last = 1 - (number - 1) * apart
    return [min(max(value, 0.0), last) + index * apart for index, value in enumerate(fitted)]
