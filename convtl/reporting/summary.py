"""The numbers of a block's headline table: one cell per source and labels a class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from convtl.analysis import statistics
from convtl.analysis.arms import Block
from convtl.analysis.principles import ALPHA, at_floor
from convtl.analysis.statistics import Estimate, estimates


@dataclass(frozen=True)
class Contrast:
    """An estimate with its p adjusted over all contrasts of the block (step-down max-T)."""

    found: Estimate
    adjusted: float

    @property
    def sign(self) -> int:
        """-1 or 1 if the adjusted p settles it, else 0."""
        return int(np.sign(self.found.effect)) if self.adjusted <= ALPHA else 0


@dataclass(frozen=True)
class Cell:
    """What one source and one number of labels gave.

    Attributes:
      depths, share: P(d* = depth), d* the smallest depth within `statistics.EPSILON` logits of the best
        (test accuracy, bootstrap over replicates); empty where no replicate has every depth.
      split: the same over half-splits, with the held-out score in logits; None where m forbids it.
      chosen: the depth whose validation accuracy is best on average over replicates (never chosen on test).
      accuracy: test accuracy at `chosen`; scratch: that of the fresh net with the same labels.
      gain: G at `chosen`; benefit: D. floor: head and whole net are both under twice chance.
    """

    source: str
    n: int
    depths: tuple[int, ...]
    share: tuple[float, ...]
    split: tuple[tuple[float, ...], float] | None
    chosen: int | None
    accuracy: Estimate | None
    head: float
    full: float
    scratch: Estimate | None
    gain: Contrast | None
    benefit: Contrast | None
    floor: bool
    m: int

    @property
    def likely(self) -> int | None:
        """The most frequent d*."""
        return self.depths[int(np.argmax(self.share))] if self.share else None

    @property
    def likely_share(self) -> float:
        return max(self.share, default=float("nan"))


def cells(block: Block) -> list[Cell]:
    """All cells of a block, sources in their order, labels ascending."""
    grid = [(source, n) for source in block.sources for n in block.counts]
    grid = [
        (source, n)
        for source, n in grid
        if any(len(block.arm(source, n, depth)) for depth in block.depths)
    ]
    chosen = [chosen_depth(block, source, n) for source, n in grid]
    gains = [
        block.gain(source, n, depth) if depth is not None else pd.Series(dtype=float)
        for (source, n), depth in zip(grid, chosen, strict=True)
    ]
    benefits = [block.benefit(source, n) for source, n in grid]
    adjusted = _adjusted([*gains, *benefits])
    reached = [
        _accuracies(block, source, n, depth)
        for (source, n), depth in zip(grid, chosen, strict=True)
    ]
    fresh = {n: block.scratch_arm(n, "test_accuracy") for n in block.counts}
    known = _estimates([*gains, *benefits, *reached, *fresh.values()])
    scratch = dict(zip(fresh, known[3 * len(grid) :], strict=True))
    found = []
    for index, (source, n) in enumerate(grid):
        gain, benefit = (
            Contrast(own, adjusted[place]) if (own := known[place]) is not None else None
            for place in (index, len(grid) + index)
        )
        accuracy = known[2 * len(grid) + index]
        found.append(_cell(block, source, n, chosen[index], accuracy, scratch[n], gain, benefit))
    return found


def chosen_depth(block: Block, source: str, n: int) -> int | None:
    """Depth of the best mean validation accuracy; the smaller one of a tie."""
    means = block.curve(source, n, "val_accuracy").mean()
    return (
        int(means.index[int(np.argmax(means.to_numpy()))])
        if len(means) and means.notna().all()
        else None
    )


def _accuracies(block: Block, source: str, n: int, depth: int | None) -> pd.Series:
    return (
        block.arm(source, n, depth, "test_accuracy")
        if depth is not None
        else pd.Series(dtype=float)
    )


def _estimates(contrasts: Sequence[pd.Series]) -> list[Estimate | None]:
    """One for each contrast; None for an empty one."""
    found = iter(estimates([values for values in contrasts if len(values)]))
    return [next(found) if len(values) else None for values in contrasts]


def _cell(
    block: Block,
    source: str,
    n: int,
    depth: int | None,
    accuracy: Estimate | None,
    scratch: Estimate | None,
    gain: Contrast | None,
    benefit: Contrast | None,
) -> Cell:
    curve = block.curve(source, n)
    z = curve.to_numpy()
    split = statistics.half_split_depths(z) if len(z) else None
    head, full = (block.arm(source, n, k, "test_accuracy").mean() for k in (1, block.full))
    return Cell(
        source=source,
        n=n,
        depths=tuple(int(k) for k in curve.columns) if len(z) else (),
        share=tuple(map(float, statistics.depth_distribution(z))) if len(z) else (),
        split=(tuple(map(float, split[0])), split[1]) if split else None,
        chosen=depth,
        accuracy=accuracy,
        head=float(head),
        full=float(full),
        scratch=scratch,
        gain=gain,
        benefit=benefit,
        floor=at_floor(block, source, n),
        m=len(z),
    )


def _adjusted(contrasts: list[pd.Series]) -> np.ndarray:
    """Adjusted p of every contrast; NaN for an empty one."""
    table = pd.DataFrame(dict(enumerate(contrasts)))
    if not len(table):
        return np.full(len(contrasts), np.nan)
    return statistics.max_t(table.to_numpy(float).T)
