"""Ordered conditions: does D follow the predicted order of sources, and where on log2 n does it cross 0?"""

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import isotonic_regression

from convtl.analysis.statistics.choices import resamples
from convtl.analysis.statistics.sign_flip import DRAWS, Interval, vector
from convtl.keys import generator

LADDER = 8
"""Up to this many sources all S! orders are counted; beyond it they are drawn."""

Censored = Literal["", "left", "right"]
"""`left`: at or below what is given; `right`: at or above it."""


# --- over sources -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SourcePermutation:
    """Whether the sources lie in the predicted order.

    Attributes:
      p: two-sided; rho: Spearman's correlation, positive as predicted.
      floor: the smallest p that this many sources (and ties) can give: 2/720 for 6 without ties.
    """

    p: float
    rho: float
    sources: int
    floor: float


def source_permutation_p(d_means: ArrayLike, predicted_order: ArrayLike) -> SourcePermutation:
    """Permutation test of a ladder's sources over their predicted order.

    The sources are the units that are permuted, so a small p speaks of sources like these and not only
    of further replicates of the same ones: a sign-flip over per-replicate slopes would take what is
    peculiar to each source for a trend (`experiments/calibration` counts how often). Statistic: |Spearman's
    rho| (a linear rank statistic, ties get mean ranks). Exact over all S! orders up to `LADDER` sources;
    beyond, `DRAWS` orders of a fixed generator, the observed one counted among them.

    Args:
      d_means: one number per source, e.g. D averaged over replicates and targets.
      predicted_order: for each of these sources its predicted place, small for small D (ranks, or a
        distance); ties are allowed.
    """
    score, place = stats.rankdata(vector(d_means)), stats.rankdata(vector(predicted_order))
    if len(score) != len(place):
        raise ValueError(
            f"one predicted place per source is needed, got {len(place)} for {len(score)}"
        )
    score, place = score - score.mean(), place - place.mean()
    scale = math.sqrt(float((score**2).sum() * (place**2).sum()))
    if scale == 0:
        return SourcePermutation(1.0, 0.0, len(score), 1.0)
    rho = float(score @ place) / scale
    permuted = np.abs(_orders(place) @ score) / scale
    hits = int((permuted >= abs(rho) - 1e-9).sum())
    if len(score) <= LADDER:
        floor = float((permuted >= permuted.max() - 1e-9).mean())
        return SourcePermutation(hits / len(permuted), rho, len(score), floor)
    return SourcePermutation((1 + hits) / (1 + DRAWS), rho, len(score), 1 / (1 + DRAWS))


def _orders(place: np.ndarray) -> Float[np.ndarray, "orders sources"]:
    if len(place) <= LADDER:
        return place[np.array(list(itertools.permutations(range(len(place)))))]
    return generator(0, "orders", len(place)).permuted(np.tile(place, (DRAWS, 1)), axis=1)


# --- over the conditions of a replicate -------------------------------------------------------------


def slope_per_replicate(
    x: ArrayLike, table: Float[np.ndarray, "replicates conditions"]
) -> Float[np.ndarray, "replicates"]:
    """Least-squares slope of each replicate's row on x (for sizes: x = log2 n, logits a doubling)."""
    place, rows = vector(x), _table(table)
    if len(place) != rows.shape[1] or not np.ptp(place):
        raise ValueError(
            f"x: one number per condition, two of them different, is needed, got {place}"
        )
    centred = place - place.mean()
    return rows @ centred / (centred @ centred)


@dataclass(frozen=True)
class PageTrend:
    """Descriptive: one step up can make Page's p small.

    Attributes:
      statistic, p: Page's L and its one-sided p.
      slope: mean over replicates of the slope a step; monotone: share of bootstrap draws of whole
        replicates whose means rise at every step.
    """

    statistic: float
    p: float
    slope: float
    monotone: float


def page_trend(table: Float[np.ndarray, "replicates conditions"]) -> PageTrend:
    """Page's test that the columns, given in the predicted order, increase (Page 1963).

    Raises:
      ValueError: under 2 replicates or under 3 conditions.
    """
    rows = _table(table)
    if rows.shape[0] < 2 or rows.shape[1] < 3:
        raise ValueError(
            f"2 replicates of 3 conditions are needed at least, got shape {rows.shape}"
        )
    found = stats.page_trend_test(rows)
    slope = float(slope_per_replicate(np.arange(rows.shape[1]), rows).mean())
    return PageTrend(float(found.statistic), float(found.pvalue), slope, monotone_share(rows))


def monotone_share(table: Float[np.ndarray, "replicates conditions"]) -> float:
    """Share of bootstrap draws of whole replicates whose means rise at every step."""
    rows = _table(table)
    means = rows[resamples(len(rows))].mean(axis=1)
    return float((np.diff(means, axis=1) > 0).all(axis=1).mean())


# --- where a rising benefit crosses 0 ---------------------------------------------------------------


@dataclass(frozen=True)
class Crossing:
    """Where the mean of a rising benefit reaches 0.

    Attributes:
      log2_n: the place, or the end of the range behind which it lies; NaN if the benefit does not rise.
      censored: `left` if it is reached at the smallest n already, `right` if not even at the largest.
      interval: percentile bootstrap over whole replicates, of the draws that rise; an end that is
        censored is -inf or inf. For pictures: it undercovers at small m.
      rising: share of draws with a positive slope on log2 n; read the crossing only where it is near 1.
    """

    log2_n: float
    censored: Censored
    interval: Interval
    rising: float


def crossing(
    counts: ArrayLike, table: Float[np.ndarray, "replicates counts"], level: float = 0.95
) -> Crossing:
    """The n from which deeper fine-tuning pays: where D, made monotone in n, crosses 0.

    Means over replicates get the isotonic fit in n, joined by straight lines in log2 n; the crossing is
    the first place at 0. Without a rising slope there is no crossing of this kind.

    Args:
      counts: labels a class, ascending.
      table: D per replicate (logits).
    """
    place, rows = np.log2(vector(counts)), _table(table)
    if len(place) != rows.shape[1] or (np.diff(place) <= 0).any():
        raise ValueError(f"counts: one per column, ascending, is needed, got {counts!r}")
    at = _reaches_zero(place, rows.mean(axis=0))
    draws = np.array(
        [_reaches_zero(place, mean) for mean in rows[resamples(len(rows))].mean(axis=1)]
    )
    risen = draws[~np.isnan(draws)]
    low, high = (
        # an observed draw at either end, because infinite ones cannot be averaged
        np.quantile(risen, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
        if len(risen)
        else (math.nan, math.nan)
    )
    censored: Censored = "left" if at == -math.inf else "right" if at == math.inf else ""
    shown = float(np.clip(at, place[0], place[-1]))
    return Crossing(
        shown, censored, Interval(float(low), float(high), level), len(risen) / len(draws)
    )


def _reaches_zero(place: np.ndarray, mean: np.ndarray) -> float:
    """The crossing; -inf or inf where it lies outside, NaN where the benefit does not rise."""
    if (place - place.mean()) @ mean <= 0:
        return math.nan
    fitted = isotonic_regression(mean).x
    if fitted[0] >= 0:
        return -math.inf
    if fitted[-1] < 0:
        return math.inf
    after = int(np.argmax(fitted >= 0))
    share = -fitted[after - 1] / (fitted[after] - fitted[after - 1])
    return float(place[after - 1] + share * (place[after] - place[after - 1]))


def _table(table: ArrayLike) -> np.ndarray:
    rows = np.asarray(table, float)
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise ValueError(
            f"a finite number per replicate and condition is needed, got shape {rows.shape}: {rows}"
        )
    return rows
