"""Learning curves: accuracy by number of labelled images, and forecasts.

The test error of a net falls with the number n of training images as a power law, error = a n^b with b < 0, between
too few images for anything to be learned and the error that nothing removes (Figueroa et al. 2012; Hestness et al.
2017). In logarithms that is a line. A few sizes do not show where the floor lies, so that intervals reach down to no
further gain at all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from convtl.analysis.statistics import Interval

FACTORS = (2.0, 4.0)
"""Times the images of the largest subset."""
LEVEL = 0.95
"""Of the intervals of forecasts."""
_FEWEST_SIZES = 3
"""Two give a line, a third says how far it can be trusted."""
_FEWEST_WRONG = 1.0
"""Test images: below it nearly all of an error is the half image that is added."""


class NotEnoughData(Exception):
    """Too few numbers of images or replicates for a curve, or hardly an error left."""


@dataclass(frozen=True)
class Forecast:
    """Forecast for a net that is tuned on more images than there are.

    Attributes:
      factor, images: times the largest subset, and how many images that is.
      accuracy: if the power law goes on (geometric mean of the replicates' errors).
      interval: of the accuracy of one further replicate; it begins where nothing is gained.
    """

    factor: float
    images: float
    accuracy: float
    interval: Interval


@dataclass(frozen=True)
class LearningCurve:
    """A power law for each replicate, fitted to its test errors at all sizes.

    Attributes:
      slopes: of log error against log images, by replicate.
      foretold: accuracy with all images, by the curve without them.
    """

    slopes: Float[np.ndarray, "replicates"]
    foretold: float
    forecasts: tuple[Forecast, ...]


def learning_curve(
    images: Sequence[float],
    accuracy: Float[np.ndarray, "replicates sizes"],
    n_test: float,
    factors: Sequence[float] = FACTORS,
) -> LearningCurve:
    """Fit log error = a + b log n for each replicate, and extend the lines.

    The interval is Student's prediction interval over the replicates' own extensions, with the binomial noise of a
    test, which replicates may share. It is as wide at least as the curve without the largest size misses that size,
    growing with the logarithm of the extension, and reaches down to the present accuracy.

    Args:
      images: training images in all, one number a size; of equal ones the first counts.
      accuracy: share of `n_test` images that were classified correctly; replicates without a size (nan) are left out.
      n_test: test images of a replicate; 1/2 is added to the wrong ones and 1 to all, so that no error is 0.

    Raises:
      NotEnoughData: fewer than three sizes or two replicates, or hardly an error left; the text says which.
    """
    sizes, columns = np.unique(np.asarray(images, float), return_index=True)
    table = np.asarray(accuracy, float).reshape(-1, len(images))[:, columns]
    table = table[np.isfinite(table).all(axis=1)]
    if len(sizes) < _FEWEST_SIZES or len(table) < 2:
        raise NotEnoughData(
            f"a curve needs {_FEWEST_SIZES} numbers of images and 2 replicates that have them all; there are "
            f"{len(sizes)} and {len(table)}"
        )
    if (wrong := float((1 - table[:, -1]).mean()) * n_test) < _FEWEST_WRONG:
        raise NotEnoughData(
            f"with the most images {wrong:.1f} of {n_test:g} test images are wrong on average, so that a further gain "
            "could not be measured"
        )
    x, y = np.log(sizes), np.log(((1 - table) * n_test + 0.5) / (n_test + 1))
    foretold = float(_line(*_fit(x[:-1], y[:, :-1]), x[-1:]).mean())
    miss = abs(float(y[:, -1].mean() - foretold)) / float(x[-1] - x[-2])
    lines = _fit(x, y)
    forecasts = tuple(_forecast(x, y, lines, miss, n_test, factor) for factor in factors)
    return LearningCurve(lines[1], float(_accuracy(np.array(foretold))), forecasts)


def _fit(
    x: Float[np.ndarray, "sizes"], y: Float[np.ndarray, "replicates sizes"]
) -> tuple[Float[np.ndarray, "replicates"], Float[np.ndarray, "replicates"]]:
    """Intercepts and slopes of the least-squares lines."""
    centred = x - x.mean()
    slopes = y @ centred / (centred @ centred)
    return y.mean(axis=1) - slopes * x.mean(), slopes


def _line(intercepts: np.ndarray, slopes: np.ndarray, x: np.ndarray) -> np.ndarray:
    return intercepts[:, None] + slopes[:, None] * x


def _accuracy(log_error: np.ndarray) -> np.ndarray:
    return np.clip(1 - np.exp(log_error), 0.0, 1.0)


def _forecast(
    x: np.ndarray,
    y: np.ndarray,
    lines: tuple[np.ndarray, np.ndarray],
    miss: float,
    n_test: float,
    factor: float,
) -> Forecast:
    """Extend the lines; `miss`: log error off at the largest size, a log of images."""
    m = len(y)
    student = float(stats.t.ppf((1 + LEVEL) / 2, m - 1)) * math.sqrt(1 + 1 / m)
    normal = float(stats.norm.ppf((1 + LEVEL) / 2))

    def prediction(place: float) -> tuple[float, float]:
        """Log error of one further replicate, and half of its interval."""
        ends = _line(*lines, np.array([place]))[:, 0]
        error = min(1.0, math.exp(ends.mean()))
        wrong = max(0.0, error * (n_test + 1) - 0.5)
        counting = math.sqrt(wrong * (1 - error)) / (wrong + 0.5)  # of log(wrong + 1/2)
        half = math.hypot(student * float(ends.std(ddof=1)), normal * counting)
        return float(ends.mean()), half

    middle, half = prediction(x[-1] + math.log(factor))
    half = max(half, miss * math.log(factor))
    worst = max(middle + half, float(y[:, -1].mean()) + prediction(x[-1])[1])
    low, accuracy, high = _accuracy(np.array([worst, middle, middle - half]))
    interval = Interval(float(low), float(high), LEVEL)
    return Forecast(factor, factor * float(np.exp(x[-1])), float(accuracy), interval)
