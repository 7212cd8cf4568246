"""What a declared claim consists of."""

from dataclasses import dataclass
from typing import Literal

from convtl.analysis.contrasts import LONG, SHORT, Contrast

DELTA = 0.2
"""Smallest effect of interest, logits: about 40 % more labels for scratch."""


@dataclass(frozen=True)
class Part:
    """A statement about one mean: `above` or `below` the margin, or `within` plus and minus it."""

    contrast: Contrast
    name: str = ""
    relation: Literal["above", "below", "within"] = "above"
    margin: float = 0.0


@dataclass(frozen=True)
class Paper:
    """What a paper says to the claim; `finds` is the verdict that would agree with it."""

    cite: str
    finds: Literal["supported", "contradicted", "practically null"]
    what: str


@dataclass(frozen=True)
class Claim:
    """One declared claim.

    Attributes:
      reading: `secondary` claims qualify a verdict and carry none of a principle.
      test: `difference`: the mean of the one part differs from 0 (sign-flip, two-sided; practically null is
        asked first). `all_parts`: every part holds (intersection-union: the largest p; practically null is
        asked first of parts without a margin). `order`: the parts'
        means, one a source, rise in the order given (permutation of the sources; descriptive).
        `share`: in how many cells the part's mean is above its margin (described, not tested).
      primary: member of the Holm family.
      after: the weak reading that must be supported first.
      schedules: updates. The first decides; where another gives another outcome, that is one about speed.
        A single one where nothing else is run, or where the number itself spans both.
      targets: empty: every main target of the study, averaged inside a replicate.
      smallest_effect: in `unit`.
      beside: means that are printed beside the verdict and not tested.
      qualified_by: claims whose verdict says how far this one reaches.
      parts_of_it: claims about single parts of a mean over unlike ones; where these differ in sign, the row says so.
      selects: columns, or beginnings of their names, from which the claim itself chooses rows; any other
        that varies makes a setting of its own.
      seen: the seed of which some results had been seen when the claim got its words; None: none had.
    """

    name: str
    principle: str
    reading: Literal["weak", "strong", "secondary"]
    statement: str
    formula: str
    test: Literal["difference", "all_parts", "order", "share"]
    parts: tuple[Part, ...]
    papers: tuple[Paper, ...] = ()
    direction: Literal["positive", "negative"] = "positive"
    primary: bool = False
    after: str = ""
    schedules: tuple[int, ...] = (SHORT, LONG)
    targets: tuple[str, ...] = ()
    smallest_effect: float = DELTA
    unit: str = "logit"
    beside: tuple[Part, ...] = ()
    qualified_by: tuple[str, ...] = ()
    parts_of_it: tuple[str, ...] = ()
    selects: tuple[str, ...] = ()
    seen: int | None = None
