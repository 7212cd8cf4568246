"""Accuracy against the number of labelled images, and what it should be with more of them.

The test error of a net falls with the number n of training images as a power law, error = a n^b with b < 0,
over the range between too few images for anything to be learned and the error that nothing removes
(Figueroa et al. 2012, Predicting sample size required for classification performance; Hestness et al. 2017,
Deep learning scaling is predictable, empirically). In logarithms that is a line. Where the floor lies cannot be
read off a few sizes, so intervals reach down to what those floors say that the errors do not exclude.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from convtl.analysis.cells import NotEnoughData
from convtl.analysis.statistics import Interval

FACTORS = (2.0, 4.0)
"""Times the images of the largest subset."""
_FEWEST_SIZES = 3
"""Two give a line, a third says how far it can be trusted."""
_FEWEST_REPLICATES = 2
_STEEPEST = -1.0
"""Exponent above a floor: errors of estimation fall as 1/n at best, so a steeper fall is not looked for."""
_EXPONENTS = 25
"""Tried between that of the power law and the steepest."""
_FEWEST_WRONG = 1.0
"""Test images: below it nearly all of an error is the half image that is added."""


class TooFewSizes(NotEnoughData):
    """Too few numbers of images, or replicates that have them all, for a curve."""


@dataclass(frozen=True)
class Forecast:
    """What is expected of a net that is tuned on more images than there are.

    Attributes:
      factor, images: times the largest subset, and how many images that is.
      accuracy: if the power law goes on; on average over replicates (geometric mean of their errors).
      interval: of the accuracy of one further replicate; its lower end holds with a floor of the error, too.
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

    All sizes are fitted. The interval is the t prediction interval over the replicates' own extensions (so that
    all that sets replicates apart is counted), with the binomial noise of a test. That noise is always added:
    where replicates share their test images it is nothing that sets them apart, and yet it is in all of them. The
    interval is as wide at least as the back-test's miss, which is taken to grow with the logarithm of how far a
    line is extended: a law that has not held up to the largest subset is not trusted beyond it. Its lower end goes
    down to where a power law with a floor would end (`_Floors`): a line is too hopeful by 1 to 3 points
    where .10 to .15 of the error stays whatever the number of images. In simulations intervals of .95 hold the true
    accuracy with twice and four times the images in .98 or more of all draws, with and without such floors.

    Args:
      images: training images in all, one number a size, in any order; of equal ones the first counts.
      accuracy: share of `n_test` images that were classified correctly; replicates that lack a size (nan)
        are left out, so that all lines are fitted to the same sizes.
      n_test: test images of a replicate; 1/2 is added to the wrong ones and 1 to all, so that no error is 0.

    Raises:
      TooFewSizes: fewer than three sizes or two replicates; the text says which.
      NotEnoughData: hardly an error left.
    """
    sizes, columns = np.unique(np.asarray(images, float), return_index=True)
    table = np.asarray(accuracy, float).reshape(-1, len(images))[:, columns]
    table = table[np.isfinite(table).all(axis=1)]
    if len(sizes) < _FEWEST_SIZES:
        raise TooFewSizes(
            f"a curve needs accuracies with at least {_FEWEST_SIZES} numbers of images, and there are {len(sizes)}"
        )
    if len(table) < _FEWEST_REPLICATES:
        raise TooFewSizes(
            f"how far a curve can be off needs at least {_FEWEST_REPLICATES} replicates with every number of "
            f"images, and there are {len(table)}"
        )
    if (wrong := float((1 - table[:, -1]).mean()) * n_test) < _FEWEST_WRONG:
        raise NotEnoughData(
            f"with the most images {wrong:.1f} of {n_test:g} test images are wrong on average, so that a further gain "
            "could not be measured"
        )
    x, y = np.log(sizes), np.log(((1 - table) * n_test + 0.5) / (n_test + 1))
    lines, floors = _Lines(x, y, n_test), _Floors(x, y, level)
    back_test = _back_test(x, y)
    forecasts = tuple(_forecast(lines, floors, back_test, factor, level) for factor in factors)
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
    said, seen = (float(_accuracy(np.asarray(values.mean()))) for values in (predicted, y[:, -1]))
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
        """Variance about its line of a log error measured on `n_test` images, beyond that of the line itself.

        At least that of counts: lines whose replicates share the test images do not scatter by it. More where
        points scatter more than that.
        """
        centred = self.x - self.x.mean()
        leverage = 1 / len(self.x) + (place - self.x.mean()) ** 2 / float(centred @ centred)
        error = min(1.0, math.exp(float(self.at(place).mean())))
        wrong = max(0.0, error * (self.n_test + 1) - 0.5)
        counting = (
            wrong * (1 - error) / (wrong + 0.5) ** 2
        )  # of log(wrong + 1/2), wrong being binomial
        return max(counting, (1 - leverage) * self.scatter)


class _Floors:
    """Laws with an error that no images remove, error = c + a n^b with a, c >= 0, that fit the replicates' mean.

    Figueroa et al. (2012) fit this law. From few sizes its numbers are hardly known, so all exponents from that
    of the power law (c = 0) to `_STEEPEST` are tried. For each, c and a are the least squares of relative errors.
    An exponent is kept (`kept`) if the log errors do not tell it from the best one: its sum of squares exceeds the
    smallest by no more than the F quantile times the variance of a mean (of what is left of the replicates' log
    errors after effects of replicate and size, which is no law's).
    """

    def __init__(
        self, x: Float[np.ndarray, "sizes"], y: Float[np.ndarray, "replicates sizes"], level: float
    ) -> None:
        self.last = float(x[-1])
        self.spread = float(y.mean(axis=1).std(ddof=1))  # between replicates
        mean = y.mean(axis=0)
        _, (slope,) = _fit(x, mean[None])
        start = min(float(slope), -0.01)  # an error that does not fall is a floor alone
        self.exponents = np.linspace(start, min(_STEEPEST, start), _EXPONENTS)
        powers = np.exp(np.outer(self.exponents, x - self.last))
        self.floors, self.scales = _floor_and_scale(powers, np.exp(mean))
        fitted = np.log(self.floors[:, None] + self.scales[:, None] * powers)
        squares = ((mean - fitted) ** 2).sum(axis=1)
        left = y - mean - y.mean(axis=1, keepdims=True) + y.mean()
        freedom = (len(y) - 1) * (len(x) - 1)
        noise = float((left**2).sum()) / freedom / len(y)
        self.best = int(squares.argmin())
        self.kept = squares <= squares[self.best] + stats.f.ppf(level, 1, freedom) * noise

    def at(self, place: float) -> tuple[float, float]:
        """Log error by the best law, and by the least hopeful one of those that are kept."""
        found = np.log(self.floors + self.scales * np.exp(self.exponents * (place - self.last)))
        return float(found[self.best]), float(found[self.kept].max())


def _floor_and_scale(
    powers: Float[np.ndarray, "exponents sizes"], error: Float[np.ndarray, "sizes"]
) -> tuple[Float[np.ndarray, "exponents"], Float[np.ndarray, "exponents"]]:
    """Least squares of (c + a power) / error - 1 with c, a >= 0, for each exponent."""
    one, power = 1 / error, powers / error
    both, power2, one2 = power @ one, (power**2).sum(axis=1), float(one @ one)
    determinant = one2 * power2 - both**2
    floor = (one.sum() * power2 - power.sum(axis=1) * both) / determinant
    scale = (power.sum(axis=1) * one2 - one.sum() * both) / determinant
    scale = np.where(floor < 0, power.sum(axis=1) / power2, scale)  # the law without a floor
    floor = np.where(scale < 0, one.sum() / one2, np.maximum(floor, 0.0))  # the floor without a law
    return floor, np.maximum(scale, 0.0)


def _forecast(
    lines: _Lines, floors: _Floors, back_test: BackTest, factor: float, level: float
) -> Forecast:
    place = float(lines.x[-1]) + math.log(factor)
    ends = lines.at(place)
    m, middle = len(ends), float(ends.mean())
    student = float(stats.t.ppf((1 + level) / 2, m - 1)) * math.sqrt(1 + 1 / m)
    added = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(lines.added(place))
    by_replicates = math.hypot(student * float(ends.std(ddof=1)), added)
    by_model = abs(back_test.miss) * max(1.0, math.log(factor) / back_test.step)
    half = max(by_replicates, by_model)
    best, worst = floors.at(place)
    with_floor = best + math.hypot(worst - best, student * floors.spread, added)
    ends_of = (max(middle + half, with_floor), middle, middle - half)
    low, said, high = (float(_accuracy(np.array(end))) for end in ends_of)
    images = float(np.exp(place))
    return Forecast(factor, images, said, Interval(low, high, level), by_model > by_replicates)
