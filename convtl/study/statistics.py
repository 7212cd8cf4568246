"""The tests and intervals of a study: exact over paired replicates, wherever that can be counted out.

Every function takes one number per replicate (or one row per replicate) and nothing else: how the
numbers come about is in `arms.py` and `principles.py`. Values are in logits unless a caller says so.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy import stats

from convtl.keys import generator

EXACT = 20
"""Up to this many replicates all 2^m sign flips are counted; beyond it they are drawn."""
DRAWS = 100_000
"""Sign flips (or subsets) drawn where they are not counted."""
BOOTSTRAP = 2_000
"""Bootstrap draws of whole replicates."""
EPSILON = 0.2
"""A depth suffices when it is within this many logits of the best."""


@dataclass(frozen=True)
class Interval:
    """A closed interval and the level that it attains (not the one that was asked for)."""

    low: float
    high: float
    level: float

    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Estimate:
    """A mean over replicates with its sign-flip interval and exact two-sided p."""

    effect: float
    interval: Interval
    p: float
    m: int


def logit_accuracy(accuracy: ArrayLike, n_test: ArrayLike) -> np.ndarray:
    """logit((correct + 1/2) / (N + 1)): finite for 0 and for N correct of N.

    Args:
      accuracy: share of N test images that were classified correctly, in [0, 1].
      n_test: N.
    """
    total = np.asarray(n_test, float)
    correct = np.asarray(accuracy, float) * total
    return np.log(correct + 0.5) - np.log(total - correct + 0.5)


# --- one contrast -----------------------------------------------------------------------------------


def sign_flip_p(values: ArrayLike) -> float:
    """Two-sided p of the sign-flip test that the values are symmetric about 0 (statistic: |mean|).

    Exact up to `EXACT` replicates (its floor is 2 / 2^m); beyond, `DRAWS` flips of a fixed generator,
    the observed one counted among them.
    """
    x = _vector(values)
    observed = abs(x.sum()) - 1e-9 * np.abs(x).sum()  # ties of the observed sum count, whatever was rounded
    if len(x) <= EXACT:
        sums = x[:1]  # the other half of the flips mirrors this one
        for value in x[1:]:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= observed))
    hits = sum(int((np.abs(signs @ x) >= observed).sum()) for signs in _drawn_signs(len(x)))
    return (1 + hits) / (1 + DRAWS)


def sign_flip_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """All means that the sign-flip test does not reject (inversion through subset means, Hartigan 1969).

    The p of a mean mu below the observed one is 2 (1 + number of non-empty subsets whose mean is <= mu)
    / 2^m, so the ends are order statistics of the 2^m - 1 subset means. At m=6 the ends for .95 are the
    smallest and the largest value, level 96.9 %. Where m is too small for `level` the interval is the
    range, and the level that is returned is below what was asked for (m=5: 93.8 %; m=1: 0).
    """
    x = _vector(values)
    means, flips = _subset_means(x)
    rank = max(1, math.floor((1 - level) * flips / 2 + 1e-9))
    ordered = np.partition(means, [rank - 1, len(means) - rank])
    attained = max(0.0, 1 - 2 * rank / flips)
    return Interval(float(ordered[rank - 1]), float(ordered[len(means) - rank]), attained)


def estimate(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean, interval and p of one contrast."""
    x = _vector(values)
    return Estimate(float(x.mean()), sign_flip_interval(x, level), sign_flip_p(x), len(x))


def equivalent(values: ArrayLike, delta: float) -> bool:
    """True if an interval of level at least 90 % lies inside +-delta (two one-sided tests at .05)."""
    found = sign_flip_interval(values, 0.9)
    return found.level >= 0.9 - 1e-9 and -delta < found.low and found.high < delta


def replicates_to_decide(
    values: ArrayLike, delta: float, *, alpha: float = 0.05, power: float = 0.8, ceiling: int = 1000
) -> int | None:
    """About how many replicates would decide a contrast that goes on as it began.

    Decided means: different from 0 at `alpha`, or within +-delta at .05 a side, whichever needs fewer;
    normal approximation at the observed mean and spread, and never below the floor 2 / 2^m <= alpha.

    Returns:
      The number, or None if the spread is unknown (one replicate) or more than `ceiling` would be needed.
    """
    x = _vector(values)
    if len(x) < 2:
        return None
    spread, effect = float(x.std(ddof=1)), abs(float(x.mean()))
    if effect < delta:
        null = stats.norm.ppf(0.95) + stats.norm.ppf((1 + power) / 2)
        needed = [(null * spread / (delta - effect)) ** 2]
    else:
        needed = []
    if effect > 0:
        needed.append(((stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)) * spread / effect) ** 2)
    floor = math.ceil(math.log2(2 / alpha))
    decided = max(floor, math.ceil(min(needed, default=math.inf))) if needed else ceiling + 1
    return decided if decided <= ceiling else None


# --- several contrasts ------------------------------------------------------------------------------


def holm(p: ArrayLike) -> np.ndarray:
    """Holm's step-down adjustment of p values, in the order given."""
    raw = np.asarray(p, float)
    order = np.argsort(raw, kind="stable")
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(raw[order] * (len(raw) - np.arange(len(raw)))))
    return adjusted


