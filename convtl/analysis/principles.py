"""Claims written out in a config and their verdicts: one number per replicate, an exact test, a scope.

The lecture's claims are declared in `declared/` and judged in `scorecard.py`, by the same rules.

The rules are those of the protocol: targets are averaged inside a replicate first, the sign-flip test
is exact, several claims are adjusted by Holm, and *practically null* is asked before *supported*.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from convtl.analysis.arms import SCRATCH, Block, blocks
from convtl.analysis.cells import NotEnoughData
from convtl.analysis.statistics import (
    Interval,
    equivalent,
    estimate,
    holm,
    replicates_to_decide,
    sign_flip_interval,
)
from convtl.config.schema import ClaimConfig

ALPHA = 0.05
Outcome = Literal[
    "supported",
    "contradicted",
    "practically null",
    "inconclusive",
    "not tested",
    "not judged",
    "described",
    "not enough data",
]
"""`not tested`: a strong reading whose weak one is not supported; `not judged`: its cells are at floor or ceiling;
`described`: a count without a test."""

_NO_INTERVAL = Interval(float("nan"), float("nan"), 0.0)


@dataclass(frozen=True)
class Verdict:
    """What the data say to one declared claim in one setting.

    Attributes:
      replicates, values: one number (logits) per replicate, averaged over targets.
      interval: sign-flip inversion at the level that it states; null_interval: the one for +-delta.
      p: exact, two-sided; p_adjusted: Holm over the declared claims.
      by_target: mean over replicates within each target.
      note: what qualifies the outcome: what is missing, or how many replicates would decide.
    """

    claim: ClaimConfig
    estimand: str
    setting: str
    outcome: Outcome
    note: str
    scope: str
    replicates: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    effect: float = float("nan")
    interval: Interval = _NO_INTERVAL
    null_interval: Interval = _NO_INTERVAL
    p: float = float("nan")
    p_adjusted: float = float("nan")
    by_target: tuple[tuple[str, float], ...] = ()

    @property
    def m(self) -> int:
        return len(self.values)


# --- the estimand: (block of one target, claim) -> one number per replicate ----------------------------


def _benefit(block: Block, source: str, n: int) -> pd.Series:
    """D(source, n) per replicate, or an error that names the arm that is missing."""
    place = f"target {block.target}, source {source}, n_per_class {n}"
    if block.full == 1:
        raise NotEnoughData(f"{place}: only depth 1 was trained")
    for depth, name in ((1, "1"), (block.full, "all")):
        if not len(block.arm(source, n, depth)):
            raise NotEnoughData(f"{place}: no finished trial of depth {name}")
    return block.benefit(source, n)


def _depth_benefit_growth(block: Block, claim: ClaimConfig) -> pd.Series:
    high, low = (_benefit(block, claim.source, n) for n in (claim.n_high, claim.n_low))
    growth = (high - low).dropna()
    if not len(growth):
        raise NotEnoughData(
            f"target {block.target}: no replicate has depths 1 and all at both n_per_class "
            f"{claim.n_low} and {claim.n_high}"
        )
    return growth


def _formula(claim: ClaimConfig) -> str:
    return f"D(n={claim.n_high}) - D(n={claim.n_low}), source {claim.source}"


# --- verdicts -----------------------------------------------------------------------------------------


def judge(
    claims: Sequence[ClaimConfig], data: pd.DataFrame, parts: Sequence[Block] | None = None
) -> list[Verdict]:
    """Verdicts of all claims in every setting (model, regime, schedule) of a frame of `arms.frame`.

    Holm runs over all verdicts that have a p, so a claim judged in two settings counts as two.

    Args:
      parts: the frame's blocks, where they were made already.
    """
    settings: dict[tuple[tuple[str, str], ...], list[Block]] = {}
    for block in blocks(data) if parts is None else parts:
        settings.setdefault(block.setting, []).append(block)
    names = _setting_names(list(settings))
    found = [
        _judge(claim, parts, names[key]) for claim in claims for key, parts in settings.items()
    ]
    if not settings:
        found = [_missing(claim, "no finished trial", "", "") for claim in claims]
    tested = [index for index, verdict in enumerate(found) if verdict.m]
    adjusted = holm([found[index].p for index in tested])
    for index, p in zip(tested, adjusted, strict=True):
        found[index] = _decide(replace(found[index], p_adjusted=float(p)), len(tested))
    return [_compare(verdict, found) for verdict in found]


def scope(parts: Sequence[Block]) -> str:
    """To what a verdict over these blocks is confined."""
    setting = dict(parts[0].setting)
    targets = ", ".join(sorted({block.target for block in parts}))
    facts = [
        f"target{'s' if len(parts) > 1 else ''} {targets}",
        f"net {setting['model']}" if setting["model"] else "",
        f"regime {setting['regime']}" if setting["regime"] else "",
        f"{setting['updates']} updates (this schedule only)" if setting["updates"] else "",
    ]
    return f"Scope: {'; '.join(fact for fact in facts if fact)}."


def _judge(claim: ClaimConfig, parts: list[Block], setting: str) -> Verdict:
    """A claim in one setting: everything but the outcome, which needs the adjusted p."""
    try:
        table = pd.DataFrame({block.target: _depth_benefit_growth(block, claim) for block in parts})
    except NotEnoughData as missing:
        return _missing(claim, str(missing), setting, scope(parts))
    paired = table.dropna()
    if not len(paired):
        return _missing(claim, "no replicate is finished for every target", setting, scope(parts))
    values = paired.mean(axis=1).to_numpy()
    found = estimate(values)
    unsure = [] if all(block.full_known for block in parts) else [_depth_doubt(parts[0])]
    unsure += _floor_doubt(claim, parts)
    return Verdict(
        claim=claim,
        estimand=_formula(claim),
        setting=setting,
        outcome="inconclusive",
        note="; ".join(unsure),
        scope=scope(parts),
        replicates=tuple(map(int, paired.index)),
        values=tuple(map(float, values)),
        effect=found.effect,
        interval=found.interval,
        null_interval=sign_flip_interval(values, 0.9),
        p=found.p,
        by_target=tuple((str(name), float(value)) for name, value in paired.mean().items()),
    )


def _decide(verdict: Verdict, tests: int) -> Verdict:
    claim = verdict.claim
    outcome, note = decide(
        verdict.values,
        verdict.p_adjusted,
        verdict.by_target,
        direction=claim.direction,
        smallest_effect=claim.smallest_effect,
        tests=tests,
    )
    return replace(verdict, outcome=outcome, note=joined(note, verdict.note))


def decide(
    values: Sequence[float],
    p: float,
    by_target: Sequence[tuple[str, float]],
    *,
    direction: Literal["positive", "negative"],
    smallest_effect: float,
    tests: int = 1,
) -> tuple[Outcome, str]:
    """The outcome, in the order of the protocol: null, supported or contradicted, inconclusive; and a note.

    Args:
      values: one number per replicate; p: theirs, adjusted; by_target: mean of each target.
      tests: how many p values were adjusted together.
    """
    sign = 1 if direction == "positive" else -1
    if equivalent(values, smallest_effect):
        return "practically null", ""
    if p <= ALPHA and len({np.sign(value) for _, value in by_target}) == 1:
        return "supported" if sign * float(np.mean(values)) > 0 else "contradicted", ""
    if p <= ALPHA:
        means = ", ".join(f"{name} {value:+.2f}" for name, value in by_target)
        return "inconclusive", f"targets disagree in sign ({means})"
    return "inconclusive", how_many(values, smallest_effect, tests)


def how_many(values: Sequence[float], smallest_effect: float, tests: int = 1) -> str:
    """How many replicates would decide, in words."""
    needed = replicates_to_decide(values, smallest_effect, alpha=ALPHA / tests)
    if needed is None:
        return "how many replicates would decide cannot be foreseen"
    if needed <= len(values):
        return f"the effect is uneven; more than {len(values)} replicates are needed to decide"
    return f"about {needed} replicates would decide"


def _missing(claim: ClaimConfig, what: str, setting: str, where: str) -> Verdict:
    formula = _formula(claim)
    return Verdict(claim, formula, setting, "not enough data", f"missing: {what}", where)


def _depth_doubt(block: Block) -> str:
    return f"no scratch trial confirms that depth {block.depth_name(block.full)} is the whole net"


def _floor_doubt(claim: ClaimConfig, parts: Sequence[Block]) -> list[str]:
    """Cells in which both arms are under twice chance: their D says little."""
    return [
        f"n={n}, target {block.target}: both arms are under twice chance"
        for block in parts
        for n in (claim.n_low, claim.n_high)
        if at_floor(block, claim.source, n)
    ]


def at_floor(block: Block, source: str, n: int) -> bool:
    """True if head and whole net are both under twice chance accuracy."""
    arms = [block.arm(source, n, depth, "test_accuracy") for depth in (1, block.full)]
    if block.classes is None or source == SCRATCH or not all(len(arm) for arm in arms):
        return False
    return all(float(arm.mean()) < 2 / block.classes for arm in arms)


def _setting_names(
    settings: Sequence[tuple[tuple[str, str], ...]],
) -> dict[tuple[tuple[str, str], ...], str]:
    """What tells each setting from the others, in words; empty for a single one."""
    content = [dict(setting) for setting in settings]
    varying = [
        name
        for name in (content[0] if content else ())
        if len({item[name] for item in content}) > 1
    ]
    return {
        setting: ", ".join(
            f"{name.removeprefix('axes.')} {item[name]}" for name in varying if item[name]
        )
        for setting, item in zip(settings, content, strict=True)
    }


def _compare(verdict: Verdict, found: Sequence[Verdict]) -> Verdict:
    """Marks a verdict that another setting of the same claim does not share."""
    others = [
        item for item in found if item.claim == verdict.claim and item.outcome != verdict.outcome
    ]
    if not verdict.m or not any(item.m for item in others):
        return verdict
    return replace(
        verdict,
        note=joined(verdict.note, "the outcome depends on the setting (schedule, net or regime)"),
    )


def joined(*texts: str) -> str:
    """Notes in one line; empty ones leave no trace."""
    return "; ".join(text for text in texts if text)
