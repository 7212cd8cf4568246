"""What is chosen on some replicates and scored on others: the depth that suffices, and regret."""

import itertools
import math
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from convtl.keys import generator

BOOTSTRAP = 2_000
"""Bootstrap draws of whole replicates."""
EPSILON = 0.2
"""A depth suffices when it is within this many logits of the best."""
SPLITS = 14
"""Up to this many replicates all half-splits are counted (3,432 of 14); beyond it as many are drawn."""


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


def bootstrap_interval(
    values: Float[np.ndarray, "replicates ..."], level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of the mean over replicates: for figures only (it undercovers at small m)."""
    x = np.asarray(values, float)
    means = x[resamples(len(x))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


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


def half_split_depths(
    z: Float[np.ndarray, "replicates depths"], eps: float = EPSILON
) -> tuple[Float[np.ndarray, "depths"], float] | None:
    """The depth that suffices on one half of the replicates, scored on the other, over all half-splits.

    Returns:
      Share of splits that choose each depth, and the mean score of the chosen depth on the half that did not choose
      it (free of the winner's curse); None below 4 replicates.
    """
    z = np.asarray(z, float)
    if len(z) < 4:
        return None
    member = half_splits(len(z))
    chosen = sufficient_depth(_means(member, z), eps)
    scored = _means(~member, z)[np.arange(len(member)), chosen]
    return np.bincount(chosen, minlength=z.shape[1]) / len(chosen), float(scored.mean())


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
