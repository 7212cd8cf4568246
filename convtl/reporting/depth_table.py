"""How many layers suffice, and what transfer gains with so many: P(d* = k) by source, labels and schedule."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from convtl.analysis import statistics
from convtl.analysis.principles import ALPHA
from convtl.analysis.statistics import EPSILON
from convtl.reporting import numbers
from convtl.reporting.tables import distribution, markdown
from convtl.reporting.view import View

_FEWEST = 4
"""Replicates from which on one half can choose and the other half score."""
_STRONG = 1.2
"""Logits at which a cell has its full colour."""


@dataclass(frozen=True)
class DepthCell:
    """What one source, n and schedule gave.

    Attributes:
      share: P(d* = depth).
      m: replicates.
      gains: G at d*, one a replicate; d* is chosen by replicates that do not score it where m allows that.
      adjusted: p of the mean of `gains`, over all cells of the table (step-down max-T); NaN at an edge.
      edge: `floor` or `ceiling` of a cell that enters no test.
    """

    source: str
    n: int
    updates: int
    depths: tuple[int, ...]
    share: tuple[float, ...]
    gains: pd.Series
    m: int
    adjusted: float = float("nan")
    edge: str = ""

    @property
    def gain(self) -> float:
        return float(self.gains.mean())

    @property
    def settled(self) -> bool:
        return self.adjusted <= ALPHA

    @property
    def likely(self) -> int:
        return self.depths[int(np.argmax(self.share))]


def depth_cells(view: View) -> list[DepthCell]:
    """Every cell in which two depths or more were run, sources in their order."""
    found = [
        cell
        for source in view.names
        for updates in view.schedules
        for n in view.counts_of(source, updates)
        if (cell := _cell(view, source, n, updates)) is not None
    ]
    values = pd.DataFrame(
        {index: cell.gains for index, cell in enumerate(found) if not cell.edge}
    ).T
    if not values.size:
        return found
    adjusted = dict(zip(values.index, statistics.max_t(values.to_numpy(float)), strict=True))
    nothing = float("nan")
    return [replace(cell, adjusted=float(adjusted.get(i, nothing))) for i, cell in enumerate(found)]


def _cell(view: View, source: str, n: int, updates: int) -> DepthCell | None:
    curve = view.curve(source, n, updates)
    if curve.shape[1] < 2 or not len(curve):
        return None
    z, depths = curve.to_numpy(float), tuple(map(int, curve.columns))
    scratch = view.z("scratch", n, "all", updates)
    if len(z) < _FEWEST:
        share = statistics.depth_distribution(z)
        scores = pd.Series(z[:, int(np.argmax(share))], curve.index)
    else:
        member = statistics.half_splits(len(z))
        chosen = statistics.sufficient_depth(member @ z / member.sum(axis=1, keepdims=True))
        share = np.bincount(chosen, minlength=len(depths)) / len(chosen)
        own = np.where(member, 0.0, z[:, chosen].T).sum(axis=0) / (~member).sum(axis=0)
        scores = pd.Series(own, curve.index)
    gains = (scores - scratch).dropna() if len(scratch) else pd.Series(dtype=float)
    edge = view.edge(source, n, updates)
    return DepthCell(source, n, updates, depths, tuple(map(float, share)), gains, len(z), edge=edge)


def table(view: View, found: Sequence[DepthCell]) -> str:
    """A line for each source and schedule, a column for each n."""
    counts = sorted({cell.n for cell in found})
    by_place = {(cell.source, cell.updates, cell.n): cell for cell in found}
    rows = []
    for source in dict.fromkeys(cell.source for cell in found):
        for updates in view.schedules:
            cells = [by_place.get((source, updates, n)) for n in counts]
            if any(cells):
                rows.append([source, f"{updates:,}", *map(_text, cells)])
    return markdown(["source", "updates", *(f"n={n}" for n in counts)], rows)


def _text(cell: DepthCell | None) -> str:
    if cell is None:
        return "–"
    text = distribution(cell.depths, cell.share)
    if not len(cell.gains):
        return text
    size = f"**{numbers.signed(cell.gain)}**" if cell.settled else numbers.signed(cell.gain)
    return f"{text}; G {size}" + (" \\*" if cell.gain < 0 else "") + (" †" if cell.edge else "")


def legend(found: Sequence[DepthCell]) -> str:
    """How to read the table."""
    few = any(cell.m < _FEWEST for cell in found)
    how = (
        "over bootstrap draws of replicates"
        if few
        else "over all splits of the replicates into halves, one of which chooses d\\* and the other gives G"
    )
    return (
        f"*k*: P(d\\* = k), where d\\* is the fewest trained layers within {EPSILON} logit of the best (most frequent "
        f"in bold), {how}. G: gain over scratch at d\\*, logit; blue where positive, orange and \\* where transfer is "
        "below scratch, bold where settled (adjusted p ≤ .05 over the table, step-down max-T)."
        f"{' † at floor or ceiling, so that it enters no test.' * any(cell.edge for cell in found)}\n"
    )


def summary(view: View, found: Sequence[DepthCell]) -> str:
    """How often d* is which, and where transfer is below scratch."""
    if not found:
        return ""
    most = {depth: sum(cell.likely == depth for cell in found) for depth in view.depths}
    said = [f"{view.depth_name(depth)} in {number}" for depth, number in most.items() if number]
    below = [
        f"{cell.source}, n={cell.n}"
        for cell in found
        if len(cell.gains) and cell.gain < 0 and cell.settled
    ]
    harm = (
        f" Below scratch even so, and settled: {numbers.listed(list(dict.fromkeys(below)))}."
        if below
        else ""
    )
    return (
        f"Of {numbers.plural(len(found), 'cell')}, the number of layers that most often suffices is "
        f"{numbers.listed(said)}.{harm}"
    )


def coloured(page: str) -> str:
    """Cells of the table on a page, coloured by the G that they hold."""

    def paint(found: re.Match[str]) -> str:
        strength = min(1.0, float(found[3]) / _STRONG) * 0.5
        shade = "213, 94, 0" if found[2] == numbers.MINUS else "0, 114, 178"
        return f'<td style="background: rgba({shade}, {strength:.2f})">{found[1]}'

    pattern = rf"<td>((?:(?!</td>).)*?; G (?:<strong>)?([+{numbers.MINUS}]?)(\d+\.\d\d))"
    return re.sub(pattern, paint, page)
