"""Numbers as text, and the tables of a report by name: DataFrames as Markdown, HTML or plain lines."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from markupsafe import Markup, escape

from convtl.analysis.claims import Verdict
from convtl.analysis.frame import axes_of
from convtl.analysis.statistics import Interval
from convtl.reporting.facts import Answer, Difference

if TYPE_CHECKING:
    from convtl.reporting.report import Report

NONE = "–"
"""What stands in a cell without a number."""


def signed(value: float | None, digits: int = 2) -> str:
    """`+0.42`, `−1.30`; zero has no sign."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
    return text if re.search("[1-9]", text) else text[1:]


def percent(share: float | None, digits: int = 1) -> str:
    """`61.3%`."""
    return NONE if share is None or not math.isfinite(share) else f"{100 * share:.{digits}f}%"


def points(share: float) -> str:
    """A difference of accuracies in percentage points: `+12.3`."""
    return signed(100 * share, 1)


def p_value(p: float) -> str:
    """`0.031`, `<0.001`."""
    return NONE if not math.isfinite(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def span(interval: Interval, scale: float = 1, digits: int = 2) -> str:
    """`[+0.10, +0.52]`; `scale=100, digits=1` for percentage points."""
    low, high = (signed(scale * end, digits) for end in (interval.low, interval.high))
    return f"[{low},\N{NO-BREAK SPACE}{high}]"


def count(value: float) -> str:
    """`850`, `61,706`, `3.2 million`."""
    sizes = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))
    large = (f"{value / size:.3g} {name}" for size, name in sizes if value >= size)
    return next(large, f"{value:,.0f}")


def duration(seconds: float) -> str:
    """`48 s`, `12 min`, `3.4 h`."""
    if seconds < 5400:
        return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def listed(items: Iterable[object]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = [str(item) for item in items] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def plural(number: int, noun: str) -> str:
    """`1 replicate`, `6 replicates`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# --- tables -------------------------------------------------------------------------------------------


class Cell(NamedTuple):
    """Text of a cell (bold between `**`), its class in HTML, and what it is sorted by."""

    text: str
    kind: str = ""
    order: float | str = ""


@dataclass(frozen=True)
class Table:
    """A DataFrame of `Cell`s and plain values."""

    frame: pd.DataFrame

    def __bool__(self) -> bool:
        return len(self.frame) > 0

    def markdown(self) -> str:
        """Return a Markdown table; cells may hold any text."""
        header = list(map(str, self.frame.columns))
        body = [[cell.text for cell in row] for row in self._cells()]
        lines = [
            [_one_line(text) for text in line] for line in (header, ["---"] * len(header), *body)
        ]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def html(self, words: Mapping[str, str]) -> Markup:
        """Return an HTML table; `words` gives headings their tooltips."""
        heading, cell = (
            Markup('<th scope="col" title="{}">{}</th>'),
            Markup('<td class="{}" data-order="{}">{}</td>'),
        )
        head = (heading.format(words.get(name, ""), name) for name in self.frame.columns)
        body = (
            Markup("<tr>{}</tr>\n").format(
                Markup("").join(cell.format(kind, order, _bold(text)) for text, kind, order in row)
            )
            for row in self._cells()
        )
        whole = Markup(
            '<div class="wide"><table><thead><tr>{}</tr></thead><tbody>\n{}</tbody></table></div>\n'
        )
        return whole.format(Markup("").join(head), Markup("").join(body))

    def plain(self) -> str:
        """Return the table for a terminal."""
        texts = [[cell.text.replace("**", "") for cell in row] for row in self._cells()]
        lines = [list(map(str, self.frame.columns)), *texts]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

    def _cells(self) -> list[list[Cell]]:
        rows = self.frame.itertuples(index=False, name=None)
        return [
            [
                one if isinstance(one, Cell) else Cell(NONE if pd.isna(one) else str(one))
                for one in row
            ]
            for row in rows
        ]


def table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Make a table from one mapping a row: heading -> cell."""
    return Table(pd.DataFrame(list(rows), dtype=object))


def _one_line(text: str) -> str:
    return re.sub(r"[ \t\r\n]+", " ", text.replace("|", "\\|")).strip()  # no-break spaces stay


def _bold(text: str) -> Markup:
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text))))


