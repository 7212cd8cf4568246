"""Tests and intervals over paired replicates, exact where they can be counted.

Every function takes one number a replicate (or one row a replicate) and nothing else; values are in logits unless a
function says so. The sign-flip test takes the numbers to be symmetric about what is tested; for others, and for
attained levels on simulated studies, see experiments/calibration.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy import stats
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq, isotonic_regression

from convtl.keys import generator

EXACT = 20
"""Most replicates of which all 2^m sign flips are counted; else they are drawn."""
DRAWS = 100_000
"""Sign flips (or subsets) drawn where they are not counted."""
BOOTSTRAP = 2_000
"""Bootstrap draws of whole replicates."""
EPSILON = 0.2
"""A depth suffices when it is within this many logits of the best."""
Censored = Literal["", "left", "right"]
"""`left`: the value or less; `right`: the value or more."""
Direction = Literal["positive", "negative"]


@dataclass(frozen=True)
class Interval:
    """A closed interval and the level that it attains, not the nominal one."""

    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Estimate:
    """A mean over m replicates with its interval and two-sided p."""

    effect: float
    interval: Interval
    p: float
    m: int


def estimate(values: ArrayLike) -> Estimate:
    """Mean, sign-flip interval of 95 % and p of one contrast."""
    x = vector(values)
    return Estimate(float(x.mean()), sign_flip_interval(x), sign_flip_p(x), len(x))


def sign_flip_p(values: ArrayLike) -> float:
    """Two-sided p of symmetry about 0 (statistic: |mean|); at least 2 / 2^m."""
    return float(sign_flip_ps(vector(values)[None])[0])


def sign_flip_ps(
    values: Float[np.ndarray, "studies replicates"], side: Literal["both", "greater"] = "both"
) -> Float[np.ndarray, "studies"]:
    """`sign_flip_p` of many studies; `greater`: one-sided, for means above 0.

    Beyond `EXACT` replicates flips are drawn, and the observed one is counted among them.
    """
    x = np.asarray(values, float)
    # Sums that tie with the observed one count, however they were rounded.
    observed = (x.sum(1) if side == "greater" else np.abs(x.sum(1))) - 1e-9 * np.abs(x).sum(1)
    hits, total = np.zeros(len(x)), 0
    for signs in sign_vectors(x.shape[1], max(1, 2**22 // max(1, len(x)))):
        sums = x @ signs.T
        if side == "both":
            hits += (np.abs(sums) >= observed[:, None]).sum(1)
        else:  # a vector of signs and its mirror
            hits += ((sums >= observed[:, None]).sum(1) + (-sums >= observed[:, None]).sum(1)) / 2
        total += len(signs)
    return hits / total if x.shape[1] <= EXACT else (1 + hits) / (1 + total)


def sign_flip_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """All means that the sign-flip test does not reject.

    The p of a mean below the observed one is 2 (1 + number of non-empty subsets whose mean is not above it) / 2^m,
    so the ends are order statistics of subset means (Hartigan 1969). Where m is too small for `level` the interval
    is the range of the values, and the level that is returned is lower (m=5: 93.8 %; m=1: 0).
    """
    x = vector(values)
    if len(x) > EXACT:
        chosen = generator(0, "subsets", len(x)).random((DRAWS, len(x))) < 0.5
        chosen = chosen[chosen.any(axis=1)]
        means = chosen @ x / chosen.sum(axis=1)
    else:
        sums, counts = np.zeros(1), np.zeros(1)
        for value in x:
            sums = np.concatenate([sums, sums + value])
            counts = np.concatenate([counts, counts + 1])
        means = sums[1:] / counts[1:]
    flips = len(means) + 1
    rank = max(1, math.floor((1 - level) * flips / 2 + 1e-9))
    ordered = np.partition(means, [rank - 1, len(means) - rank])
    attained = max(0.0, 1 - 2 * rank / flips)
    return Interval(float(ordered[rank - 1]), float(ordered[len(means) - rank]), attained)


# --- margins ----------------------------------------------------------------------------------------


def one_sided_p(values: ArrayLike, margin: float, direction: Direction) -> float:
    """One-sided p that the mean is above a margin (`positive`) or below it."""
    sign = 1.0 if direction == "positive" else -1.0
    return float(sign_flip_ps(sign * (vector(values) - margin)[None], "greater")[0])


def shifted_p(values: ArrayLike, margin: float, direction: Direction) -> float:
    """Two-sided p that the mean lies beyond a margin; 1 on its other side.

    The margin keeps its own sign: a mean above -0.2 is `shifted_p(values, -0.2, "positive")`. p <= alpha just where
    the two-sided interval of level 1 - alpha lies beyond the margin.
    """
    beyond = float(vector(values).mean()) - margin
    if beyond == 0 or (beyond > 0) != (direction == "positive"):
        return 1.0
    return min(1.0, 2 * one_sided_p(values, margin, direction))


def equivalence_p(values: ArrayLike, delta: float) -> float:
    """Larger p of two one-sided tests of a mean in +-delta (Schuirmann 1987)."""
    x = vector(values)
    return max(one_sided_p(x, -delta, "positive"), one_sided_p(x, delta, "negative"))


def equivalent(values: ArrayLike, delta: float) -> bool:
    """Return whether a 90 % interval lies inside +-delta; never under 5 replicates."""
    return equivalence_p(values, delta) <= 0.05


def replicates_to_decide(
    values: ArrayLike, delta: float, *, alpha: float = 0.05, power: float = 0.8, ceiling: int = 1000
) -> int | None:
    """Estimate how many replicates would decide a contrast that goes on as it began.

    Decided means: different from 0 at `alpha`, or within +-delta at .05 a side, whichever needs fewer; normal
    approximation at the observed mean and spread, and never below the floor 2 / 2^m <= alpha.

    Returns:
      The number, or None if the spread is unknown (one replicate) or more than `ceiling` would be needed.
    """
    x = vector(values)
    if len(x) < 2:
        return None
    spread, effect = float(x.std(ddof=1)), abs(float(x.mean()))
    needed = []
    if effect < delta:
        null = stats.norm.ppf(0.95) + stats.norm.ppf((1 + power) / 2)
        needed.append((null * spread / (delta - effect)) ** 2)
    if effect > 0:
        normal = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)
        needed.append((normal * spread / effect) ** 2)
    if not needed or min(needed) > ceiling:
        return None
    return max(math.ceil(math.log2(2 / alpha)), math.ceil(min(needed)))


# --- several contrasts ------------------------------------------------------------------------------


def holm(p: ArrayLike) -> np.ndarray:
    """Holm's step-down adjustment of p values, in the order given."""
    raw = np.asarray(p, float)
    order = np.argsort(raw, kind="stable")
    rising = np.maximum.accumulate(raw[order] * (len(raw) - np.arange(len(raw))))
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(1, rising)
    return adjusted


