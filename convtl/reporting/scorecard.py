"""The scorecard of a study: every declared claim and its verdict, as a table of the report and for a terminal."""

import math
import re
import textwrap
from collections import Counter
from collections.abc import Sequence

from convtl.analysis.findings import Measured
from convtl.analysis.principles import ALPHA
from convtl.analysis.scorecard import Score
from convtl.analysis.statistics import Interval
from convtl.reporting import numbers
from convtl.reporting.replication import Second, same
from convtl.reporting.tables import markdown

TITLES = {
    "similarity": "Principle 1: the more similar the source, the less fine-tuning is needed",
    "data_size": "Principle 2: the more data, the deeper and the longer",
    "dissimilarity": "Principle 3: from something of another nature, transfer is of little value",
    "rule_of_thumb": "The rule of thumb that follows from the three",
    "vanishing_gradients": "Gradients vanish, and early layers are the slowest to train",
    "layer_transfer": "Early layers are general, later ones specific",
    "options": "The options: the last layer, a few layers back, the whole net",
    "ways": "Rivals: everything with care, or other layers than the last ones",
    "input_shift": "The counter-example: the same letters, seen differently",
}
_ORDER = (
    "supported",
    "contradicted",
    "practically null",
    "inconclusive",
    "not tested",
    "not judged",
    "not enough data",
)
_CLAIM_WIDTH = 46
_SHOWN_PARTS = 3
"""Parts up to which a claim's row has the numbers of each."""


def overview(scores: Sequence[Score]) -> list[str]:
    """How many claims came out how, by reading."""
    said = []
    for reading, what in (
        ("weak", "Weak readings (a direction)"),
        (
            "strong",
            "Strong readings (what the lecture literally says; tested only after their weak one)",
        ),
        ("secondary", "Secondary claims, which qualify the others"),
    ):
        own = [score for score in scores if score.reading == reading]
        counts = Counter(str(score.outcome) for score in own)
        parts = [
            f"{counts[outcome]} {outcome}" for outcome in (*_ORDER, "described") if counts[outcome]
        ]
        if own:
            said.append(f"**{what}**: of {len(own)}, {numbers.listed(parts)}.")
    primary = [score for score in scores if score.claim.primary]
    judged = sum(score.m > 0 for score in primary)
    if primary:
        said.append(
            f"{numbers.plural(len(primary), 'claim')} {'are' if len(primary) > 1 else 'is'} primary; Holm's "
            f"adjustment runs over the {judged} of them that could be tested."
        )
    return said


def table(scores: Sequence[Score], second: Second | None = None) -> str:
    """claim | reading | estimand, effect [interval, level] | exact p (Holm) | m, targets | verdict | papers.

    Before the papers stands the verdict of a second run, if there is one.
    """
    header = [
        "claim",
        "reading",
        "estimand: effect [interval, level]",
        "exact p (Holm)",
        "m, targets",
        "verdict",
        "agrees with",
    ]
    if second:
        header.insert(-1, f"seed {second.seed}")
    rows: list[list[str]] = []
    before = ""
    for number, score in enumerate(scores, 1):
        if score.claim.principle != before:
            before = score.claim.principle
            rows.append([f"**{TITLES[before]}**", *[""] * (len(header) - 1)])
        other = same(score, scores, second.scores) if second else None
        where = f" ({score.setting})" if score.setting else ""
        rows.append(
            [
                f"{number}\\. {score.claim.statement}{where}{mark(score)}",
                f"{score.reading}{', primary' if score.claim.primary else ''}",
                _estimand(score),
                p_values(score),
                f"{score.m}; {', '.join(score.targets) or 'fresh nets'}" if score.m else "–",
                f"**{score.outcome}**{_schedule(score)}",
                *([f"**{other.outcome}**" if other else "–"] if second else []),
                score.agrees or "–",
            ]
        )
    return markdown(header, rows)


def mark(score: Score) -> str:
    """A dagger for a claim that got its words or numbers when results had been seen."""
    return "" if score.claim.seen is None else " †"


def legend(scores: Sequence[Score]) -> list[str]:
    """What the dagger says; empty where no claim has one."""
    seeds = list(
        dict.fromkeys(str(score.claim.seen) for score in scores if score.claim.seen is not None)
    )
    if not seeds:
        return []
    return [
        f"† got its words or its numbers when some results of seed {numbers.listed(seeds)} had been seen: under that "
        "seed it is exploratory, and only another seed tests it.\n"
    ]