def _number(value: float | None, text: str = "{:.3g}") -> Cell:
    if value is None or pd.isna(value):
        return Cell(NONE, "number")
    return Cell(text.format(value).replace("-", "\N{MINUS SIGN}"), "number", round(value, 6))


# --- the answer ---------------------------------------------------------------------------------------


def _difference(difference: Difference | None) -> Cell:
    """A difference in points with its interval, marked as small or open."""
    if difference is None:
        return Cell(NONE)
    text = f"{points(difference.share.effect)} {span(difference.share.interval, 100, 1)}"
    mark = f" ({difference.outcome})" if difference.outcome in ("small", "open") else ""
    return Cell(text + mark, difference.outcome, round(difference.share.effect, 4))


def layers(depth: int, deepest: int) -> str:
    """`the last layer`, `the last 3 layers`, `all layers`."""
    if depth == deepest:
        return "all layers"
    return "the last layer" if depth == 1 else f"the last {depth} layers"


def _answer(answer: Answer, deepest: int) -> list[dict[str, Any]]:
    return [
        {
            "source": line.source + " †" * bool(line.flaw),
            "n": _number(line.n, "{:,}"),
            "enough to train": Cell(
                f"**{layers(line.suffices, deepest)}**", "layers", line.suffices
            ),
            "accuracy then": _number(line.enough, "{:.1%}"),
            "depth by validation": _number(line.chosen, "{:.1%}"),
            "all − last": _difference(line.benefit),
            "from scratch": _number(line.scratch, "{:.1%}"),
            "transfer − scratch": _difference(line.gain),
        }
        for line in answer.lines
    ]


def answer(report: "Report") -> Table:
    """What each source gives with each number of labels, for the first target."""
    return table(row for one in report.answers[:1] for row in _answer(one, report.deepest))


def other_answers(report: "Report") -> Table:
    """The same for the other main targets."""
    return table(
        {"target": one.setting["target"], **row}
        for one in report.answers[1:]
        for row in _answer(one, report.deepest)
    )


def statistics(report: "Report") -> Table:
    """The p values behind the answer, and how often each depth suffices."""
    rows = []
    for one in report.answers:
        for line in one.lines:
            row = {"target": one.setting["target"], "source": line.source, "n": line.n, "m": line.m}
            for name, difference in (("D", line.benefit), ("G", line.gain)):
                logits = difference.logits if difference else None
                row[name] = f"{signed(logits.effect)} {span(logits.interval)}" if logits else NONE
                row[f"p of {name}"] = p_value(logits.p) if logits else NONE
                row[f"{name}, adjusted"] = p_value(difference.adjusted) if difference else NONE
            shares = (
                f"{depth}: {share:.2f}"
                for depth, share in line.distribution.items()
                if share >= 0.01
            )
            rows.append(row | {"share of draws in which a depth suffices": ", ".join(shares)})
    return table(rows)


# --- verdicts -----------------------------------------------------------------------------------------


def effects(verdict: Verdict) -> str:
    """Effects of all parts with their intervals, in logits (or the claim's unit) and in points."""
    texts = []
    for part in verdict.parts:
        name = f"{part.name}: " if len(verdict.parts) > 1 else ""
        unit = "" if part.points is None else f" ({signed(part.points, 1)} points)"
        texts.append(f"{name}{signed(part.effect)} {span(part.interval)}{unit}")
    return "; ".join(texts) or NONE


def title(verdict: Verdict) -> str:
    """The name of a claim, as words."""
    return verdict.name.replace("_", " ")


def outcome(verdict: str) -> str:
    """A verdict in words."""
    return "below δ" if verdict == "below" else verdict


def verdicts(report: "Report") -> Table:
    """Every claim with its effect, p, verdict and number of replicates."""
    rows = []
    for verdict in report.verdicts:
        claim, parts = verdict.claim, verdict.parts
        why = [verdict.why] if verdict.why else []
        why += [f"about {verdict.m_needed} replicates would decide"] if verdict.m_needed else []
        by_target = parts[0].by_target.items() if parts else ()
        rows.append(
            {
                "claim": Cell(
                    f"**{title(verdict)}**{' ‡' * bool(claim.history)} {claim.says}", "text"
                ),
                "taken to mean here": Cell(
                    f"{claim.means}{' (primary)' * (claim.rank == 'primary')}", "text"
                ),
                "effect, logit": Cell(effects(verdict), "", parts[0].effect if parts else ""),
                "p (Holm)": Cell(
                    f"{p_value(verdict.p)} ({p_value(verdict.p_adjusted)})", "number", verdict.p
                ),
                "verdict": Cell(
                    f"**{outcome(verdict.verdict)}** {'; '.join(why)}", f"verdict {verdict.verdict}"
                ),
                "m": max((part.m for part in parts), default=NONE),
                "per target": ", ".join(f"{name} {signed(value)}" for name, value in by_target)
                or NONE,
            }
        )
    return table(rows)


