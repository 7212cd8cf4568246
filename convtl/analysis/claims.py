"""Verdicts on claims, by the rules of the analysis plan; the first one applies.

*Not judged*: a condition at the edge of its learning rates, at floor or at ceiling. *Mixed*: parts settled on opposite
sides. *Below*: every part smaller than the smallest effect of interest. *Supported* or *contradicted*. *Inconclusive*.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, log2, sqrt
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from convtl.analysis.conditions import Conditions, MissingCondition
from convtl.analysis.contrasts import Contrast, PlannedConditions, contrasts_of
from convtl.analysis.statistics import (
    Direction,
    Interval,
    equivalence_p,
    equivalent,
    holm,
    max_t,
    one_sided_p,
    shifted_p,
    sign_flip_interval,
    sign_flip_p,
)
from convtl.config.claims import ClaimConfig
from convtl.config.schema import Config, LimitsConfig
from convtl.errors import UserError, unknown_name
from convtl.study.grid import Trial

ALPHA = 0.05
MOST_PRIMARY = 4
"""Primary claims a ground."""
SENSITIVITY = (0.5, 1.5)
"""Factors of the smallest effect of interest, for verdicts by it."""
Outcome = Literal["supported", "contradicted", "mixed", "below", "inconclusive", "not judged"]


@dataclass(frozen=True)
class PartResult:
    """One mean of a claim.

    Attributes:
      values: one number a replicate, averaged over targets.
      points: the effect in percentage points of accuracy; None where it is not one of accuracies.
      interval: 95 %, by inversion of the sign-flip test.
      p: that the part holds or that it fails, as its mean points.
      lower_bound: whether scratch alone is at floor, so that the effect is at least this.
      seen: the conditions compared.
    """

    name: str
    margin: float
    values: tuple[float, ...]
    effect: float
    points: float | None
    interval: Interval
    p: float
    by_target: dict[str, float]
    lower_bound: bool
    seen: frozenset[str] = frozenset()

    @property
    def m(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Verdict:
    """Verdict on one claim.

    Attributes:
      why: its reason, in a line.
      p: that the claim holds or that it fails; p_adjusted: after Holm over the primary claims of its ground.
      m_needed: replicates that would decide an inconclusive claim, where that can be foreseen.
      excluded: conditions for which it is not judged.
      sensitivity: another smallest effect of interest -> the verdict with it.
    """

    name: str
    claim: ClaimConfig
    verdict: Outcome
    why: str
    p: float = float("nan")
    p_adjusted: float = float("nan")
    parts: tuple[PartResult, ...] = ()
    m_needed: int | None = None
    excluded: int = 0
    sensitivity: Mapping[float, Outcome] = field(default_factory=dict)


def claims_of(config: Config) -> dict[str, ClaimConfig]:
    """Return the claims of a study's scorecard, by name.

    Raises:
      UserError: a name that no claim has.
    """
    for name in config.scorecard:
        if name not in config.claims:
            raise unknown_name("scorecard", name, config.claims)
    return {name: config.claims[name] for name in config.scorecard}


# --- before anything is trained ---------------------------------------------------------------------


def check(config: Config, trials: Sequence[Trial], whole: bool = True) -> list[str]:
    """Check that a study can decide its claims; return lines on its power.

    Args:
      whole: False for a slice of a study; neither this nor one that is cut by `limits` has to decide its claims.

    Raises:
      UserError: a condition is missing or ambiguous, or replicates are too few.
    """
    claims = claims_of(config)
    if not claims or config.limits != LimitsConfig():
        return []
    conditions = PlannedConditions(config, trials)
    lines: list[str] = []
    effects: dict[int, dict[str, float]] = {}
    for name, claim in claims.items():
        family = _family(claim, config.claims)
        if family > MOST_PRIMARY:
            raise UserError(f"claims: got {family} primary claims on {claim.ground}; at most 4")
        try:
            m = min(len(contrast.table) for contrast in contrasts_of(claim, conditions))
            least = family * 2 / 2**m
            needed = ceil(log2(2 * family / ALPHA))
            problem = f"with {m} replicates no p is below {least:.2g}; accepted: {needed} or more"
        except MissingCondition as missing:
            least, problem = 1.0, str(missing)
        if least <= ALPHA:
            power = stats.norm.ppf(1 - ALPHA / family / 2) + stats.norm.ppf(0.8)
            effects.setdefault(m, {})[name] = power / sqrt(m)
        elif whole:
            raise UserError(f"claims.{name}: {problem}; without claims: scorecard=[]")
        else:
            lines.append(f"claim {name} is not judged: {problem}")
    for m, by_claim in effects.items():
        some = f"{len(by_claim)} claims" if len(by_claim) > 1 else f"claim {min(by_claim)}"
        sizes = dict.fromkeys(f"{size:.1f}" for size in sorted(by_claim.values()))
        power = (
            f"{m} replicates find an effect of {' or '.join(sizes)} standard deviations of theirs"
        )
        lines.append(f"{some}: {power} four times in five")
    return lines


def _family(claim: ClaimConfig, claims: Mapping[str, ClaimConfig]) -> int:
    """Number of p values adjusted together: of the primary claims of a ground."""
    if claim.rank == "secondary":
        return 1
    return sum(one.rank == "primary" and one.ground == claim.ground for one in claims.values())


# --- verdicts ---------------------------------------------------------------------------------------


def judge(
    claims: Mapping[str, ClaimConfig],
    conditions: Conditions,
    registry: Mapping[str, ClaimConfig] | None = None,
) -> list[Verdict]:
    """Judge claims; Holm counts all primary ones of a ground, unjudged with p = 1.

    Args:
      registry: every claim that there is, so that a verdict does not depend on which others a study judges.
    """
    contrasts: dict[str, list[Contrast]] = {}
    verdicts: dict[str, Verdict] = {}
    for name, claim in claims.items():
        try:
            measured = contrasts_of(claim, conditions)
        except MissingCondition as missing:
            verdicts[name] = Verdict(name, claim, "not judged", str(missing))
            continue
        marks = {key: why for one in measured for key, why in one.marks.items()}
        if not marks:
            contrasts[name] = measured
            continue
        total = len({key for one in measured for key in one.seen})
        first, reason = next(iter(marks.items()))
        why = f"{len(marks)} of {total} conditions, such as {first}: {reason}"
        verdicts[name] = Verdict(name, claim, "not judged", why, excluded=len(marks))
    known = {**(registry or {}), **claims}
    decided = {scale: decide(known, contrasts, scale) for scale in (1.0, *SENSITIVITY)}
    for name, verdict in decided[1.0].items():
        deltas = {scale: round(scale * claims[name].smallest_effect, 6) for scale in SENSITIVITY}
        others = {delta: decided[scale][name].verdict for scale, delta in deltas.items()}
        verdicts[name] = replace(verdict, sensitivity=others)
    return [verdicts[name] for name in claims]


def decide(
    claims: Mapping[str, ClaimConfig], contrasts: Mapping[str, list[Contrast]], scale: float = 1.0
) -> dict[str, Verdict]:
    """Judge claims with measured contrasts, at `scale` times their smallest effects.

    Args:
      claims: all of the families, judged or not.
    """
    tested = {
        name: _test(measured, scale * claims[name].smallest_effect)
        for name, measured in contrasts.items()
    }
    adjusted = {name: one.p for name, one in tested.items()}
    for ground in {claim.ground for claim in claims.values()}:
        family = [n for n, c in claims.items() if (c.rank, c.ground) == ("primary", ground)]
        ps = holm([tested[name].p if name in tested else 1.0 for name in family])
        adjusted |= dict(zip(family, map(float, ps), strict=True))
    verdicts = {}
    for name, one in tested.items():
        outcome, why, needed = _outcome(one, adjusted[name], _family(claims[name], claims))
        pairs = zip(one.contrasts, one.ps, strict=True)
        parts = tuple(_result(contrast, p, one.delta) for contrast, p in pairs)
        if left_out := max(contrast.left_out for contrast in one.contrasts):
            why += f"; replicates left out, as one of their conditions is missing: {left_out}"
        verdicts[name] = Verdict(
            name, claims[name], outcome, why, one.p, adjusted[name], parts, needed
        )
    return verdicts


@dataclass(frozen=True)
class _Tested:
    """Contrasts of a claim with their p values, at one smallest effect of interest.

    Attributes:
      ps: of each contrast, to be shown: that it holds or that it fails, as its mean points.
      holds: p that it holds; 0 or 1 where its sign alone counts.
      fails: p that it fails, adjusted for that any contrast may fail (max-T); 1 where it has no test.
      sides: whether it points to its holding.
    """

    contrasts: Sequence[Contrast]
    delta: float
    ps: np.ndarray
    holds: np.ndarray
    fails: np.ndarray
    sides: list[bool]

    @property
    def points_to_support(self) -> bool:
        return float(self.holds.max()) <= float(self.fails.min())

    @property
    def p(self) -> float:
        return float(min(self.holds.max(), self.fails.min()))


def _test(contrasts: Sequence[Contrast], delta: float) -> _Tested:
    """Test every contrast against its margin, both ways.

    A margin that no effect would meet is one side of an equivalence, and tested one-sidedly, as one is; any other is
    tested two-sidedly. A lower bound may hold only if it has to be above a margin, and fail only if it has to be below.
    """
    sign, count = np.sign(contrasts[0].effect), len(contrasts)
    first = -1 if contrasts[0].part.test == "below" else 1
    sides = [bool(first * one.effect > 0) for one in contrasts]
    ps, holds, fails = np.ones(count), np.ones(count), np.ones(count)
    beyond: list[tuple[int, pd.Series]] = []  # numbers that are positive where a contrast fails
    for i, one in enumerate(contrasts):
        x, margin = one.values, one.margin(delta)
        if one.part.test == "same_sign":
            ps[i], holds[i] = sign_flip_p(x), float(sign * one.effect <= 0)
            continue
        if one.part.test == "within":
            holds[i] = equivalence_p(x, margin)
            beyond += [(i, x - margin)] if one.lower_bound else [(i, x - margin), (i, -x - margin)]
        else:
            right: Direction = "positive" if one.part.test == "above" else "negative"
            holds[i] = (one_sided_p if one.tolerant else shifted_p)(x, margin, right)
            if not (one.lower_bound and right == "positive"):
                beyond.append((i, margin - x if right == "positive" else x - margin))
        if one.lower_bound and one.part.test != "above":
            holds[i] = 1.0
        failing = min([1.0, *(shifted_p(y, 0.0, "positive") for j, y in beyond if j == i)])
        ps[i], sides[i] = min(holds[i], failing), bool(holds[i] <= failing)
    jointly = (
        max_t(pd.concat([y for _, y in beyond], axis=1).to_numpy().T) if beyond else np.ones(0)
    )
    for (i, y), p in zip(beyond, jointly, strict=True):
        fails[i] = min(fails[i], p if y.mean() > 0 else 1.0)
    if any(one.part.test == "same_sign" and holds[i] for i, one in enumerate(contrasts)):
        fails[:] = 1.0  # parts of unlike signs say nothing together
    return _Tested(contrasts, delta, ps, holds, fails, sides)


def _outcome(tested: _Tested, p: float, family: int) -> tuple[Outcome, str, int | None]:
    """Return the verdict at an adjusted p, its reason, and replicates to decide it."""
    contrasts, delta = tested.contrasts, tested.delta
    if opposite := _settled_apart(tested):
        return "mixed", f"settled on opposite sides: {opposite}", None
    if not all(one.tolerant or one.part.test == "same_sign" for one in contrasts) and all(
        equivalent(one.values, delta) and not one.lower_bound for one in contrasts
    ):
        return "below", f"every 90 % interval lies within {delta:g}", None
    holds = tested.points_to_support
    deciding = contrasts[int(tested.holds.argmax() if holds else tested.fails.argmin())]
    needed = contrasts if holds else [deciding]
    if p > ALPHA:
        for one in needed:
            if one.lower_bound and one.effect <= one.margin(delta):
                return "inconclusive", f"{one.name}: scratch is at floor, so it may be larger", None
        replicates = [one.replicates_needed(delta, ALPHA / family) for one in needed]
        if any(number is None for number in replicates):
            return "inconclusive", "how many replicates would decide cannot be foreseen", None
        most = max(len(deciding.table) + 1, *filter(None, replicates))
        return "inconclusive", f"about {most} replicates would decide", most
    for one in needed:
        if not one.targets_agree(delta, holds, np.sign(contrasts[0].effect)):
            means = ", ".join(f"{target} {mean:+.2f}" for target, mean in one.by_target.items())
            return "inconclusive", f"targets disagree on {one.name}: {means}", None
    speed = any(one.speed for one in contrasts)
    qualified = "; scratch was not trained until it levelled off, so it may be a gain of speed"
    name = f"{deciding.name} " if len(contrasts) > 1 else ""
    why = f"{name}{deciding.effect:+.2f}{qualified * speed}"
    return ("supported" if holds else "contradicted"), why, None


def _settled_apart(tested: _Tested) -> str:
    """Parts that are settled on opposite sides (Holm over parts); else nothing.

    Points of a part that no effect would meet are one statement: a point that fails refutes it, whatever others do.
    """
    of_each = list(zip(tested.contrasts, tested.sides, holm(tested.ps) <= ALPHA, strict=True))
    holding, failing = (
        [one for one, side, is_settled in of_each if is_settled and side is holds]
        for holds in (True, False)
    )
    apart = any(a.part is not b.part or not a.tolerant for a in holding for b in failing)
    settled = (f"{one.name} {one.effect:+.2f}" for one in (*holding, *failing))
    return ", ".join(settled) if apart else ""


def _result(contrast: Contrast, p: float, delta: float) -> PartResult:
    return PartResult(
        name=contrast.name,
        margin=contrast.margin(delta),
        values=tuple(map(float, contrast.values)),
        effect=contrast.effect,
        points=contrast.points,
        interval=sign_flip_interval(contrast.values),
        p=float(p),
        by_target=contrast.by_target,
        lower_bound=contrast.lower_bound,
        seen=contrast.seen,
    )
