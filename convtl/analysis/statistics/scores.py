"""Scores of arms: logits, slopes, data equivalents, the depth that suffices, and regret."""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from scipy import stats
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq, isotonic_regression

from convtl.analysis.statistics.sign_flip import DRAWS, Estimate, Interval, vector
from convtl.keys import generator

BOOTSTRAP = 2_000
"""Bootstrap draws of whole replicates."""
EPSILON = 0.2
"""A depth suffices when it is within this many logits of the best."""
SPLITS = 14
"""Up to this many replicates all half-splits are counted (3,432 of 14); beyond it as many are drawn."""
Censored = Literal["", "left", "right"]
"""`left`: at or below what is given; `right`: at or above it."""


def logit_accuracy(accuracy: ArrayLike, n_test: ArrayLike) -> np.ndarray:
    """logit((correct + 1/2) / (N + 1)) of an accuracy on N test images: finite for 0 and for N correct."""
    total = np.asarray(n_test, float)
    correct = np.asarray(accuracy, float) * total
    return np.log(correct + 0.5) - np.log(total - correct + 0.5)


def student_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Interval of the mean of m >= 2 values by Student's t, for the few replicates of one's own pictures.

    Sign flips assume less, and settle nothing at .05 with fewer than six replicates; here errors are taken as normal.
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
    """Least-squares slope of each replicate's row on x (for sizes: x = log2 n, logits a doubling)."""
    place, rows = vector(x), np.asarray(table, float)
    if rows.ndim != 2 or len(place) != rows.shape[1] or not np.ptp(place):
        raise ValueError(f"x: one number per point, two of them different, is needed, got {place}")
    centred = place - place.mean()
    return rows @ centred / (centred @ centred)


def slope_permutation(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> Estimate:
    """Slope of y on x over data sets, with the p and the interval of permuting sets.

    The sets are what is permuted, so a small p speaks of sets like these, and not only of further replicates of the
    same ones. Statistic: |slope|, over `DRAWS` permutations, the observed one counted among them; the interval holds
    the slopes b for which y - b x is not rejected.

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
    """E = log2(n_scratch / n): 1 says that transfer is worth a doubling of the labels (Hernandez et al. 2021).

    Attributes:
      log2_ratio: E, or its bound where it is censored.
      censored: `right` if scratch does not get there with its largest n (E is at least this), `left` if it is better
        with its smallest n (E is at most this), else empty.
    """

    log2_ratio: float
    censored: Censored


def data_equivalent(
    score: float, scratch_counts: ArrayLike, scratch_scores: ArrayLike, n: float
) -> DataEquivalent:
    """Invert scratch's learning curve at the score of a net that was fine-tuned on n labels a class.

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


def data_equivalent_interval(
    scores: Float[np.ndarray, "replicates"],
    scratch_counts: ArrayLike,
    scratch_scores: Float[np.ndarray, "replicates counts"],
    n: float,
    level: float = 0.95,
) -> tuple[DataEquivalent, DataEquivalent]:
    """Both ends of the percentile bootstrap over whole replicates, jointly for both nets; for figures only."""
    rows = resamples(len(scores))
    means = np.asarray(scores, float)[rows].mean(axis=1)
    curves = np.asarray(scratch_scores, float)[rows].mean(axis=1)
    draws = [
        data_equivalent(float(mean), scratch_counts, curve, n)
        for mean, curve in zip(means, curves, strict=True)
    ]
    # Censored draws are further out than the bound that stands for them.
    draws.sort(key=lambda e: {"left": -math.inf, "right": math.inf}.get(e.censored, e.log2_ratio))
    last = len(draws) - 1
    return draws[math.floor(last * (1 - level) / 2)], draws[math.ceil(last * (1 + level) / 2)]


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


@lru_cache(maxsize=6)
def resamples(m: int) -> Int[np.ndarray, "draws replicates"]:
    """Indices of whole replicates, the same for every arm that has m of them (so draws are joint)."""
    return _shared(generator(0, "bootstrap", m).integers(0, m, (BOOTSTRAP, m)))


@lru_cache(maxsize=6)
def half_splits(m: int) -> Bool[np.ndarray, "splits replicates"]:
    """Which m // 2 of m replicates choose (True); the others score."""
    if m > SPLITS:
        draws = generator(0, "half splits", m).random((math.comb(SPLITS, SPLITS // 2), m))
        return _shared(draws.argsort(axis=1) < m // 2)
    halves = list(itertools.combinations(range(m), m // 2))
    member = np.zeros((len(halves), m), bool)
    for row, half in enumerate(halves):
        member[row, list(half)] = True
    return _shared(member)


def _shared(array: np.ndarray) -> np.ndarray:
    """An array that all callers are given, and none may change."""
    array.flags.writeable = False
    return array


def sufficient_depth(
    z: Float[np.ndarray, "... depths"], eps: float = EPSILON
) -> Int[np.ndarray, "..."]:
    """Position of the smallest depth whose score is within eps of the best."""
    z = np.asarray(z, float)
    return np.argmax(z >= z.max(axis=-1, keepdims=True) - eps, axis=-1)


def depth_distribution(
    z: Float[np.ndarray, "replicates depths"], eps: float = EPSILON
) -> Float[np.ndarray, "depths"]:
    """Share of bootstrap draws of replicates in which each depth is the one that suffices."""
    z = np.asarray(z, float)
    chosen = sufficient_depth(z[resamples(len(z))].mean(axis=1), eps)
    return np.bincount(chosen, minlength=z.shape[1]) / len(chosen)


def regret_per_replicate(
    z: Float[np.ndarray, "replicates arms"], chosen: ArrayLike
) -> Float[np.ndarray, "replicates"]:
    """How much a policy's arm falls short of the best one, chosen on replicates that do not score it.

    For every half-split the arm with the best mean on one half is scored on the other, against the policy's arm; a
    replicate's regret is its mean over the splits in which it scores. So regret is not inflated by the winner's curse,
    and it can be negative.

    Args:
      z: scores (logits).
      chosen: position of the policy's arm: one number, or one a replicate.

    Raises:
      ValueError: fewer than 2 replicates, or an arm that is not there.
    """
    z = np.asarray(z, float)
    m, arms = z.shape
    policy = np.broadcast_to(np.asarray(chosen, int), m)
    if m < 2 or not np.isfinite(z).all():
        raise ValueError(
            f"two or more replicates with every arm are needed, got shape {z.shape}: {z}"
        )
    if policy.min() < 0 or policy.max() >= arms:
        raise ValueError(f"chosen: got {policy.tolist()}; accepted: 0 to {arms - 1}")
    member = half_splits(m)
    best = _means(member, z).argmax(axis=1)
    short = z[:, best].T - z[np.arange(m), policy]
    return np.where(member, 0.0, short).sum(axis=0) / (~member).sum(axis=0)


def _means(member: Bool[np.ndarray, "splits replicates"], z: np.ndarray) -> np.ndarray:
    """Mean over the members of each split."""
    return member @ z / member.sum(axis=1, keepdims=True)
