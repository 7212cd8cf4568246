"""Times of things that are compared: interleaved, since machines are noisy and noise comes in stretches."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def interleaved(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side in each round: A, B, then B, A, and so on.

    Each side is called once before, for what only its first call has to do (compile, load, allocate).
    """
    for work in sides.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        order = list(sides) if number % 2 == 0 else list(reversed(list(sides)))
        for name in order:
            taken[name].append(seconds(sides[name]))
    return taken


@dataclass(frozen=True)
class Ratio:
    """How many times as fast one side is as another: the median over rounds, and the extremes."""

    median: float
    low: float
    high: float


def ratio(taken: Mapping[str, list[float]], fast: str, slow: str, scale: float = 1.0) -> Ratio:
    """Seconds of `slow` over seconds of `fast`, round by round, times `scale`.

    Args:
      scale: work that `fast` does for each unit of work of `slow`.
    """
    each = [scale * theirs / ours for ours, theirs in zip(taken[fast], taken[slow], strict=True)]
    return Ratio(median(each), min(each), max(each))