def max_t(values: Float[np.ndarray, "contrasts replicates"]) -> Float[np.ndarray, "contrasts"]:
    """Step-down max-T p values under joint sign flips (Westfall & Young 1993).

    The statistic |sum x| / sqrt(sum x^2) has unit variance under flips for every contrast. NaN marks a replicate
    that a contrast lacks; a contrast without any value gets NaN.
    """
    x = np.asarray(values, float)
    present = np.isfinite(x).any(axis=1)
    known = np.where(np.isfinite(x), x, 0.0)[present]
    scale = np.sqrt((known**2).sum(axis=1, keepdims=True))
    unit = np.divide(known, scale, out=np.zeros_like(known), where=scale > 0)
    adjusted = np.full(len(x), np.nan)
    if len(unit):
        adjusted[present] = _step_down(unit)
    return adjusted


def _step_down(unit: np.ndarray) -> np.ndarray:
    observed = np.abs(unit.sum(axis=1))
    order = np.argsort(-observed, kind="stable")
    hits, total = np.zeros(len(unit)), 0
    for signs in sign_vectors(unit.shape[1]):
        flipped = np.abs(signs @ unit[order].T)
        # The largest of the contrasts that are not yet rejected when this one's turn comes.
        largest = np.maximum.accumulate(flipped[:, ::-1], axis=1)[:, ::-1]
        hits += (largest >= observed[order] - 1e-9).sum(axis=0)
        total += len(signs)
    p = hits / total if unit.shape[1] <= EXACT else (1 + hits) / (1 + total)
    adjusted = np.empty(len(unit))
    adjusted[order] = np.maximum.accumulate(p)
    return adjusted


# --- counting ---------------------------------------------------------------------------------------


def vector(values: ArrayLike) -> np.ndarray:
    """One finite number a replicate, or a ValueError."""
    x = np.asarray(values, float)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"one finite number per replicate is needed, got shape {x.shape}: {x}")
    return x


def sign_vectors(m: int, rows: int = 2**15) -> Iterator[np.ndarray]:
    """Yield chunks of sign vectors, without mirrored ones; beyond `EXACT` drawn ones."""
    if m > EXACT:
        draw = generator(0, "signs", m)
        for start in range(0, DRAWS, min(rows, 10_000)):
            yield draw.choice([-1.0, 1.0], (min(rows, 10_000, DRAWS - start), m))
        return
    for start in range(0, 2 ** (m - 1), rows):
        codes = np.arange(start, min(start + rows, 2 ** (m - 1)))
        yield 1.0 - 2.0 * (codes[:, None] >> np.arange(m) & 1)[:, ::-1]


# --- scores of arms ----------------------------------------------------------------------------


def logit_accuracy(accuracy: ArrayLike, n_test: ArrayLike) -> np.ndarray:
    """logit((correct + 1/2) / (N + 1)) of an accuracy on N test images, always finite."""
    total = np.asarray(n_test, float)
    correct = np.asarray(accuracy, float) * total
    return np.log(correct + 0.5) - np.log(total - correct + 0.5)


