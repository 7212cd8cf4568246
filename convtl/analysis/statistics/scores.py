"""Scores and how often they are high: logits, interquartile mean, performance profile, P(A > B)."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import stats

from convtl.analysis.statistics.choices import resamples
from convtl.analysis.statistics.sign_flip import Interval, vector


def logit_accuracy(accuracy: ArrayLike, n_test: ArrayLike) -> np.ndarray:
    """logit((correct + 1/2) / (N + 1)): finite for 0 and for N correct of N.

    Args:
      accuracy: share of N test images that were classified correctly, in [0, 1].
      n_test: N.
    """
    total = np.asarray(n_test, float)
    correct = np.asarray(accuracy, float) * total
    return np.log(correct + 0.5) - np.log(total - correct + 0.5)


def interquartile_mean(values: ArrayLike) -> float:
    """Mean of the middle half (Agarwal et al. 2021): a quarter is cut on each side, rounded down."""
    return float(stats.trim_mean(vector(values), 0.25))


def performance_profile(
    scores: Float[np.ndarray, "replicates tasks"],
    thresholds: Float[np.ndarray, "thresholds"],
    level: float = 0.95,
) -> tuple[
    Float[np.ndarray, "thresholds"],
    Float[np.ndarray, "thresholds"],
    Float[np.ndarray, "thresholds"],
]:
    """Share of runs that score above each threshold (Agarwal et al. 2021), over replicates and tasks.

    Scores of tasks must be on one scale: normalise them first (`normalised`). The band is the pointwise
    percentile bootstrap of whole replicates, for pictures only.

    Returns:
      The share, and the lower and upper end of its band.
    """
    x = np.asarray(scores, float)
    above = (x[:, :, None] > np.asarray(thresholds, float)).mean(axis=1)
    draws = above[resamples(len(x))].mean(axis=1)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return above.mean(axis=0), low, high


def normalised(scores: ArrayLike, floor: ArrayLike, ceiling: ArrayLike) -> np.ndarray:
    """(score - floor) / (ceiling - floor): 0 for, say, scratch and 1 for the best arm of a task.

    Raises:
      ValueError: a ceiling is not above its floor, so that the scale would be turned round or infinite.
    """
    low, high = np.asarray(floor, float), np.asarray(ceiling, float)
    if not (high > low).all():
        raise ValueError(f"every ceiling must be above its floor, got ceiling {high}, floor {low}")
    return (np.asarray(scores, float) - low) / (high - low)


def probability_of_improvement(
    a: ArrayLike, b: ArrayLike, level: float = 0.95
) -> tuple[float, Interval]:
    """P(A > B): share of replicates in which A is above B, half of the ties counted (Bouthillier et al. 2021).

    Paired, so differences between replicates do not blur it. The interval is the exact binomial one
    (Clopper & Pearson 1934; a bootstrap of so few wins undercovers): at m = 6, 6 wins give [0.54, 1].
    """
    difference = vector(np.asarray(a, float) - np.asarray(b, float))
    m, wins = len(difference), float((difference > 0).sum() + (difference == 0).sum() / 2)
    return wins / m, binomial_interval(wins, m, level)


def binomial_interval(hits: float, trials: int, level: float = 0.95) -> Interval:
    """Exact interval of a share (Clopper & Pearson 1934); covers at least at its level."""
    tail = (1 - level) / 2
    low = float(stats.beta.ppf(tail, hits, trials - hits + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return Interval(low, high, level)
