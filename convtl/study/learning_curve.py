"""Accuracy against the number of labelled images, and what it should be with more of them.

The test error of a net falls with the number n of training images as a power law, error = a n^b with b < 0,
over the range between too few images for anything to be learned and the error that nothing removes
(Figueroa et al. 2012, Predicting sample size required for classification performance; Hestness et al. 2017,
Deep learning scaling is predictable, empirically). In logarithms that is a line.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from convtl.study.cells import NotEnoughData
from convtl.study.statistics import Interval

FACTORS = (2.0, 4.0)
"""Times the images of the largest subset."""
_FEWEST_SIZES = 3
"""Two give a line, a third says how far it can be trusted."""
_FEWEST_REPLICATES = 2
_FEWEST_WRONG = 1.0
"""Test images: below it nearly all of an error is the half image that is added."""


@dataclass(frozen=True)
class Forecast:
    """What is expected of a net that is tuned on more images than there are.

    Attributes:
      factor, images: times the largest subset, and how many images that is.
      accuracy: on average over replicates (geometric mean of their errors).
      interval: of the test accuracy of one further replicate.
      widened: whether the back-test missed by more than replicates differ, so that its miss sets the interval.
    """

    factor: float
    images: float
    accuracy: float
    interval: Interval
    widened: bool


@dataclass(frozen=True)
class BackTest:
    """What the curve would have said of the largest subset, had it been fitted without it.

    Attributes:
      images: in the largest subset.
      predicted, measured: accuracy, both as geometric means of the error over replicates.
      miss: measured minus predicted log error, on average over replicates.
      step: logarithm of the ratio between the largest subset and the one before it.
    """

    images: float
    predicted: float
    measured: float
    miss: float
    step: float


@dataclass(frozen=True)
class LearningCurve:
    """A power law for each replicate, fitted to its test errors at all sizes.

    Attributes:
      images: sizes of the subsets, ascending.
      measured: test accuracies.
      intercepts, slopes: of log error against log images, by replicate.
    """

    images: tuple[float, ...]
    measured: Float[np.ndarray, "replicates sizes"]
    intercepts: Float[np.ndarray, "replicates"]
    slopes: Float[np.ndarray, "replicates"]
    forecasts: tuple[Forecast, ...]
    back_test: BackTest

    @property
    def replicates(self) -> int:
        return len(self.slopes)

    @property
    def slope(self) -> float:
        """Mean exponent of the power law: doubling the images multiplies the error by 2 to this."""
        return float(self.slopes.mean())

    def at(self, images: Float[np.ndarray, "points"]) -> Float[np.ndarray, "points"]:
        """Accuracy on the fitted curve."""
        return _accuracy(_line(self.intercepts, self.slopes, np.log(images)).mean(axis=0))


def learning_curve(
    images: Sequence[float],
    accuracy: Float[np.ndarray, "replicates sizes"],
    n_test: float,
    factors: Sequence[float] = FACTORS,
    level: float = 0.95,
) -> LearningCurve:
    """Fits log error = a + b log n for each replicate by least squares, and extends the lines.

    All sizes are fitted. The interval is the t prediction interval over the replicates' own extensions (so
    that all that sets replicates apart is counted, with the noise of one measurement), as wide at least as
    the back-test's miss, which is taken to grow with the logarithm of how far a line is extended: a law
    that has not held up to the largest subset is not trusted beyond it.

    Args:
      images: training images in all, one number a size, in any order; of equal ones the first counts.
      accuracy: share of `n_test` images that were classified correctly; replicates that lack a size (nan)
        are left out, so that all lines are fitted to the same sizes.
      n_test: test images of a replicate; 1/2 is added to the wrong ones and 1 to all, so that no error is 0.

    Raises:
      NotEnoughData: fewer than three sizes or two replicates, or hardly an error left; the text says which.
    """
    sizes, columns = np.unique(np.asarray(images, float), return_index=True)
    table = np.asarray(accuracy, float).reshape(-1, len(images))[:, columns]
    table = table[np.isfinite(table).all(axis=1)]
    if len(sizes) < _FEWEST_SIZES:
        raise NotEnoughData(
            f"a curve needs accuracies with at least {_FEWEST_SIZES} numbers of images, and there are {len(sizes)}"
        )
    if len(table) < _FEWEST_REPLICATES:
        raise NotEnoughData(
            f"how far a curve can be off needs at least {_FEWEST_REPLICATES} replicates with every number of "
            f"images, and there are {len(table)}"
        )
    if (wrong := float((1 - table[:, -1]).mean()) * n_test) < _FEWEST_WRONG:
        raise NotEnoughData(
            f"with the most images {wrong:.1f} of {n_test:g} test images are wrong on average, so that a further gain "
            "could not be measured"
        )
    x, y = np.log(sizes), np.log(((1 - table) * n_test + 0.5) / (n_test + 1))
    lines = _Lines(x, y, n_test)
    back_test = _back_test(x, y)
    forecasts = tuple(_forecast(lines, back_test, factor, level) for factor in factors)
    return LearningCurve(
        tuple(map(float, sizes)), table, lines.intercepts, lines.slopes, forecasts, back_test
    )


def _fit(
    x: Float[np.ndarray, "sizes"], y: Float[np.ndarray, "replicates sizes"]
) -> tuple[Float[np.ndarray, "replicates"], Float[np.ndarray, "replicates"]]:
    """Intercepts and slopes of the least-squares lines."""
    centred = x - x.mean()
    slopes = y @ centred / (centred @ centred)
    return y.mean(axis=1) - slopes * x.mean(), slopes


def _line(
    intercepts: np.ndarray, slopes: np.ndarray, x: np.ndarray
) -> Float[np.ndarray, "replicates points"]:
    return intercepts[:, None] + slopes[:, None] * np.atleast_1d(x)


def _accuracy(log_error: np.ndarray) -> np.ndarray:
    return np.clip(1 - np.exp(log_error), 0.0, 1.0)


def _back_test(x: np.ndarray, y: np.ndarray) -> BackTest:
    predicted = _line(*_fit(x[:-1], y[:, :-1]), x[-1])[:, 0]
    miss = float((y[:, -1] - predicted).mean())
    said, seen = (float(_accuracy(values.mean())) for values in (predicted, y[:, -1]))
    return BackTest(float(np.exp(x[-1])), said, seen, miss, float(x[-1] - x[-2]))


class _Lines:
    """One line for each replicate, and how points scatter about them."""

    def __init__(
        self, x: Float[np.ndarray, "sizes"], y: Float[np.ndarray, "replicates sizes"], n_test: float
    ) -> None:
        self.x, self.n_test = x, n_test
        self.intercepts, self.slopes = _fit(x, y)
        left = y - _line(self.intercepts, self.slopes, x)
        self.scatter = float((left**2).sum()) / (len(y) * (len(x) - 2))

    def at(self, place: float) -> Float[np.ndarray, "replicates"]:
        return _line(self.intercepts, self.slopes, np.array(place))[:, 0]

    def added(self, place: float) -> float:
        """Variance of a measurement about its line beyond that of the line itself; 0 where the line's is larger.

        A measurement scatters as those that were fitted, or as counts on `n_test` images where these are more.
        """
        centred = self.x - self.x.mean()
        leverage = 1 / len(self.x) + (place - self.x.mean()) ** 2 / float(centred @ centred)
        error = min(1.0, math.exp(float(self.at(place).mean())))
        wrong = max(0.0, error * (self.n_test + 1) - 0.5)
        counting = wrong * (1 - error) / (wrong + 0.5) ** 2  # of log(wrong + 1/2), wrong being binomial
        return max(0.0, max(self.scatter, counting) - leverage * self.scatter)


def _forecast(lines: _Lines, back_test: BackTest, factor: float, level: float) -> Forecast:
    place = float(lines.x[-1]) + math.log(factor)
    ends = lines.at(place)
    m, middle = len(ends), float(ends.mean())
    apart = float(stats.t.ppf((1 + level) / 2, m - 1) * ends.std(ddof=1) * math.sqrt(1 + 1 / m))
    added = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(lines.added(place))
    by_replicates = math.hypot(apart, added)
    by_model = abs(back_test.miss) * max(1.0, math.log(factor) / back_test.step)
    half = max(by_replicates, by_model)
    low, said, high = (float(_accuracy(np.array(middle + side * half))) for side in (1, 0, -1))
    images = float(np.exp(place))
    return Forecast(factor, images, said, Interval(low, high, level), by_model > by_replicates)
