"""What is chosen on some replicates and judged on others: the depth that suffices, and regret."""

import itertools
import math
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from convtl.analysis.statistics.sign_flip import EXACT, Estimate, estimate
from convtl.keys import generator

BOOTSTRAP = 2_000
"""Bootstrap draws of whole replicates."""
EPSILON = 0.2
"""A depth suffices when it is within this many logits of the best."""
SPLITS = 14
"""Up to this many replicates all half-splits are counted (3,432 of 14); beyond it as many are drawn."""


@lru_cache(maxsize=6)
def resamples(m: int, draws: int = BOOTSTRAP) -> Int[np.ndarray, "draws replicates"]:
    """Indices of whole replicates, the same for every arm that has m of them (so draws are joint)."""
    found = generator(0, "bootstrap", m).integers(0, m, (draws, m))
    found.flags.writeable = False  # others are given it too
    return found


@lru_cache(maxsize=6)
def _drawn_shares(m: int) -> Float[np.ndarray, "draws replicates"]:
    """What part of each of `resamples` every replicate is."""
    drawn = resamples(m)
    found = np.stack([np.bincount(draw, minlength=m) for draw in drawn]) / m
    found.flags.writeable = False
    return found


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


@lru_cache(maxsize=6)
def half_splits(m: int) -> Bool[np.ndarray, "splits replicates"]:
    """Which m // 2 of m replicates choose (True); the others score. All splits up to `SPLITS` replicates."""
    size = m // 2
    if m > SPLITS:
        ranks = (
            generator(0, "half splits", m)
            .random((math.comb(SPLITS, SPLITS // 2), m))
            .argsort(axis=1)
        )
        member = ranks < size
    else:
        member = np.zeros((math.comb(m, size), m), bool)
        for row, half in enumerate(itertools.combinations(range(m), size)):
            member[row, list(half)] = True
    member.flags.writeable = False  # others are given it too
    return member


@lru_cache(maxsize=6)
def _halves(m: int) -> tuple[np.ndarray, np.ndarray]:
    """`half_splits`, and their other halves, as the numbers that a product takes."""
    member = half_splits(m)
    found = member.astype(float), (~member).astype(float)
    for half in found:
        half.flags.writeable = False
    return found


def sufficient_depth(
    z: Float[np.ndarray, "... depths"], eps: float = EPSILON
) -> Int[np.ndarray, "..."]:
    """Position of the first (smallest) depth whose score is within eps of the best."""
    z = np.asarray(z, float)
    return np.argmax(z >= z.max(axis=-1, keepdims=True) - eps, axis=-1)


def depth_distribution(
    z: Float[np.ndarray, "replicates depths"], eps: float = EPSILON
) -> Float[np.ndarray, "depths"]:
    """P(d* = k) over bootstrap draws of replicates; d* = smallest depth within eps of the best mean."""
    z = np.asarray(z, float)
    # Of many replicates a product is ten times as fast; of few, means stay what they were to the last bit.
    drawn = _drawn_shares(len(z)) @ z if len(z) > EXACT else z[resamples(len(z))].mean(axis=1)
    chosen = sufficient_depth(drawn, eps)
    return np.bincount(chosen, minlength=z.shape[1]) / len(chosen)


def half_split_depths(
    z: Float[np.ndarray, "replicates depths"], eps: float = EPSILON
) -> tuple[Float[np.ndarray, "depths"], float] | None:
    """d* chosen on one half of the replicates and scored on the other, over all half-splits.

    Returns:
      P(d* = k) over splits, and the mean score of the chosen depth on the half that did not choose it
      (free of the winner's curse); None below 4 replicates.
    """
    z = np.asarray(z, float)
    if len(z) < 4:
        return None
    choosing, scoring = _halves(len(z))
    chosen = sufficient_depth(choosing @ z / choosing.sum(axis=1, keepdims=True), eps)
    others = scoring @ z / scoring.sum(axis=1, keepdims=True)
    share = np.bincount(chosen, minlength=z.shape[1]) / len(chosen)
    return share, float(others[np.arange(len(chosen)), chosen].mean())


def regret_per_replicate(
    z: Float[np.ndarray, "replicates arms"], chosen: ArrayLike
) -> Float[np.ndarray, "replicates"]:
    """How much a policy's arm falls short of the best one, chosen on replicates that do not score it.

    For every half-split the arm with the best mean on one half is scored on the other, against the
    policy's arm; a replicate's regret is its mean over the splits in which it scores. No replicate helps
    to choose the arm that it scores, so regret is not inflated by the winner's curse; it can be negative
    (the best arm of one half need not be the best of the other, and a policy may choose an arm for each
    replicate, the best one may not).

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
    best = _half_means(member, z).argmax(axis=1)
    short = z[:, best].T - z[np.arange(m), policy]
    return np.where(member, 0.0, short).sum(axis=0) / (~member).sum(axis=0)


def regret(z: Float[np.ndarray, "replicates arms"], chosen: ArrayLike) -> Estimate:
    """Mean of `regret_per_replicate` with its sign-flip interval and p.

    Replicates share the halves that chose, so the interval is approximate; for several cells average
    `regret_per_replicate` over them inside each replicate, then estimate.
    """
    return estimate(regret_per_replicate(z, chosen))


def _half_means(member: Bool[np.ndarray, "splits replicates"], z: np.ndarray) -> np.ndarray:
    return member @ z / member.sum(axis=1, keepdims=True)