def student_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Student's t interval of the mean of m >= 2 values, taken as normal.

    For few replicates: sign flips assume less, and settle nothing at .05 with fewer than six.
    """
    x = vector(values)
    if len(x) < 2:
        raise ValueError(f"two or more replicates are needed, got {len(x)}")
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return Interval(float(x.mean()) - half, float(x.mean()) + half, level)


# --- slopes -----------------------------------------------------------------------------------------


def slope_per_replicate(
    x: ArrayLike, table: Float[np.ndarray, "replicates points"]
) -> Float[np.ndarray, "replicates"]:
    """Least-squares slope of each replicate's row on x (log2 n: a doubling)."""
    place, rows = vector(x), np.asarray(table, float)
    if rows.ndim != 2 or len(place) != rows.shape[1] or not np.ptp(place):
        raise ValueError(f"x: one number per point, two of them different, is needed, got {place}")
    centred = place - place.mean()
    return rows @ centred / (centred @ centred)


def slope_permutation(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> Estimate:
    """Slope of y on x over data sets, with p and interval by permuting the sets.

    So a small p is about sets like these, not only about further replicates of the same ones. Statistic: |slope|, over
    `DRAWS` permutations, the observed one counted among them; the interval holds the slopes b for which y - b x is not
    rejected.

    Args:
      x: one number a set, such as its distance from the source.
      y: one number a set, its replicates averaged.
    """
    place, score = vector(x), vector(y)
    effect = float(slope_per_replicate(place, score[None])[0])
    centred = place - place.mean()
    permuted = generator(0, "slope", len(place)).permuted(np.tile(centred, (DRAWS, 1)), axis=1)
    of_score, of_place, scale = permuted @ score, permuted @ place, float(centred @ centred)

    def p_of(slope: float) -> float:
        observed = abs(effect - slope) * scale
        return float(1 + (np.abs(of_score - slope * of_place) >= observed - 1e-9).sum()) / (
            1 + DRAWS
        )

    def end(sign: int) -> float:
        steps = sign * (np.ptp(score) or 1.0) / np.ptp(place) * 2.0 ** np.arange(10)
        far = next((step for step in steps if p_of(effect + step) < 1 - level), None)
        if far is None:  # so few sets that no slope is rejected
            return sign * math.inf
        return effect + float(brentq(lambda step: p_of(effect + step) - (1 - level), 0.0, far))

    return Estimate(effect, Interval(end(-1), end(1), level), p_of(0.0), len(place))


# --- data equivalents -------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataEquivalent:
    """Worth of transfer in labels: E = log2(n_scratch / n) (Hernandez et al. 2021).

    Attributes:
      log2_ratio: E (1: a doubling of the labels), or its bound where it is censored.
      censored: `right` if scratch is worse with its largest n (E is at least this), `left` if it is better with its
        smallest n (E is at most this), else empty.
    """

    log2_ratio: float
    censored: Censored


def data_equivalent(
    score: float, scratch_counts: ArrayLike, scratch_scores: ArrayLike, n: float
) -> DataEquivalent:
    """Invert scratch's learning curve at the score of a net tuned on n labels a class.

    The curve: isotonic fit of scratch's scores in n, joined by monotone cubic pieces (PCHIP) in log n; on a plateau
    the smallest n that reaches the score counts. Nothing is extrapolated.

    Args:
      score: accuracy or logit at n labels a class, as scratch's.
      scratch_counts: labels a class of scratch, ascending, at least two.
    """
    place, scores = np.log(vector(scratch_counts)), vector(scratch_scores)
    if len(place) != len(scores) or len(place) < 2 or (np.diff(place) <= 0).any():
        raise ValueError(
            f"scratch_counts: two or more, ascending, one per score, got {scratch_counts!r}"
        )
    if not math.isfinite(score) or n <= 0:
        raise ValueError(f"a finite score and a positive n are needed, got {score} at n={n}")
    at, censored = _reached(score, place, isotonic_regression(scores).x)
    return DataEquivalent((at - math.log(n)) / math.log(2), censored)


def _reached(score: float, place: np.ndarray, fitted: np.ndarray) -> tuple[float, Censored]:
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


# --- choices ----------------------------------------------------------------------------------------


def sufficient_depth(
    z: Float[np.ndarray, "... depths"], eps: float = EPSILON
) -> Int[np.ndarray, "..."]:
    """Position of the smallest depth whose score is within eps of the best."""
    z = np.asarray(z, float)
    return np.argmax(z >= z.max(axis=-1, keepdims=True) - eps, axis=-1)


def depth_distribution(
    z: Float[np.ndarray, "replicates depths"], eps: float = EPSILON
) -> Float[np.ndarray, "depths"]:
    """Share of bootstrap draws of replicates in which each depth suffices."""
    z = np.asarray(z, float)
    draws = generator(0, "bootstrap", len(z)).integers(0, len(z), (BOOTSTRAP, len(z)))
    chosen = sufficient_depth(z[draws].mean(axis=1), eps)
    return np.bincount(chosen, minlength=z.shape[1]) / len(chosen)
