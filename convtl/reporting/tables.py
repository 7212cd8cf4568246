"""Numbers as text, and a report's tables as Markdown, HTML or plain lines."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup, escape

from convtl.analysis.claims import Verdict
from convtl.analysis.frame import axes_of
from convtl.analysis.statistics import Interval
from convtl.reporting.facts import Difference, Line

NONE = "–"
"""Text of a cell without a number."""


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
    """Text of a cell (bold between `**`), its class in HTML, and its key for sorting."""

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


def layers(depth: int, deepest: int) -> str:
    """`the last layer`, `the last 3 layers`, `all layers`."""
    if depth == deepest:
        return "all layers"
    return "the last layer" if depth == 1 else f"the last {depth} layers"


def _difference(difference: Difference | None) -> Cell:
    """Format a difference in points with its interval, as small, open or of speed."""
    if difference is None:
        return Cell(NONE)
    share, mark = difference.share, ", ".join(difference.marks)
    text = f"{points(share.effect)} {span(share.interval, 100, 1)}" + f" ({mark})" * bool(mark)
    return Cell(text, difference.outcome, round(share.effect, 4))


def _line(line: Line, deepest: int) -> dict[str, Any]:
    enough = Cell(f"**{layers(line.suffices, deepest)}**", "layers", line.suffices)
    return {
        "source": line.source + " †" * bool(line.flaw) + " §" * line.at_edge,
        "n": _number(line.n, "{:,}"),
        "enough to train": Cell(NONE) if line.flaw else enough,
        "its accuracy": _number(line.enough, "{:.1%}"),
        "accuracy, depth by validation": _number(line.chosen, "{:.1%}"),
        "all − last": _difference(None if line.flaw else line.benefit),
        "from scratch": _number(line.scratch, "{:.1%}"),
        "transfer − scratch": _difference(line.gain),
    }


def answer(report: Any) -> Table:
    """Results of each source with each number of labels, for the first target."""
    lines = [line for one in report.answers[:1] for line in one.lines if not line.is_control]
    return table(_line(line, report.deepest) for line in lines)


def other_answers(report: Any) -> Table:
    """Results for controls and mixtures, and for the other main targets."""
    return table(
        {"target": one.target, **_line(line, report.deepest)}
        for place, one in enumerate(report.answers)
        for line in one.lines
        if place or line.is_control
    )


def _statistics(difference: Difference | None) -> str:
    if difference is None:
        return NONE
    logits, adjusted = difference.logits, p_value(difference.adjusted)
    return f"{signed(logits.effect)} {span(logits.interval)}, {p_value(logits.p)} ({adjusted})"


def statistics(report: Any) -> Table:
    """Logits and p values behind the answer, and shares in which depths suffice."""
    return table(
        {"target": one.target, "source": line.source, "n": line.n, "m": line.m}
        | {"D, p (adjusted)": _statistics(line.benefit), "G, p (adjusted)": _statistics(line.gain)}
        | {
            "depth suffices in": ", ".join(
                f"{depth}: {share:.0%}" for depth, share in line.distribution.items() if share
            )
        }
        for one in report.answers
        for line in one.lines
    )


# --- verdicts -----------------------------------------------------------------------------------------


def title(verdict: Verdict) -> str:
    """Words of a claim's name."""
    return verdict.name.replace("_", " ")


def outcome(verdict: str) -> str:
    """Words of a verdict."""
    return "below δ" if verdict == "below" else verdict


def effects(verdict: Verdict) -> str:
    """Format the effects of all parts with intervals, in the claim's unit and points."""
    texts = []
    for part in verdict.parts:
        name = f"{part.name}: " if len(verdict.parts) > 1 else ""
        unit = "" if part.points is None else f" ({signed(part.points, 1)} points)"
        texts.append(f"{name}{signed(part.effect)} {span(part.interval)}{unit}")
    return "; ".join(texts) or NONE