def notes(scores: Sequence[Score]) -> str:
    """What qualifies each verdict; then the scopes, each with the claims that have it."""
    lines = [f"- {number}: {score.note}." for number, score in enumerate(scores, 1) if score.note]
    scopes: dict[str, list[str]] = {}
    for number, score in enumerate(scores, 1):
        if score.scope:
            scopes.setdefault(score.scope, []).append(str(number))
    lines += [
        f"- {text} (claim{'s' if len(own) > 1 else ''} {', '.join(own)})"
        for text, own in scopes.items()
    ]
    return "\n".join(lines) + "\n" if lines else ""


def rule(scores: Sequence[Score]) -> str:
    """How a verdict comes about, in the words of the protocol."""
    least = max((score.m for score in scores), default=0)
    floor = (
        f" With {least} replicates it cannot be below {min(1.0, 2 / 2**least):.2g}."
        if least
        else ""
    )
    return (
        "Rule, in this order: *practically null* if an interval of at least 90% lies inside the smallest effect of "
        "interest (±0.2 logit where nothing else is said), asked wherever a mean is compared with 0; *supported* or "
        f"*contradicted* if the p is at most {ALPHA:g} (Holm's, for primary claims) and the mean of every target is "
        "on the same side; else *inconclusive*. A claim of several parts needs all of them (the largest p counts): "
        "one that is practically null where a direction is asked for makes the claim so, and one refuted part "
        "refutes it; in bold is the part that decides. The order of sources is judged by the p of its permutations "
        "alone; shares of cells are described. A cell (target, source, n, schedule) is at floor if head and whole net "
        "are under twice chance accuracy, at the ceiling if they are above 98% (of a gain, scratch too); it "
        "enters no test: means and slopes are over the other cells, and a claim without any is *not judged*. Any "
        "other p is that of the exact two-sided sign-flip test over "
        f"replicates, targets averaged inside each.{floor} Claims, tests and thresholds are written down in "
        "`convtl/study/declared/`. *z*: log-odds of a correct answer, on test "
        "images; *k*: trained layers, from the last; *D*: z with all layers trained minus z with the last only; "
        "*G*: z with transfer minus z from scratch; *L*: z after the long schedule minus z after the short one.\n\n"
        "In plain words: 0.2 logit is about 5 points of accuracy near 50% and 2 points near 90%; *practically null* "
        "says that the effect was measured well enough to be called smaller than that, *inconclusive* that it was "
        "not measured well enough to say anything. A *weak* reading asks only for the direction of what the lecture "
        "says, the *strong* one for its literal wording; the strong one is *not tested* unless the weak one is "
        "supported, for it asks for more. Holm's adjustment makes the p of each primary claim larger the "
        "more of them there are, so that testing many does not make a chance find likely.\n"
    )


def effect(score: Score) -> str:
    """The number that decides, with its interval and level, in its unit."""
    if not score.m and not score.parts:
        return "–"
    if score.claim.test == "share":
        return f"**{100 * score.effect:.0f}%** of cells"
    if score.claim.test == "order":
        return f"**{numbers.signed(score.effect)}** (Spearman)"
    if len(score.parts) > 1:
        return _of_parts(score)
    unit = score.unit if score.unit != "logit" else ""
    return " ".join(filter(None, [_mean(score.effect, score.interval, score.m, bold=True), unit]))


def _estimand(score: Score) -> str:
    """The formula, and what was found."""
    if not score.parts:
        return score.estimand
    several = len(score.parts) > 1 and score.claim.test == "all_parts"
    return f"{score.estimand}{':' if several else ' ='} {effect(score)}"


def _of_parts(score: Score) -> str:
    """Every part by name, or, of many, the deciding one and the range of the others."""
    deciding = _deciding(score)
    shown = score.parts if len(score.parts) <= _SHOWN_PARTS else (deciding,)
    said = [
        f"{part.part.name}: {_mean(part.effect, part.interval, len(part.values), bold=part is deciding)}"
        for part in shown
    ]
    others = [part.effect for part in score.parts if part not in shown]
    if others:
        low, high = numbers.signed(min(others)), numbers.signed(max(others))
        said.append(f"the other {len(others)} parts from {low} to {high}")
    return "; ".join(said) + (f" ({score.unit})" if score.unit != "logit" else "")


def _mean(value: float, interval: Interval, m: int, *, bold: bool) -> str:
    """A mean with its interval and level, which one replicate does not have."""
    text = f"**{numbers.signed(value)}**" if bold else numbers.signed(value)
    if m < 2:
        return text
    return f"{text} {numbers.span(interval).removesuffix(']')};\N{NO-BREAK SPACE}{numbers.level(interval)}]"


