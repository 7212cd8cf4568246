"""The sign-flip test of one contrast, its inversion, and tests against a margin.

One number per replicate goes in; all flips are counted wherever they can be. The test assumes that the
numbers are symmetric about what is tested; how it fares where they are not is in `experiments/calibration`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import stats

from convtl.keys import generator

EXACT = 20
"""Up to this many replicates all 2^m sign flips are counted; beyond it they are drawn."""
DRAWS = 100_000
"""Sign flips (or subsets) drawn where they are not counted."""
_NUMBERS = 6
"""Numbers of replicates whose draws are kept: arms lack a few of a study's replicates, each others."""
_TOGETHER = 64
"""Contrasts that are computed at once: 50 MB of subset means."""


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


def sign_flip_p(values: ArrayLike) -> float:
    """Two-sided p of the sign-flip test that the values are symmetric about 0 (statistic: |mean|).

    Exact up to `EXACT` replicates (its floor is 2 / 2^m); beyond, `DRAWS` flips of a fixed generator,
    the observed one counted among them.
    """
    x = vector(values)
    observed = (
        abs(x.sum()) - 1e-9 * np.abs(x).sum()
    )  # ties of the observed sum count, whatever was rounded
    if len(x) <= EXACT:
        sums = x[:1]  # the other half of the flips mirrors this one
        for value in x[1:]:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= observed))
    hits = sum(int((np.abs(signs @ x) >= observed).sum()) for signs in drawn_signs(len(x)))
    return (1 + hits) / (1 + DRAWS)