def short_verdicts(report: "Report") -> Table:
    """Claim, effect and verdict, for a front page."""
    return table(
        {
            "claim": f"**{title(verdict)}** {verdict.claim.says}",
            "effect, logit": effects(verdict),
            "p (Holm)": p_value(verdict.p_adjusted),
            "verdict": Cell(f"**{outcome(verdict.verdict)}**", f"verdict {verdict.verdict}"),
        }
        for verdict in report.verdicts
    )


def sensitivity(report: "Report") -> Table:
    """How verdicts change with the smallest effect of interest."""
    return table(
        {
            "claim": title(verdict),
            "δ": f"{verdict.claim.smallest_effect:g}",
            "verdict": outcome(verdict.verdict),
        }
        | {
            f"{name} δ": f"{outcome(other)} (at {delta:g})"
            for name, (delta, other) in zip(
                ("smaller", "larger"), sorted(verdict.sensitivity.items()), strict=True
            )
        }
        for verdict in report.verdicts
        if verdict.sensitivity
    )


def replication(report: "Report") -> Table:
    """Every effect under both seeds, and whether the second shows the first again."""
    return table(
        {
            "claim": pair.claim.replace("_", " "),
            "part": pair.part,
            "first seed": _number(pair.first, "{:+.2f}"),
            "second seed": _number(pair.second, "{:+.2f}"),
            "difference": span(pair.interval),
            "outcome": Cell(f"**{pair.outcome}**", "verdict"),
        }
        for pair in report.pairs
    )


# --- details ------------------------------------------------------------------------------------------


def conditions(report: "Report") -> Table:
    """Every condition: coordinates, replicates, accuracy, validation images, edges."""
    frame = report.conditions.table()
    names = [
        name
        for name in ("target", "model", "regime", "updates", "similarity")
        if frame[name].nunique() > 1
    ]
    names += axes_of(report.conditions.frame)
    return table(
        {"source": row["source"]}
        | {
            name: NONE if row[name] in ("", None) or pd.isna(row[name]) else row[name]
            for name in names
        }
        | {"n": _number(row["n_per_class"]), "depth": _number(row["depth"]), "m": row["m"]}
        | {"accuracy": _number(row["accuracy"], "{:.1%}"), "logit": _number(row["logit"], "{:.2f}")}
        | {"sd": _number(row["sd"], "{:.2f}"), "validation images": _number(row["n_val"])}
        | {"at edge": _number(row["at_edge"], "{:.0%}"), "floor or ceiling": row["flaw"] or NONE}
        for row in frame.to_dict("records")
    )


def rates(report: "Report") -> Table:
    """The learning rates that trials chose, by source and depth."""
    rows = report.conditions.frame[report.conditions.frame["usable"]]
    return table(
        {
            "source": source,
            "depth": depth,
            "rates chosen (trials)": ", ".join(
                f"{rate:.2g} ({number})"
                for rate, number in part["lr"].value_counts().sort_index().items()
            ),
            "at edge": _number(part["lr_at_edge"].astype("float64").mean(), "{:.0%}"),
        }
        for (source, depth), part in rows.groupby(["source", "depth"], sort=False)
    )


def cost(report: "Report") -> Table:
    """Weights and arithmetic of each depth."""
    rows = report.conditions.frame[report.conditions.frame["usable"]]
    return table(
        {
            "net": model,
            "depth": f"{depth} ({unit})",
            "trained weights": count(part["trained_weights"].median()),
            "operations an update": count(part["flops_per_update"].median()),
        }
        for (model, depth, unit), part in rows.groupby(["model", "depth", "depth_unit"])
    )


_ALL = (answer, other_answers, statistics, verdicts, short_verdicts, sensitivity)
TABLES: Mapping[str, Callable[["Report"], Table]] = {
    make.__name__: make for make in (*_ALL, replication, conditions, rates, cost)
}
"""What `table("NAME")` of a template makes."""