def p_values(score: Score) -> str:
    """`<0.001 (0.004)`; a dash where nothing was tested."""
    if math.isnan(score.p):
        return "–"
    text = numbers.p_value(score.p)
    return (
        f"{text} ({numbers.p_value(score.p_adjusted)})"
        if not math.isnan(score.p_adjusted)
        else text
    )


def _deciding(score: Score) -> Measured:
    """The part whose numbers decide, of a claim with several."""
    return next((part for part in score.parts if part.values == score.values), score.parts[0])


def _schedule(score: Score) -> str:
    """What is left out and what the other schedule says, in brackets; of what is not judged, why."""
    if score.outcome == "not judged":
        return f" ({score.edge})"
    if score.outcome in ("not enough data", "not tested"):
        return ""
    if score.elsewhere:
        said = [
            f"the same with {updates:,} updates"
            if outcome == score.outcome
            else f"{outcome} with {updates:,} updates, so a conclusion about speed"
            for updates, outcome in score.elsewhere
        ]
        return _bracketed(*said, score.left_out)
    return _bracketed(score.only, score.left_out)


def _bracketed(*texts: str) -> str:
    said = [text for text in texts if text]
    return f" ({'; '.join(said)})" if said else ""


def headed(page: str) -> str:
    """The page with each part's heading over the whole width of the table, and room for long texts."""

    def wide(found: re.Match[str]) -> str:
        columns = 1 + found[2].count("<td>")
        return f'<tr>\n<td colspan="{columns}" style="background: #f4f7fa; padding-top: 0.9rem">{found[1]}</td>'

    page = re.sub(r"<tr>\s*<td>(<strong>[^<]+</strong>)</td>((?:\s*<td></td>){6,7})", wide, page)
    page = re.sub(r"<td>(\d+\. )", r'<td style="min-width: 11rem">\1', page)
    return re.sub(
        r"<td>((?:agrees with|differs from|same direction,|open;) )",
        r'<td style="min-width: 10rem">\1',
        page,
    )


# --- the end of a run -----------------------------------------------------------------------------------


def plain(scores: Sequence[Score]) -> str:
    """The scorecard for a terminal."""
    header = ["", "claim", "reading", "effect [interval]", "exact p (Holm)", "m", "verdict"]
    rows = [
        [
            str(number),
            score.claim.statement + (f" ({score.setting})" if score.setting else ""),
            score.reading,
            _short(score),
            p_values(score),
            str(score.m or "–"),
            f"{score.outcome}{_short_schedule(score)}",
        ]
        for number, score in enumerate(scores, 1)
    ]
    wide = (2, _CLAIM_WIDTH, 9, 22, 15, 2, 24)
    lines = ["scorecard", *_wrapped(header, wide), "-" * (sum(wide) + 2 * (len(wide) - 1))]
    before = ""
    for score, row in zip(scores, rows, strict=True):
        if score.claim.principle != before:
            before = score.claim.principle
            lines += ["", TITLES[before]]
        lines += _wrapped(row, wide)
    lines += ["", *(text.replace("**", "") for text in overview(scores))]
    return "\n".join(lines)


def _short(score: Score) -> str:
    if not score.m or score.claim.test in ("share", "order"):
        return effect(score).replace("**", "")
    text = numbers.signed(score.effect)
    if score.m > 1:
        text += f" {numbers.span(score.interval)}"
    return f"{text} ({_deciding(score).part.name})" if len(score.parts) > 1 else text


def _short_schedule(score: Score) -> str:
    other = [outcome for _, outcome in score.elsewhere if outcome != score.outcome]
    if score.outcome == "not judged":
        return f" ({score.edge})"
    if score.outcome in ("not enough data", "not tested"):
        return ""
    if other:
        return f" (other schedule: {other[0]})"
    return f" ({score.only})" if score.only else ""


def _wrapped(row: Sequence[str], wide: Sequence[int]) -> list[str]:
    """Lines of one row whose cells are broken at their column's width."""
    cells = [
        textwrap.wrap(text, width, break_on_hyphens=False) or [""]
        for text, width in zip(row, wide, strict=True)
    ]
    return [
        "  ".join(
            (cell[line] if line < len(cell) else "").ljust(width)
            for cell, width in zip(cells, wide, strict=True)
        ).rstrip()
        for line in range(max(map(len, cells)))
    ]
