"""Which learning rates a trial tries, and which it keeps: one rule for all arms.

The rule sees nothing but the trial's own validation scores, so slices, workers and resumed runs agree.
"""

from collections.abc import Mapping, Sequence

Score = tuple[float, float] | None
"""(validation accuracy, minus validation loss): compared in this order; None for a diverged run."""


def next_rates(grid: Sequence[float], scores: Mapping[float, Score], extend: int) -> list[float]:
    """Learning rates to be tried next; none when the trial is finished.

    First the grid; then one more step on the side where the best rate is at the edge, up to `extend` steps
    on each side. A grid of one rate is used as it is. If every rate diverged, lower ones are tried.
    """
    grid = sorted(set(grid))
    missing = [rate for rate in grid if rate not in scores]
    if missing or len(grid) == 1:
        return missing
    tried = sorted(scores)
    best = best_rate(scores) or tried[0]
    below, above = sum(rate < grid[0] for rate in tried), sum(rate > grid[-1] for rate in tried)
    if best == tried[0] and below < extend:
        further = grid[0] * (grid[0] / grid[1]) ** (below + 1)
    elif best == tried[-1] and above < extend:
        further = grid[-1] * (grid[-1] / grid[-2]) ** (above + 1)
    else:
        return []
    further = float(f"{further:.4g}")
    # A grid finer than the rounding has no further step.
    return [] if tried[0] <= further <= tried[-1] else [further]


def best_rate(scores: Mapping[float, Score]) -> float | None:
    """The rate with the best score, the lowest of equals; None if all diverged."""
    usable = {rate: score for rate, score in sorted(scores.items()) if score is not None}
    return max(usable, key=lambda rate: usable[rate], default=None)


def at_edge(scores: Mapping[float, Score]) -> bool:
    """Whether the best rate is the lowest or highest of several that were tried."""
    best = best_rate(scores)
    return best is not None and len(scores) > 1 and best in (min(scores), max(scores))
