"""Data equivalents: how many labels a class scratch would need to score as well (Hernandez et al. 2021)."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq, isotonic_regression

from convtl.analysis.statistics.choices import resamples
from convtl.analysis.statistics.ordering import Censored
from convtl.analysis.statistics.sign_flip import vector


@dataclass(frozen=True)
class DataEquivalent:
    """E = log2(n_scratch / n): 1 says that transfer is worth a doubling of the labels.

    Attributes:
      log2_ratio: E, or its bound where it is censored.
      censored: `right` if scratch does not get there with its largest n (E is at least this), `left` if
        it is better with its smallest n (E is at most this), else empty.
    """

    log2_ratio: float
    censored: Censored


def data_equivalent(
    accuracy: float, scratch_counts: ArrayLike, scratch_accuracies: ArrayLike, n: float
) -> DataEquivalent:
    """Inverts scratch's learning curve at the score of a net that was fine-tuned on n labels a class.

    The curve: isotonic fit of scratch's scores in n, joined by monotone cubic pieces (PCHIP) in log n;
    on a plateau the smallest n that reaches the score counts. Nothing is extrapolated.

    Args:
      accuracy: score at n labels a class: accuracy or logit, the same for both.
      scratch_counts: labels a class of scratch, ascending, at least two.
      scratch_accuracies: its scores there (means over replicates).
      n: labels a class of the fine-tuned net.
    """
    place, scores = np.log(vector(scratch_counts)), vector(scratch_accuracies)
    if len(place) != len(scores) or len(place) < 2 or (np.diff(place) <= 0).any():
        raise ValueError(
            f"scratch_counts: two or more, ascending, one per score, got {scratch_counts!r}"
        )
    if not math.isfinite(accuracy) or n <= 0:
        raise ValueError(f"a finite score and a positive n are needed, got {accuracy} at n={n}")
    at, censored = _invert(accuracy, place, isotonic_regression(scores).x)
    return DataEquivalent((at - math.log(n)) / math.log(2), censored)


def data_equivalent_interval(
    accuracies: Float[np.ndarray, "replicates"],
    scratch_counts: ArrayLike,
    scratch_accuracies: Float[np.ndarray, "replicates counts"],
    n: float,
    level: float = 0.95,
) -> tuple[DataEquivalent, DataEquivalent]:
    """Both ends of the percentile bootstrap over whole replicates, jointly for both nets; for pictures only.

    An end that is censored is a bound on that end.
    """
    rows = resamples(len(accuracies))
    reached = np.asarray(accuracies, float)[rows].mean(axis=1)
    curves = np.asarray(scratch_accuracies, float)[rows].mean(axis=1)
    draws = [
        data_equivalent(float(score), scratch_counts, curve, n)
        for score, curve in zip(reached, curves, strict=True)
    ]
    # censored draws are further out than the bound that stands for them
    draws.sort(key=lambda e: {"left": -math.inf, "right": math.inf}.get(e.censored, e.log2_ratio))
    last = len(draws) - 1
    return draws[math.floor(last * (1 - level) / 2)], draws[math.ceil(last * (1 + level) / 2)]


def _invert(score: float, place: np.ndarray, fitted: np.ndarray) -> tuple[float, Censored]:
    """log n at which the fitted curve first reaches a score."""
    if score > fitted[-1]:
        return float(place[-1]), "right"
    if score < fitted[0]:
        return float(place[0]), "left"
    after = int(np.searchsorted(fitted, score, side="left"))
    if fitted[after] == score:
        return float(place[after]), ""
    curve = PchipInterpolator(place, fitted)
    return float(brentq(lambda x: float(curve(x)) - score, place[after - 1], place[after])), ""
