"""Tables of a report, as Markdown and as plain text."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from convtl.analysis.arms import Block
from convtl.analysis.principles import Verdict
from convtl.reporting import numbers
from convtl.reporting.summary import Cell, Contrast

_LISTED = 30
"""Single trials that a table lists before it only counts."""


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; cells may hold any text."""
    lines = [[_cell(value) for value in row] for row in (header, ["---"] * len(header), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(value: object) -> str:
    return re.sub(
        r"[ \t\r\n]+", " ", str(value).replace("|", "\\|")
    ).strip()  # no-break spaces stay


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """claim | estimand, effect | exact p | m, targets | verdict."""
    several = len([verdict for verdict in verdicts if verdict.m]) > 1
    header = ["claim", "estimand", "effect, logit [interval]", "exact p", "m, targets", "verdict"]
    if several:
        header.insert(4, "p (Holm)")
    rows = []
    for verdict in verdicts:
        where = f" ({verdict.setting})" if verdict.setting else ""
        effect, p, holm = "–", "–", "–"
        if verdict.m:
            effect = numbers.signed(verdict.effect)
            p, holm = numbers.p_value(verdict.p), numbers.p_value(verdict.p_adjusted)
        if verdict.m > 1:
            effect += f" {numbers.span(verdict.interval)}, level {numbers.level(verdict.interval)}"
        counted = f"{verdict.m}, {', '.join(name for name, _ in verdict.by_target) or '–'}"
        note = f" ({verdict.note})" if verdict.note else ""
        row = [verdict.claim.statement + where, verdict.estimand, effect, p, counted]
        row += [f"**{verdict.outcome}**{note}"]
        if several:
            row.insert(4, holm)
        rows.append(row)
    return markdown(header, rows)


def headline_table(block: Block, found: Sequence[Cell]) -> str:
    """Per source and n: depth that suffices, accuracy, scratch, gain and depth benefit."""
    header = [
        "source",
        "n",
        "layers that suffice: P(d\\*=k)",
        "depth chosen on validation",
        "test accuracy there",
        "scratch",
        "G there, logit",
        "D, logit",
    ]
    rows = [
        [
            cell.source,
            f"{cell.n}{' †' if cell.floor else ''}",
            distribution(cell.depths, cell.share),
            block.depth_name(cell.chosen) if cell.chosen is not None else "–",
            numbers.accuracy(cell.accuracy),
            numbers.accuracy(cell.scratch),
            starred(cell.gain),
            starred(cell.benefit),
        ]
        for cell in found
    ]
    return markdown(header, rows)


def starred(contrast: Contrast | None) -> str:
    """Effect, interval, and a star if the adjusted p is at most .05."""
    if contrast is None:
        return "–"
    return numbers.contrast(contrast.found) + (" \\*" if contrast.sign else "")


def distribution(depths: Sequence[int], share: Sequence[float]) -> str:
    """`**2**: .93, 3: .07`; depths below one in a hundred are left out."""
    best = max(share, default=0)
    shown = [(depth, part) for depth, part in zip(depths, share, strict=True) if part >= 0.01]
    return (
        ", ".join(
            f"**{k}**: {part:.2f}" if part == best else f"{k}: {part:.2f}" for k, part in shown
        )
        or "–"
    )


def detail_table(found: Sequence[Cell]) -> str:
    """Adjusted p values and half-splits, for readers who check."""
    header = [
        "source",
        "n",
        "m",
        "p of G",
        "adjusted",
        "p of D",
        "adjusted",
        "P(d\\*=k) over half-splits",
    ]
    rows = []
    for cell in found:
        ps: list[str] = []
        for contrast in (cell.gain, cell.benefit):
            known = contrast is not None
            ps += (
                [numbers.p_value(contrast.found.p), numbers.p_value(contrast.adjusted)]
                if known and contrast
                else ["–", "–"]
            )
        split = distribution(cell.depths, cell.split[0]) if cell.split else "–"
        rows.append([cell.source, cell.n, cell.m, *ps, split])
    return markdown(header, rows)


def facts_table(facts: Mapping[str, Any]) -> str:
    """Protocol facts, in the order given."""
    rows = [[str(name).replace("_", " "), _fact(value)] for name, value in facts.items()]
    return markdown(["what", "value"], rows)


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_fact(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_fact, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


# --- what is missing ----------------------------------------------------------------------------------


def absent(block: Block) -> list[tuple[str, str, str, int]]:
    """(source, n, depth, replicate) that the block's grid has room for and that have no usable row."""
    replicates = sorted({int(value) for value in block.both["replicate"]})
    arms = [(source, n, k) for source in block.sources for n in block.counts for k in block.depths]
    arms += [("scratch", n, block.full) for n in block.counts if block.full_known]
    there = {(source, n, k): set(block.arm(source, n, k).index) for source, n, k in arms}
    return [
        (source, str(n), block.depth_name(k), replicate)
        for source, n, k in arms
        for replicate in replicates
        if replicate not in there[source, n, k]
    ]


def missing_table(data: pd.DataFrame, parts: Sequence[Block], left_out: Sequence[str]) -> str:
    """Everything that is not in the numbers above, and why; one line if nothing is."""
    rows: list[list[object]] = []
    unusable = data[~data["usable"]]
    for _, row in unusable.head(_LISTED).iterrows():
        moved = row["status"] == "done" and row["frozen_ok"] is False
        why = (
            "frozen weights moved"
            if moved
            else row["status"]
            if row["status"] != "done"
            else "incomplete row"
        )
        place = f"{row['source']} to {row['target']}, n={row['n_per_class']:.0f}, depth {row['depth']:.0f}"
        reason = (
            f": {row['reason']}" if isinstance(row.get("reason"), str) and row["reason"] else ""
        )
        rows.append([why + reason, f"{place}, replicate {row['replicate']:.0f}"])
    if len(unusable) > _LISTED:
        counts = Counter(unusable["status"])
        rows.append(
            [
                "and more",
                ", ".join(f"{status}: {number} in all" for status, number in counts.items()),
            ]
        )
    known = {
        (row["source"], f"{row['n_per_class']:.0f}", row["depth"], row["replicate"], row["target"])
        for _, row in unusable.iterrows()
    }
    for block in parts:
        gaps = [
            (source, n, name, replicate)
            for source, n, name, replicate in absent(block)
            if (source, n, float(name.split()[0]), float(replicate), block.target) not in known
        ]
        for (source, n, name), number in Counter(gap[:3] for gap in gaps).items():
            where = f"{source} to {block.target}, n={n}, depth {name}"
            rows.append(["not run", f"{where}: {numbers.plural(number, 'replicate')}"])
    rows += [["left out", text] for text in left_out]
    if not rows:
        return "Nothing: every trial of the grid is finished and used.\n"
    return markdown(["why", "what"], rows)


# --- the end of a run -----------------------------------------------------------------------------------


def plain(block: Block, found: Sequence[Cell]) -> str:
    """The headline table for a terminal."""
    header = [
        "source",
        "n",
        "enough layers (P)",
        "chosen",
        "accuracy",
        "scratch",
        "gain G",
        "depth benefit D",
    ]
    rows = [header]
    for cell in found:
        likely = f"{cell.likely} ({cell.likely_share:.2f})" if cell.likely is not None else "–"
        rows.append(
            [
                cell.source,
                str(cell.n),
                likely,
                str(cell.chosen) if cell.chosen is not None else "–",
                numbers.percent(cell.accuracy.effect) if cell.accuracy else "–",
                numbers.percent(cell.scratch.effect) if cell.scratch else "–",
                starred(cell.gain).replace("\\", ""),
                starred(cell.benefit).replace("\\", ""),
            ]
        )
    widths = [max(len(row[index]) for row in rows) for index in range(len(header))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
