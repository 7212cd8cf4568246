"""The picture of a learning curve that goes on beyond what was measured."""

from typing import Any

import numpy as np

from convtl.analysis.advised import Advice
from convtl.analysis.learning_curve import LearningCurve
from convtl.reporting import numbers
from convtl.reporting.figures import (
    COLOURS,
    GREY,
    Axes,
    Figure,
    canvas,
    legend,
    log_axis,
    percent_axis,
    styled,
)

_POINTS = 200
_LABELS = 6
"""With more values an axis has labels at round numbers only."""


@styled
def forecast(advice: Advice) -> Figure:
    """Measured accuracies, the fitted curve, and what it says of more images, with intervals."""
    figure, [[axis]] = canvas(1, width=6.2, height=3.8)
    places = [images for images, _ in advice.measured]
    curve = advice.curve
    known = curve.forecasts if isinstance(curve, LearningCurve) else ()
    log_axis(axis.xaxis, _few(sorted([*places, *(found.images for found in known)])))
    for images, values in advice.measured:
        dots = np.full(len(values), images)
        axis.plot(
            dots, values, ".", color=COLOURS[0], alpha=0.45, markersize=5, label="single replicates"
        )
    means = [float(np.mean(values)) for _, values in advice.measured]
    axis.plot(
        places, means, "o", color=COLOURS[0], markersize=6.5, label="measured, mean", zorder=3
    )
    if isinstance(curve, LearningCurve):
        _draw_curve(axis, curve)
    axis.set_xlabel("labelled training images, all classes together")
    axis.set_ylabel("test accuracy")
    percent_axis(axis.yaxis)
    legend(figure, [axis])
    return figure


def _few(values: list[float]) -> list[float]:
    """So many of them, the last included, that each can have a label."""
    return values if len(values) <= _LABELS else _few(values[::-2][::-1])


def _draw_curve(axis: Axes, curve: LearningCurve) -> None:
    last, end = curve.images[-1], curve.forecasts[-1].images
    inside = np.geomspace(curve.images[0], last, _POINTS)
    beyond = np.geomspace(last, end, _POINTS)
    axis.plot(inside, curve.at(inside), color=GREY, label="fitted power law of the error")
    axis.plot(beyond, curve.at(beyond), color=GREY, linestyle="--", label="extended")
    for found in curve.forecasts:
        ends = [[found.accuracy - found.interval.low], [found.interval.high - found.accuracy]]
        style: dict[str, Any] = {"color": COLOURS[1], "marker": "D", "markersize": 6, "capsize": 4}
        label = f"expected ({numbers.level(found.interval)} prediction interval)".replace(
            ".0%", "%"
        )
        axis.errorbar(
            [found.images],
            [found.accuracy],
            yerr=np.abs(ends),
            label=label,
            linestyle="none",
            **style,
        )