def _verdict(verdict: Verdict, second: Mapping[str, str]) -> dict[str, Any]:
    claim, parts, kind = verdict.claim, verdict.parts, verdict.verdict
    by_target = parts[0].by_target.items() if parts else ()
    p = f"{p_value(verdict.p)} ({p_value(verdict.p_adjusted)})" if parts else NONE
    mark, rank = " ‡" * bool(claim.history), " (primary)" * (claim.rank == "primary")
    return {
        "claim": Cell(f"**{title(verdict)}**{mark} {claim.says}", "text"),
        "taken to mean here": Cell(claim.means + rank, "text"),
        "effect, logit": Cell(effects(verdict), "", parts[0].effect if parts else ""),
        "p (Holm)": Cell(p, "number", verdict.p),
        "verdict": Cell(f"**{outcome(kind)}** {verdict.why}", f"verdict {kind}"),
        **{
            name: Cell(f"**{outcome(again)}**", f"verdict {again}")
            for name, again in second.items()
        },
        "m": min((part.m for part in parts), default=NONE),
        "per target": ", ".join(f"{name} {signed(value)}" for name, value in by_target) or NONE,
    }


def verdicts(report: Any) -> Table:
    """Every claim with its effect, p, replicates and verdict, by seed."""
    second = report.second_verdicts
    heading = f"verdict, seed {report.replication.config.seed}" if second else ""
    return table(
        _verdict(one, {heading: second.get(one.name, NONE)} if second else {})
        for one in report.verdicts
    )


def sensitivity(report: Any) -> Table:
    """Verdicts with other smallest effects of interest."""
    return table(
        {"claim": title(verdict), "verdict": outcome(verdict.verdict)}
        | {
            f"{name} δ": f"{outcome(other)} (at {delta:g})"
            for name, (delta, other) in zip(
                ("smaller", "larger"), verdict.sensitivity.items(), strict=True
            )
        }
        for verdict in report.verdicts
        if verdict.sensitivity
    )


def replication(report: Any) -> Table:
    """Every distinct effect under both seeds, and whether it replicated."""
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


def conditions(report: Any) -> Table:
    """Every condition: coordinates, replicates, accuracy, validation images, edges."""
    frame = report.conditions.table()
    names = ["target", "model", "regime", "updates", "similarity"]
    names += axes_of(report.conditions.frame)
    frame = frame.rename(columns={"n_per_class": "n", "n_val": "validation images"})
    texts = {"accuracy": "{:.1%}", "logit": "{:.2f}", "sd": "{:.2f}", "at_edge": "{:.0%}"}
    for name, text in texts.items():
        frame[name] = [_number(value, text) for value in frame[name]]
    varied = [name for name in names if frame[name].nunique(dropna=False) > 1]
    numbers = ["n", "depth", "m", "accuracy", "logit", "sd", "validation images", "at_edge", "flaw"]
    return Table(frame[["source", *varied, *numbers]].head(1000))  # all are in results.csv


def cost(report: Any) -> Table:
    """Weights, operations and chosen learning rates of each source and depth."""
    rows = report.conditions.frame[report.conditions.frame["usable"]]
    return table(
        {
            "source": source,
            "depth": f"{depth} ({unit})",
            "trained weights": _number(part["trained_weights"].median(), "{:,.0f}"),
            "operations an update": _number(part["flops_per_update"].median(), "{:,.0f}"),
            "rates chosen (trials)": ", ".join(
                f"{rate:.2g} ({count})"
                for rate, count in part["lr"].value_counts().sort_index().items()
            ),
        }
        for (source, depth, unit), part in rows.groupby(
            ["source", "depth", "depth_unit"], sort=False
        )
    )


FILTERS: tuple[Callable[..., str], ...] = (signed, percent, points, p_value, span, duration)
FILTERS += (listed, plural, outcome, effects, title)
"""What templates may apply to values."""
_MAKERS = (answer, other_answers, statistics, verdicts, sensitivity, replication)
TABLES: Mapping[str, Callable[[Any], Table]] = {
    make.__name__: make for make in (*_MAKERS, conditions, cost)
}
"""Name -> function that makes `table("NAME")` of templates."""
