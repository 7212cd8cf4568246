"""A study beside the same study under another seed: which of its results are found again."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from convtl.analysis.findings import Measured
from convtl.analysis.principles import ALPHA
from convtl.analysis.scorecard import Score
from convtl.analysis.statistics import intersection_union
from convtl.reporting import numbers
from convtl.reporting.tables import markdown

ASKED = 0.01
"""Results with a p below this, after adjustment, are expected to be found again."""
_LEGEND = (
    "Primary claims, and strong ones that were tested (whose p is as it is in both columns: they wait for their weak "
    "reading). Of a claim of several parts: the part that decides the first run, in both; its sign is whether the "
    f"parts speak for it or against it. A dash: not asked, as the first p is not below {ASKED:g}.\n"
)


@dataclass(frozen=True)
class Second:
    """The other run.

    Attributes:
      command: that made it, without folders; made_by: the commits of its rows, in words.
      differs: keys of the config, but for the seed, that have another value than in the first run.
    """

    seed: int
    scores: tuple[Score, ...]
    command: str = ""
    made_by: str = ""
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair:
    """A claim in both runs.

    Attributes:
      number: its place in Table 1.
      second: None where the second run lacks what the claim needs.
      asked: whether the first result is one that should be found again.
      kept: whether it is: the same sign, and an unadjusted p of at most .05. The sign of a claim of several
        parts is whether they speak for it or against it.
    """

    number: int
    first: Score
    second: Score | None
    asked: bool
    kept: bool


def pairs(first: Sequence[Score], second: Sequence[Score]) -> list[Pair]:
    """The primary and the strong claims that the first run tested, each with what the second one found."""
    found = []
    for number, score in enumerate(first, 1):
        if not (score.claim.primary or score.reading == "strong") or math.isnan(score.p):
            continue
        other = same(score, first, second)
        asked = _adjusted(score) < ASKED
        kept = other is not None and other.p <= ALPHA and _sign(other) == _sign(score)
        found.append(Pair(number, score, other, asked, kept))
    return found


def same(score: Score, first: Sequence[Score], second: Sequence[Score]) -> Score | None:
    """The same claim in the same setting; in the only setting, whatever its name, where there is one in both."""
    own = [one for one in second if one.name == score.name]
    if len(own) != 1 or sum(one.name == score.name for one in first) != 1:
        own = [one for one in own if one.setting == score.setting]
    return own[0] if own and own[0].parts else None


def _adjusted(score: Score) -> float:
    """Strong readings are tested only after their weak one, and so as they are."""
    return score.p_adjusted if score.claim.primary else score.p


def _sign(score: Score) -> float:
    if score.claim.test != "all_parts":
        return float(np.sign(score.effect))
    holds = intersection_union([part.p for part in score.parts])
    fails = min(1.0, len(score.parts) * min(part.p_contrary for part in score.parts))
    return 1.0 if holds <= fails else -1.0


# --- in a report --------------------------------------------------------------------------------------


def section(scores: Sequence[Score], seed: int, second: Second) -> list[str]:
    """Sentence and table."""
    found, differing = pairs(scores, second.scores), changes(scores, second.scores)
    also = (
        f" The second run differs in {numbers.listed(list(second.differs))} too."
        if second.differs
        else ""
    )
    return [
        f"**Run again with seed {second.seed}.** {sentence(found, seed, second.seed, differing)}{also}\n",
        *([table(found, seed, second.seed), _LEGEND] if found else []),
    ]


def reproduce(second: Second) -> list[str]:
    """How the second run was made."""
    if not second.command:
        return []
    by = f" (its rows were made by {second.made_by})" if second.made_by else ""
    return [
        f"The second run{by} is that of `{second.command.replace('`', '')}`; `python -m convtl.report` sets it beside "
        "the first one where its key `replication` names the folder.\n"
    ]


def changes(first: Sequence[Score], second: Sequence[Score]) -> dict[int, str]:
    """Number of each claim, of any reading, on which the runs' verdicts differ -> both, in words."""
    found = {}
    for number, score in enumerate(first, 1):
        other = same(score, first, second)
        if score.m and other is not None and other.outcome != score.outcome:
            found[number] = f"{number} ({score.outcome} → {other.outcome})"
    return found


def sentence(found: Sequence[Pair], seed: int, other: int, differing: Mapping[int, str]) -> str:
    """How many of the results that should be found again are; then every claim whose verdict differs.

    Args:
      differing: of `changes`.
    """
    asked = [pair for pair in found if pair.asked]
    run = [pair for pair in asked if pair.second is not None]
    kept = [pair for pair in run if pair.kept]
    said = (
        f"Of {numbers.plural(len(run), 'claim')} with p < {ASKED:g} (adjusted) under seed {seed}, {len(kept)} "
        f"{'is' if len(kept) == 1 else 'are'} replicated under seed {other}: the same sign, and p ≤ {ALPHA:g}"
    )
    lost = [pair.number for pair in run if not pair.kept]
    for what, own in (
        ("not replicated", [differing.get(number, str(number)) for number in lost]),
        (
            "replicated with another verdict",
            [differing[p.number] for p in kept if p.number in differing],
        ),
        ("not run again", [str(pair.number) for pair in asked if pair.second is None]),
    ):
        if own:
            said += f"; {what}: claim{'s' * (len(own) > 1)} {numbers.listed(own)}"
    others = [
        text for number, text in differing.items() if number not in {pair.number for pair in run}
    ]
    if others:
        said += f". Of the other claims, the verdict differs on {numbers.listed(others)}"
    return f"{said}."


def table(found: Sequence[Pair], seed: int, other: int) -> str:
    """claim | effect and p of the first run | effect, p and verdict of the second | replicated."""
    header = [
        "claim",
        f"effect, seed {seed}",
        "p (adjusted)",
        f"effect, seed {other}",
        "p (unadjusted)",
        f"verdict, seed {other}",
        "replicated",
    ]
    rows = []
    for pair in found:
        where = f" ({pair.first.setting})" if pair.first.setting else ""
        part = _deciding(pair.first)
        rows.append(
            [
                f"{pair.number}\\. {pair.first.claim.statement}{where}",
                _effect(pair.first, part),
                _p(_adjusted(pair.first)),
                _effect(pair.second, part) if pair.second else "–",
                _p(pair.second.p) if pair.second else "–",
                f"**{pair.second.outcome}**" if pair.second else "not run",
                "–" if not pair.asked or pair.second is None else "yes" if pair.kept else "**no**",
            ]
        )
    return markdown(header, rows)


def _deciding(score: Score) -> str:
    """Name of the part that decides, of a claim with several."""
    named = next((part.part.name for part in score.parts if part.values == score.values), "")
    return named if len(score.parts) > 1 else ""


def _effect(score: Score, part: str) -> str:
    """Mean of the part that decides the first run, so that like is set beside like."""
    own: Measured | None = (
        next((one for one in score.parts if one.part.name == part), None) if part else None
    )
    value = own.effect if own is not None else score.effect
    unit = "" if score.unit == "logit" else f" {score.unit}"
    return f"{numbers.signed(value)}{unit}{f' ({part})' if part else ''}"


def _p(value: float) -> str:
    return "–" if math.isnan(value) else numbers.p_value(value)
