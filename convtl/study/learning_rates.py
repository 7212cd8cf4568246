"""Choice of a trial's learning rate, by its own validation pictures alone."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

FOLDS = 5
"""Of cross-validation (`validation=within`); fewer with fewer labels a class."""

PerPicture = Float[np.ndarray, "2 pictures"]
"""Loss (nats) and correctness (0 or 1) of each validation picture."""


class RunKey(NamedTuple):
    """Learning rate of a run, and the fold of the labels it leaves out (None: none)."""

    rate: float
    fold: int | None = None


class Score(NamedTuple):
    """Validation of a learning rate; None where its run diverged.

    Attributes:
      nll: mean loss of the pictures, in nats.
      se: standard error of the mean over pictures of (loss - loss at the rate with the lowest nll).
    """

    rate: float
    accuracy: float | None = None
    nll: float | None = None
    se: float | None = None


def score_rates(outcomes: Mapping[float, PerPicture | None]) -> list[Score]:
    """Score learning rates, ascending, that were validated on the same pictures."""
    usable = {rate: one for rate, one in sorted(outcomes.items()) if one is not None}
    best = min(usable.values(), key=lambda one: one[0].mean(), default=np.zeros((2, 0)))
    scores = {rate: Score(rate) for rate in sorted(outcomes)}
    for rate, (losses, right) in usable.items():
        spread = (losses - best[0]).std(ddof=1) if len(losses) > 1 else 0.0
        error = float(spread / math.sqrt(len(losses)))
        scores[rate] = Score(rate, float(right.mean()), float(losses.mean()), error)
    return list(scores.values())


def choose_rate(scores: Iterable[Score], grid: Sequence[float]) -> float | None:
    """Return the learning rate that a trial keeps; None if all diverged.

    Of the rates whose nll lies within one standard error of the lowest, the one nearest on a logarithmic scale to the
    centre of the grid that the trial began with; of two equally near ones the lower.
    """
    usable = [(rate, nll, se) for rate, _, nll, se in scores if nll is not None and se is not None]
    lowest = min((nll for _, nll, _ in usable), default=0.0)
    ties = [rate for rate, nll, se in usable if nll - lowest <= se]
    centre = math.log10(min(grid) * max(grid)) / 2
    # Rates are rounded: a thousandth of a decade is no distance.
    return min(
        ties, key=lambda rate: (round(abs(math.log10(rate) - centre), 3), rate), default=None
    )


def next_rates(grid: Sequence[float], scores: Sequence[Score], extend: int) -> list[float]:
    """Return the learning rates to be tried next; none when the choice is made.

    First the grid, then up to `extend` steps on each side where the chosen rate is at the edge. A grid of one rate is
    used as it is. If every rate diverged, lower ones are tried.
    """
    grid, tried = sorted(set(grid)), sorted(score.rate for score in scores)
    missing = [rate for rate in grid if rate not in tried]
    if missing or len(grid) == 1:
        return missing
    chosen = choose_rate(scores, grid) or tried[0]
    below, above = sum(rate < grid[0] for rate in tried), sum(rate > grid[-1] for rate in tried)
    if chosen == tried[0] and below < extend:
        further = grid[0] * (grid[0] / grid[1]) ** (below + 1)
    elif chosen == tried[-1] and above < extend:
        further = grid[-1] * (grid[-1] / grid[-2]) ** (above + 1)
    else:
        return []
    further = float(f"{further:.4g}")
    # A grid finer than the rounding has no further step.
    return [] if tried[0] <= further <= tried[-1] else [further]


def at_edge(scores: Sequence[Score], chosen: float | None) -> bool:
    """Return whether the chosen rate is the lowest or highest of several."""
    rates = [score.rate for score in scores]
    return len(rates) > 1 and chosen in (min(rates), max(rates))
