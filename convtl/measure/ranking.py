"""Whether an estimator puts things in the order of what came out."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from convtl.keys import generator

EXACT = 7
"""Items up to which all orders are enumerated (7! = 5,040)."""
DRAWS = 5_000
"""Orders drawn beyond, and draws of replicates for the interval."""


@dataclass(frozen=True)
class RankCorrelation:
    """Kendall's tau-b, averaged over replicates."""

    tau: float
    low: float
    high: float
    """ends of the interval from whole replicates drawn again"""
    p: float
    """two-sided, over permutations of the items"""
    items: int
    replicates: int


def kendall_tau_b(x: Float[np.ndarray, " items"], y: Float[np.ndarray, " items"]) -> float:
    """(concordant - discordant) / sqrt(pairs untied in x * pairs untied in y), in [-1, 1].

    0 (not nan, as SciPy has it) where all of x or all of y are equal: no order was told. Kendall 1945.
    """
    one, other = _orders(np.asarray(x)[None])[0], _orders(np.asarray(y)[None])[0]
    return float((one * other).sum() / 2)


def rank_correlation(
    estimator: Float[np.ndarray, "replicates items"],
    outcome: Float[np.ndarray, "replicates items"],
    level: float = 0.95,
) -> RankCorrelation:
    """Kendall's tau-b between an estimator and an outcome over items (sources, say), within each replicate.

    The mean over replicates of tau-b in a replicate, so that what a replicate's draw does to all items alike
    plays no part. p: share of permutations of the items, the same in all replicates, with |mean tau| at
    least as large; with S items it is never below about 2 / S!. It speaks for further items; flipping signs of
    replicates would not, as replicates share their items. The interval (percentiles over whole replicates
    drawn again) is for these items only, and for pictures: with few replicates it covers too little.

    Args:
      estimator, outcome: (replicates, items), or (items,) for one; all finite.
      level: of the interval.

    Raises:
      ValueError: shapes that do not go together, fewer than two items, or values that are not finite.
    """
    x, y = np.atleast_2d(np.asarray(estimator, float)), np.atleast_2d(np.asarray(outcome, float))
    if x.shape != y.shape or x.ndim != 2 or x.shape[1] < 2 or not len(x):
        raise ValueError(
            f"estimator and outcome must be (replicates, items >= 2), got {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(
            "estimator and outcome must be finite: leave out the items that have no value"
        )
    one, other = _orders(x), _orders(y)
    own = (one * other).sum((1, 2)) / 2
    tau = float(own.mean())
    drawn = own[generator(0, "rank correlation", len(x)).integers(0, len(x), (DRAWS, len(x)))].mean(
        1
    )
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    orders = _permutations(x.shape[1])
    permuted = [_mean_tau(one[:, order][:, :, order], other) for order in orders]
    p = float(np.mean(np.abs(permuted) >= abs(tau) - 1e-9))
    return RankCorrelation(tau, float(low), float(high), p, x.shape[1], len(x))


def _mean_tau(one: np.ndarray, other: np.ndarray) -> float:
    return float((one * other).sum() / 2 / len(one))


def _orders(
    x: Float[np.ndarray, "replicates items"],
) -> Float[np.ndarray, "replicates items items"]:
    """Signs of differences of all pairs, scaled so that half the sum of products of two is tau-b."""
    signs = np.sign(x[:, :, None] - x[:, None, :])
    untied = np.square(signs).sum((1, 2), keepdims=True) / 2
    return signs / np.sqrt(np.where(untied > 0, untied, 1))


def _permutations(items: int) -> Int[np.ndarray, "orders items"]:
    """All orders; beyond `EXACT` items, `DRAWS` of them, the one that was observed among them."""
    if items <= EXACT:
        every = itertools.chain.from_iterable(itertools.permutations(range(items)))
        return np.fromiter(every, int, math.factorial(items) * items).reshape(-1, items)
    rng = generator(0, "permutations", items)
    return np.stack([np.arange(items), *(rng.permutation(items) for _ in range(DRAWS - 1))])
