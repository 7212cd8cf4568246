"""Replication: the effects of a study's claims under two seeds."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np
from scipy import stats

from convtl.analysis.claims import PartResult, Verdict
from convtl.analysis.contrasts import Contrast
from convtl.analysis.statistics import Interval

SAME = 0.3
"""Logits within which the effects of two seeds are the same."""


@dataclass(frozen=True)
class Replication:
    """A part of a claim under two seeds.

    Attributes:
      difference, interval: of the second from the first, with Welch's interval of 95 %.
      z2: squared difference over its variance.
    """

    claim: str
    part: str
    first: float
    second: float
    difference: float
    interval: Interval
    z2: float
    outcome: Literal["replicated", "not replicated", "undecided"]


def effect_of(one: PartResult | Contrast) -> Hashable:
    """Return what parts of one effect share: conditions and numbers, but for the sign."""
    values = np.round(np.asarray(one.values), 9)
    return one.seen, min(tuple(values), tuple(-values))


def replication(first: Sequence[Verdict], second: Sequence[Verdict]) -> list[Replication]:
    """Compare effects in logits of claims that were judged under both seeds.

    An effect of several claims stands with the first of them. Replicated: the same sign, and the interval of the
    difference inside +-0.3. Not replicated: else, where that interval excludes 0.
    """
    others = {verdict.name: verdict for verdict in second}
    pairs: dict[Hashable, Replication] = {}
    for verdict in first:
        if verdict.name in others and verdict.claim.unit == "logit":
            for one, other in zip(verdict.parts, others[verdict.name].parts, strict=False):
                pairs.setdefault(effect_of(one), _replicated(verdict.name, one, other))
    return list(pairs.values())


def _replicated(claim: str, one: PartResult, other: PartResult) -> Replication:
    welch = stats.ttest_ind(other.values, one.values, equal_var=False)
    low, high = welch.confidence_interval(0.95)
    interval = Interval(float(low), float(high), 0.95)
    same_sign = one.effect * other.effect > 0
    outcome: Literal["replicated", "not replicated", "undecided"] = "undecided"
    if same_sign and low > -SAME and high < SAME:
        outcome = "replicated"
    elif low > 0 or high < 0:
        outcome = "not replicated"
    difference, z2 = other.effect - one.effect, float(welch.statistic) ** 2
    return Replication(claim, one.name, one.effect, other.effect, difference, interval, z2, outcome)


def mean_z2(replications: Sequence[Replication]) -> float:
    """Mean squared z of differences: about 1.1 where intervals are right."""
    known = [one.z2 for one in replications if isfinite(one.z2)]
    return float(np.mean(known)) if known else float("nan")
