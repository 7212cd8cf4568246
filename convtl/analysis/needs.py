"""Which cells a declared claim looks at, found by letting it look."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from convtl.analysis.arms import SCRATCH
from convtl.analysis.cells import Cells, Depth, NotEnoughData
from convtl.analysis.contrasts import LARGE, SMALL
from convtl.analysis.declared import Claim

_LENET = 5


@dataclass(frozen=True, order=True)
class Need:
    """One cell; `target` is empty for every main target, `upper` is `fresh` where trained layers start anew.

    `regime` and `shift` are empty where the claim does not choose by them.
    """

    source: str
    n_per_class: int
    depth: int
    updates: int
    target: str = ""
    upper: str = "source"
    regime: str = ""
    shift: str = ""


def needs(claim: Claim, updates: int | None = None, full: int = _LENET) -> tuple[Need, ...]:
    """The cells of a claim, in order; none for claims about gradients.

    Args:
      updates: one of the claim's schedules; by default the one that decides.
      full: weighted units of the net.
    """
    seen = _Seen(pd.DataFrame(columns=["source", "depth"]), ("",), units=full)
    for part in claim.parts:
        try:
            part.contrast(seen, claim.schedules[0] if updates is None else updates)
        except NotEnoughData:  # the probes' table
            continue
    return tuple(sorted(seen.asked))


@dataclass(frozen=True, eq=False)
class _Seen(Cells):
    """Cells that are all there, and remember which were asked for."""

    units: int = _LENET
    regime: str = ""
    shift: str = ""
    asked: set[Need] = field(default_factory=set)

    @property
    def full(self) -> int:
        return self.units

    def has(self, source: str, n: int, depth: Depth, updates: int) -> bool:
        return depth != 4  # the one cell that claims use only where it was run

    def counts(self, source: str, depths: Sequence[Depth], updates: int) -> list[int]:
        return [SMALL, LARGE]

    def by(self, regime: str) -> "_Seen":
        return replace(self, regime=regime)

    def shifted(self, kind: str) -> "_Seen":
        return replace(self, shift=kind)

    def _arm(
        self, target: str, source: str, n: int, depth: Depth, updates: int, upper: str, column: str
    ) -> pd.Series:
        k = self.units if depth == "all" or source == SCRATCH else int(depth)
        self.asked.add(Need(source, n, k, updates, target, upper, self.regime, self.shift))
        return pd.Series(np.zeros(2), pd.Index([0, 1], name="replicate"))

    def _edge(
        self, target: str, source: str, n: int, depth: Depth, updates: int, upper: str
    ) -> str | None:
        return ""


def missing(claim: Claim, known: Sequence[Need], targets: Sequence[str]) -> tuple[Need, ...]:
    """What a claim needs, on its deciding schedule, that a study does not run."""
    there = set(known)
    wanted = [
        replace(need, target=target)
        for need in needs(claim)
        for target in ([need.target] if need.target else targets)
    ]
    return tuple(need for need in wanted if need not in there)