def max_t(values: Float[np.ndarray, "contrasts replicates"]) -> Float[np.ndarray, "contrasts"]:
    """Step-down max-T p values under joint sign flips of whole replicates (Westfall & Young 1993).

    The statistic |sum x| / sqrt(sum x^2) has unit variance under flips for every contrast. NaN marks a
    replicate that a contrast lacks; a contrast without any value gets NaN.
    """
    x = np.asarray(values, float)
    present = np.isfinite(x).any(axis=1)
    filled = np.where(np.isfinite(x), x, 0.0)[present]
    scale = np.sqrt((filled**2).sum(axis=1, keepdims=True))
    unit = np.divide(filled, scale, out=np.zeros_like(filled), where=scale > 0)
    adjusted = np.full(len(x), np.nan)
    if len(unit):
        adjusted[present] = _step_down(unit)
    return adjusted


def _step_down(unit: np.ndarray) -> np.ndarray:
    observed = np.abs(unit.sum(axis=1))
    order = np.argsort(-observed, kind="stable")
    hits, total = np.zeros(len(unit)), 0
    exact = unit.shape[1] <= EXACT
    for signs in _all_signs(unit.shape[1]) if exact else _drawn_signs(unit.shape[1]):
        flipped = np.abs(signs @ unit[order].T)
        # the largest of the contrasts that are not yet rejected when this one's turn comes
        largest = np.maximum.accumulate(flipped[:, ::-1], axis=1)[:, ::-1]
        hits += (largest >= observed[order] - 1e-9).sum(axis=0)
        total += len(signs)
    p = hits / total if exact else (1 + hits) / (1 + total)
    adjusted = np.empty(len(unit))
    adjusted[order] = np.maximum.accumulate(p)
    return adjusted


# --- bootstrap and the depth that suffices ----------------------------------------------------------


def resamples(m: int, draws: int = BOOTSTRAP) -> Int[np.ndarray, "draws replicates"]:
    """Indices of whole replicates, the same for every arm that has m of them (so draws are joint)."""
    return generator(0, "bootstrap", m).integers(0, m, (draws, m))


def bootstrap_interval(
    values: Float[np.ndarray, "replicates ..."], level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of the mean over replicates: for pictures only (it undercovers at small m).

    Returns:
      Lower and upper ends, each of the shape of one replicate.
    """
    x = np.asarray(values, float)
    means = x[resamples(len(x))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def sufficient_depth(z: Float[np.ndarray, "... depths"], eps: float = EPSILON) -> Int[np.ndarray, "..."]:
    """Position of the first (smallest) depth whose score is within eps of the best."""
    z = np.asarray(z, float)
    return np.argmax(z >= z.max(axis=-1, keepdims=True) - eps, axis=-1)


def depth_distribution(
    z: Float[np.ndarray, "replicates depths"], eps: float = EPSILON
) -> Float[np.ndarray, "depths"]:
    """P(d* = k) over bootstrap draws of replicates; d* = smallest depth within eps of the best mean."""
    z = np.asarray(z, float)
    chosen = sufficient_depth(z[resamples(len(z))].mean(axis=1), eps)
    return np.bincount(chosen, minlength=z.shape[1]) / len(chosen)


def half_split_depths(
    z: Float[np.ndarray, "replicates depths"], eps: float = EPSILON
) -> tuple[Float[np.ndarray, "depths"], float] | None:
    """d* chosen on one half of the replicates and scored on the other, over all half-splits.

    Returns:
      P(d* = k) over splits, and the mean score of the chosen depth on the half that did not choose it
      (free of the winner's curse); None below 4 replicates or above 12.
    """
    z = np.asarray(z, float)
    m = len(z)
    if not 4 <= m <= 12:
        return None
    member = np.zeros((math.comb(m, m // 2), m), bool)
    for row, half in enumerate(itertools.combinations(range(m), m // 2)):
        member[row, list(half)] = True
    chosen = sufficient_depth(member @ z / (m // 2), eps)
    others = ~member @ z / (m - m // 2)
    share = np.bincount(chosen, minlength=z.shape[1]) / len(chosen)
    return share, float(others[np.arange(len(chosen)), chosen].mean())


def interquartile_mean(values: ArrayLike) -> float:
    """Mean of the middle half (Agarwal et al. 2021): a quarter is cut on each side, rounded down."""
    return float(stats.trim_mean(_vector(values), 0.25))


# --- counting ---------------------------------------------------------------------------------------


def _vector(values: ArrayLike) -> np.ndarray:
    x = np.asarray(values, float)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"one finite number per replicate is needed, got shape {x.shape}: {x}")
    return x


def _subset_means(x: np.ndarray) -> tuple[np.ndarray, int]:
    """Means of the non-empty subsets, all or drawn, and how many flips they stand for."""
    if len(x) > EXACT:
        chosen = generator(0, "subsets", len(x)).random((DRAWS, len(x))) < 0.5
        chosen = chosen[chosen.any(axis=1)]
        return chosen @ x / chosen.sum(axis=1), len(chosen) + 1
    sums, counts = np.zeros(1), np.zeros(1)
    for value in x:
        sums, counts = np.concatenate([sums, sums + value]), np.concatenate([counts, counts + 1])
    return sums[1:] / counts[1:], 2 ** len(x)


def _all_signs(m: int, rows: int = 2**15) -> Iterator[np.ndarray]:
    """Chunks of the 2^(m-1) sign vectors that begin with +1 (their mirrors give the same statistics)."""
    for start in range(0, 2 ** (m - 1), rows):
        codes = np.arange(start, min(start + rows, 2 ** (m - 1)))
        yield 1.0 - 2.0 * (codes[:, None] >> np.arange(m) & 1)[:, ::-1]


def _drawn_signs(m: int, rows: int = 10_000) -> Iterator[np.ndarray]:
    """Chunks of `DRAWS` random sign vectors."""
    draw = generator(0, "signs", m)
    for _ in range(DRAWS // rows):
        yield draw.choice([-1.0, 1.0], (rows, m))