def sign_flip_ps(
    values: Float[np.ndarray, "studies replicates"], side: Literal["both", "greater"] = "both"
) -> Float[np.ndarray, "studies"]:
    """`sign_flip_p` of many studies at once; `greater` gives the one-sided p against means below 0."""
    x = np.asarray(values, float)
    observed = (x.sum(1) if side == "greater" else np.abs(x.sum(1))) - 1e-9 * np.abs(x).sum(1)
    hits, total = np.zeros(len(x)), 0
    exact = x.shape[1] <= EXACT
    rows = max(1, 2**22 // max(1, len(x)))
    for signs in all_signs(x.shape[1], rows) if exact else drawn_signs(x.shape[1]):
        sums = x @ signs.T
        if side == "both":
            hits += (np.abs(sums) >= observed[:, None]).sum(1)
        else:  # a vector of signs and its mirror
            hits += ((sums >= observed[:, None]).sum(1) + (-sums >= observed[:, None]).sum(1)) / 2
        total += len(signs)
    return hits / total if exact else (1 + hits) / (1 + total)


def sign_flip_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """All means that the sign-flip test does not reject (inversion through subset means, Hartigan 1969).

    The p of a mean mu below the observed one is 2 (1 + number of non-empty subsets whose mean is <= mu)
    / 2^m, so the ends are order statistics of the 2^m - 1 subset means. At m=6 the ends for .95 are the
    smallest and the largest value, level 96.9 %. Where m is too small for `level` the interval is the
    range, and the level that is returned is below what was asked for (m=5: 93.8 %; m=1: 0).
    """
    x = vector(values)
    return _inverted(*_subset_means(x), level)


def _inverted(means: np.ndarray, flips: int, level: float) -> Interval:
    """The interval whose ends are order statistics of subset means."""
    rank = max(1, math.floor((1 - level) * flips / 2 + 1e-9))
    ordered = np.partition(means, [rank - 1, len(means) - rank])
    attained = max(0.0, 1 - 2 * rank / flips)
    return Interval(float(ordered[rank - 1]), float(ordered[len(means) - rank]), attained)


def estimate(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean, interval and p of one contrast."""
    x = vector(values)
    return Estimate(float(x.mean()), sign_flip_interval(x, level), sign_flip_p(x), len(x))


def estimates(contrasts: Sequence[ArrayLike], level: float = 0.95) -> list[Estimate]:
    """`estimate` of each; contrasts with as many replicates share the draws, where flips are drawn."""
    vectors = [vector(values) for values in contrasts]
    found: dict[int, Estimate] = {}
    for m in {len(x) for x in vectors if len(x) > EXACT}:
        alike = [place for place, x in enumerate(vectors) if len(x) == m]
        for first in range(0, len(alike), _TOGETHER):
            places = alike[first : first + _TOGETHER]
            drawn = _drawn_estimates(np.stack([vectors[place] for place in places]), level)
            found |= dict(zip(places, drawn, strict=True))
    return [
        found[place] if place in found else estimate(x, level) for place, x in enumerate(vectors)
    ]


def _drawn_estimates(x: Float[np.ndarray, "contrasts replicates"], level: float) -> list[Estimate]:
    chosen = _drawn_subsets(x.shape[1])
    means, first = np.empty((len(x), len(chosen))), 0
    for part in np.array_split(chosen, 50):  # few enough to lie in the processor's cache
        taken = part.astype(float)
        means[:, first : first + len(part)] = x @ taken.T / taken.sum(axis=1)
        first += len(part)
    ps = sign_flip_ps(x)
    return [
        Estimate(float(own.mean()), _inverted(subsets, len(chosen) + 1, level), float(p), len(own))
        for own, subsets, p in zip(x, means, ps, strict=True)
    ]


# --- margins ----------------------------------------------------------------------------------------


def shifted_p(
    values: ArrayLike, margin: float, direction: Literal["positive", "negative"]
) -> float:
    """p that the mean lies beyond a margin: above it (`positive`) or below it (`negative`).

    The margin keeps its own sign: a mean above -0.2 is `shifted_p(values, -0.2, "positive")`. The p is
    the two-sided one of the sign-flip test of `values - margin` where the mean lies on the declared side,
    else 1. So p <= alpha exactly where the two-sided interval of level 1 - alpha lies wholly beyond the
    margin, and the chance of a wrong p <= alpha is at most alpha / 2: nothing is gained by naming a side.
    """
    sign = {"positive": 1.0, "negative": -1.0}[direction]
    beyond = sign * (vector(values) - margin)
    return sign_flip_p(beyond) if beyond.sum() > 0 else 1.0


def equivalent(values: ArrayLike, delta: float) -> bool:
    """True if an interval of level at least 90 % lies inside +-delta (two one-sided tests at .05)."""
    found = sign_flip_interval(values, 0.9)
    return found.level >= 0.9 - 1e-9 and -delta < found.low and found.high < delta


def equivalence_p(values: ArrayLike, delta: float) -> float:
    """The smallest alpha at which the sign-flip interval of level 1 - 2 alpha lies inside +-delta.

    That is the larger p of the two one-sided tests (Schuirmann 1987) of mean <= -delta and of
    mean >= delta, each inverted from subset means as in `sign_flip_interval`; its floor is 1 / 2^m.
    `equivalent` is `equivalence_p <= 0.05`.
    """
    means, flips = _subset_means(vector(values))
    return float(1 + max((means <= -delta).sum(), (means >= delta).sum())) / flips


def replicates_to_decide(
    values: ArrayLike, delta: float, *, alpha: float = 0.05, power: float = 0.8, ceiling: int = 1000
) -> int | None:
    """About how many replicates would decide a contrast that goes on as it began.

    Decided means: different from 0 at `alpha`, or within +-delta at .05 a side, whichever needs fewer;
    normal approximation at the observed mean and spread, and never below the floor 2 / 2^m <= alpha.

    Returns:
      The number, or None if the spread is unknown (one replicate) or more than `ceiling` would be needed.
    """
    x = vector(values)
    if len(x) < 2:
        return None
    spread, effect = float(x.std(ddof=1)), abs(float(x.mean()))
    if effect < delta:
        null = stats.norm.ppf(0.95) + stats.norm.ppf((1 + power) / 2)
        needed = [(null * spread / (delta - effect)) ** 2]
    else:
        needed = []
    if effect > 0:
        needed.append(
            ((stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)) * spread / effect) ** 2
        )
    floor = math.ceil(math.log2(2 / alpha))
    decided = max(floor, math.ceil(min(needed, default=math.inf))) if needed else ceiling + 1
    return decided if decided <= ceiling else None


# --- counting ---------------------------------------------------------------------------------------


def vector(values: ArrayLike) -> np.ndarray:
    """One finite number per replicate, or a ValueError."""
    x = np.asarray(values, float)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"one finite number per replicate is needed, got shape {x.shape}: {x}")
    return x


def _subset_means(x: np.ndarray) -> tuple[np.ndarray, int]:
    """Means of the non-empty subsets, all or drawn, and how many flips they stand for."""
    if len(x) > EXACT:
        chosen = _drawn_subsets(len(x))
        return chosen @ x / chosen.sum(axis=1), len(chosen) + 1
    sums, counts = np.zeros(1), np.zeros(1)
    for value in x:
        sums, counts = np.concatenate([sums, sums + value]), np.concatenate([counts, counts + 1])
    return sums[1:] / counts[1:], 2 ** len(x)


@lru_cache(_NUMBERS)
def _drawn_subsets(m: int) -> np.ndarray:
    """The same for every contrast of m replicates, and slow to draw."""
    chosen = generator(0, "subsets", m).random((DRAWS, m)) < 0.5
    return _kept(chosen[chosen.any(axis=1)])


@lru_cache(_NUMBERS)
def _drawn_signs(m: int, rows: int) -> tuple[np.ndarray, ...]:
    draw = generator(0, "signs", m)
    return tuple(
        _kept(draw.choice([-1.0, 1.0], (rows, m)).astype(np.int8)) for _ in range(DRAWS // rows)
    )


def _kept(draws: np.ndarray) -> np.ndarray:
    """An array that others are given too."""
    draws.flags.writeable = False
    return draws


def all_signs(m: int, rows: int = 2**15) -> Iterator[np.ndarray]:
    """Chunks of the 2^(m-1) sign vectors that begin with +1 (their mirrors give the same statistics)."""
    for start in range(0, 2 ** (m - 1), rows):
        codes = np.arange(start, min(start + rows, 2 ** (m - 1)))
        yield 1.0 - 2.0 * (codes[:, None] >> np.arange(m) & 1)[:, ::-1]


def drawn_signs(m: int, rows: int = 10_000) -> Iterator[np.ndarray]:
    """Chunks of `DRAWS` random sign vectors."""
    for signs in _drawn_signs(m, rows):
        yield signs.astype(float)
