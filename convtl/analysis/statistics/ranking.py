"""Rank correlation between an estimator and an outcome, within replicates."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from convtl.keys import generator

EXACT = 7
"""Items up to which all orders are enumerated (7! = 5,040)."""
DRAWS = 5_000
"""Orders drawn beyond, and draws of replicates for the interval."""


@dataclass(frozen=True)
class RankCorrelation:
    """Kendall's tau-b, averaged over replicates.

    Attributes:
      low, high: ends of the interval from resampled whole replicates.
      p: two-sided, over permutations of the items.
    """

    tau: float
    low: float
    high: float
    p: float
    items: int
    replicates: int


def kendall_tau_b(x: ArrayLike, y: ArrayLike) -> float:
    """(concordant - discordant) / sqrt(pairs untied in x * pairs untied in y), in [-1, 1].

    0 (not nan, as SciPy has it) where all of x or all of y are equal: there is no order. Kendall 1945.

    >>> round(kendall_tau_b([1, 2, 3, 4], [1, 2, 4, 3]), 6)
    0.666667
    """
    first, second = (_orders(np.atleast_2d(np.asarray(values, float)))[0] for values in (x, y))
    return float((first * second).sum() / 2)


def rank_correlation(
    estimator: ArrayLike, outcome: ArrayLike, level: float = 0.95
) -> RankCorrelation:
    """Kendall's tau-b between an estimator and an outcome over items (such as sources).

    The mean over replicates of tau-b in a replicate. p: share of permutations of the items, the same in all
    replicates, with |mean tau| at least as large (never below about 2 / S! with S items), so it speaks for further
    items. The interval (percentiles over resampled whole replicates) is for these items only, and for figures:
    with few replicates it covers too little.

    Args:
      estimator, outcome: (replicates, items), or (items,) for one; all finite.
      level: of the interval.

    Raises:
      ValueError: shapes disagree, fewer than two items, or values that are not finite.
    """
    x, y = np.atleast_2d(np.asarray(estimator, float)), np.atleast_2d(np.asarray(outcome, float))
    if x.shape != y.shape or x.ndim != 2 or x.shape[1] < 2 or not len(x):
        raise ValueError(
            f"estimator and outcome must be (replicates, items >= 2), got {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("estimator and outcome must be finite: leave out items without a value")
    first, second = _orders(x), _orders(y)
    taus = (first * second).sum((1, 2)) / 2
    tau = float(taus.mean())
    rows = generator(0, "rank correlation", len(x)).integers(0, len(x), (DRAWS, len(x)))
    low, high = np.quantile(taus[rows].mean(1), [(1 - level) / 2, (1 + level) / 2])
    permuted = [
        float((first[:, order][:, :, order] * second).sum() / 2 / len(x))
        for order in _permutations(x.shape[1])
    ]
    p = float(np.mean(np.abs(permuted) >= abs(tau) - 1e-9))
    return RankCorrelation(tau, float(low), float(high), p, x.shape[1], len(x))


def _orders(
    x: Float[np.ndarray, "replicates items"],
) -> Float[np.ndarray, "replicates items items"]:
    """Signs of differences of all pairs, scaled so that half the sum of products of two is tau-b."""
    signs = np.sign(x[:, :, None] - x[:, None, :])
    untied = np.square(signs).sum((1, 2), keepdims=True) / 2
    return signs / np.sqrt(np.where(untied > 0, untied, 1))


def _permutations(items: int) -> Int[np.ndarray, "orders items"]:
    """All orders; beyond `EXACT` items, `DRAWS` of them, the identity among them."""
    if items <= EXACT:
        every = itertools.chain.from_iterable(itertools.permutations(range(items)))
        return np.fromiter(every, int, math.factorial(items) * items).reshape(-1, items)
    rng = generator(0, "permutations", items)
    return np.stack([np.arange(items), *(rng.permutation(items) for _ in range(DRAWS - 1))])
