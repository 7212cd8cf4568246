"""Several contrasts at once: adjusted p values, and claims that need all of their parts."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from convtl.analysis.statistics.sign_flip import EXACT, sign_vectors


def intersection_union(p: ArrayLike) -> float:
    """p of a claim that holds only if all of its parts hold: the largest of theirs (Berger 1982).

    NaN if a part was not tested.
    """
    raw = np.asarray(p, float)
    if raw.ndim != 1 or not len(raw):
        raise ValueError(f"one p for each part is needed, got shape {raw.shape}")
    return float(raw.max())


def holm(p: ArrayLike) -> np.ndarray:
    """Holm's step-down adjustment of p values, in the order given."""
    raw = np.asarray(p, float)
    order = np.argsort(raw, kind="stable")
    rising = np.maximum.accumulate(raw[order] * (len(raw) - np.arange(len(raw))))
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(1, rising)
    return adjusted


def max_t(values: Float[np.ndarray, "contrasts replicates"]) -> Float[np.ndarray, "contrasts"]:
    """Step-down max-T p values under joint sign flips of whole replicates (Westfall & Young 1993).

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
