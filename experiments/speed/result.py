"""One measured figure, beside its goal and what limits it."""

from dataclasses import dataclass
from typing import Literal

from timing import Ratio

Sense = Literal["at least", "at most"]


@dataclass(frozen=True)
class Result:
    """What one comparison came to.

    Attributes:
      name: a short key, as in the table.
      what: what was compared, in words.
      ours, theirs: the sides' own figures, with units; empty where there is one side only, or none was measured.
      ratio: the figure that the goal is about; None where it was not measured.
      goal: what was hoped for; None where nothing was.
      limit: what bounds the figure, and how far away that is.
      wrong: what differs between sides that should agree; None where they agree.
      note: why it was not measured, or what has to be known to read it.
    """

    name: str
    what: str
    ours: str = ""
    theirs: str = ""
    ratio: Ratio | None = None
    goal: float | None = None
    sense: Sense = "at least"
    unit: str = "x"
    limit: str = ""
    wrong: str | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.wrong is not None:
            return "WRONG"
        if self.ratio is None:
            return "not measured"
        if self.goal is None:
            return "–"
        reached = (
            self.ratio.median >= self.goal
            if self.sense == "at least"
            else self.ratio.median <= self.goal
        )
        return "met" if reached else "missed"


def not_measured(
    name: str, what: str, why: str, goal: float | None = None, sense: Sense = "at least"
) -> Result:
    return Result(name, what, goal=goal, sense=sense, note=why)


def difference(ours: float, theirs: float, tolerance: float, what: str) -> str | None:
    """In words what is wrong where two numbers differ by more than a share of the second; None where they agree."""
    if abs(ours - theirs) <= tolerance * max(abs(theirs), 1e-12):
        return None
    return f"{what}: {ours:.6g} here, {theirs:.6g} there"
