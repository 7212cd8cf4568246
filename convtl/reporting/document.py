"""The report of a study: Markdown, a self-contained HTML page with the same content, and figures."""

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from markdown_it import MarkdownIt
from threadpoolctl import threadpool_limits

from convtl.analysis.arms import Block, blocks, frame
from convtl.analysis.columns import Table
from convtl.analysis.principles import Outcome, Verdict, judge
from convtl.config.schema import ClaimConfig
from convtl.reporting import (
    captions,
    caveats,
    feature_maps,
    figures,
    numbers,
    pictures,
    plots,
    sentences,
    tables,
)
from convtl.reporting.page import PAGE
from convtl.reporting.summary import Cell, cells
from convtl.runtime.cores import core_count
from convtl.secrets import redacted
from convtl.storage.files import written

Samples = Mapping[str, tuple[np.ndarray, Sequence[str]]]
Parts = Sequence[tuple[Block, list[Cell]]]

_WIDEST = 1460
"""Pixels of the widest usual figure, which fills the page."""
_MOST_DRAWN = 12
"""With more settings than this, only the first few are drawn: nobody looks at hundreds of figures."""
_ALL_FIGURES = 4
"""With more settings than this, only the first gets the figures on cost, rates and calibration."""


def write_report(
    results: "Results",
    out: Path,
    *,
    title: str,
    question: str,
    scope: Mapping[str, Any],
    samples: Samples | None,
    left_out: Sequence[str],
    opening: Sequence[str] = (),
) -> Path:
    """Writes `out/report.md`, `out/report.html` and `out/figures/*.png` from the rows of a study.

    Args:
      results: of the study's rows, from `results_of`.
      scope: facts of the protocol for the methods section. Some are also used: `command` (how to reproduce),
        `faces` (what the test images are), `sources` (the order in which sources are shown).
      samples: domain -> (uint8 images, labels), shown as pictures.
      left_out: what the caller kept out of `rows`, one line each.
      opening: sections, as Markdown, that come before all others.

    Returns:
      The path of report.html. Every file is written under a temporary name and then renamed.
    """
    out.mkdir(parents=True, exist_ok=True)
    data, parts, verdicts = results.data, results.parts, results.verdicts
    text = "\n".join(
        [
            f"# {one_line(title)}\n",
            f"**Question.** {one_line(question)}\n",
            *opening,
            "## Answer\n",
            _bullets(sentences.answer(verdicts, parts)),
            f"{sentences.LEGEND}\n",
            _box(data, parts, verdicts, scope),
            _claims(verdicts),
            *_headline_sections(parts),
            *_figure_sections(parts, out, samples),
            *feature_maps.section(out, results.rows, scope),
            _methods(parts, scope),
            "## Missing, diverged, failed, left out\n",
            tables.missing_table(data, [block for block, _ in parts], left_out),
            reproduce(scope),
        ]
    )
    return publish(text, title, out)


def headline(results: "Results") -> str:
    """The plain-text table and verdict lines that a run prints at its end."""
    if not results.parts:
        return sentences.NOTHING
    lines = []
    for block, found in results.parts:
        shown = list(dict.fromkeys(block.data["source"]))  # as they came
        table = tables.plain(block, sorted(found, key=lambda cell: shown.index(cell.source)))
        lines += [block.title or f"target {block.target}", table, ""]
    lines.append(
        "G, D: differences of log-odds (logits) [sign-flip interval]; * holds after adjustment over the table"
    )
    lines += [sentences.claim(verdict).replace("**", "") for verdict in results.verdicts]
    return "\n".join(lines)


@dataclass(frozen=True)
class Results:
    """What is reported of a study: its rows, the blocks of them with their cells, the verdicts."""

    rows: Table
    data: pd.DataFrame
    parts: Parts
    verdicts: Sequence[Verdict]


def results_of(
    rows: Iterable[Mapping[str, Any]], claims: Sequence[ClaimConfig], scope: Mapping[str, Any]
) -> Results:
    """Computes everything that a report tells.

    Args:
      rows: one dictionary a trial, with the columns of results.csv; any of them may be missing.
      scope: `sources` is the order in which sources are shown.
    """
    table = Table.of(rows)
    data = frame(table)
    order = scope.get("sources", ())
    names = [str(name) for name in order] if isinstance(order, list | tuple) else []
    found = blocks(data, names)
    # Most of it is NumPy's, which runs beside Python; small products only wait for each other's threads.
    with threadpool_limits(1), ThreadPoolExecutor(core_count()) as pool:
        parts = list(zip(found, pool.map(cells, found), strict=True))
    return Results(table, data, parts, judge(claims, data, found))


# --- sections -----------------------------------------------------------------------------------------


def _box(
    data: pd.DataFrame, parts: Parts, verdicts: Sequence[Verdict], scope: Mapping[str, Any]
) -> str:
    can, cannot = caveats.limits(data, [block for block, _ in parts], verdicts, scope)
    lines = ["**What this study can say**", "", *(f"- {text}" for text in can), ""]
    lines += ["**What it cannot**", "", *(f"- {text}" for text in cannot)]
    return "\n".join(f"> {line}".rstrip() for line in lines) + "\n"


def _claims(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return "## Declared claims\n\nNone was declared, so nothing here is confirmatory.\n"
    scopes = dict.fromkeys(verdict.scope for verdict in verdicts if verdict.scope)
    deltas = numbers.listed(
        [f"±{d:g}" for d in sorted({v.claim.smallest_effect for v in verdicts})], "or"
    )
    rule = (
        f"Rule, in this order: *practically null* if an interval of at least 90% lies inside {deltas} logit; "
        "*supported* or *contradicted* if the exact two-sided sign-flip p (adjusted by Holm if several "
        "claims are "
        "declared) is at most .05 and every target agrees in sign; else *inconclusive*."
    )
    heading = "## Declared claim\n" if len(verdicts) == 1 else "## Declared claims\n"
    return "\n".join([heading, tables.verdict_table(verdicts), *scopes, "", f"{rule}\n"])


def _headline_sections(parts: Parts) -> list[str]:
    text = ["## Headline table\n"]
    shown = [(block, found) for block, found in parts if found]
    for block, found in shown:
        text += _titled(block, "###")
        text += [tables.headline_table(block, found)]
    if not shown:
        return [*text, "No pretrained source has a finished trial.\n"]
    levels = sorted(
        {f"{100 * c.benefit.found.interval.level:.1f}%" for _, f in shown for c in f if c.benefit}
    )
    note = (
        f"P(d\\*=k): how often k is the smallest depth within {sentences.EPSILON} logit of the best, over "
        "bootstrap draws of replicates (most frequent in bold). Brackets: exact sign-flip intervals"
        f"{f' (level {levels[0]})' if len(levels) == 1 else ''}, each for one contrast. "
        "\\* adjusted p ≤ .05 over all G and D of the table (step-down max-T)."
    )
    if any(cell.floor for _, found in shown for cell in found):
        note += " † floor: head and whole net are both under twice chance."
    return [*text, f"{note}\n"]


def _figure_sections(parts: Parts, out: Path, samples: Samples | None) -> list[str]:
    text = ["## Figures\n"] if parts or samples else []
    for index, (block, found) in enumerate(parts[: _drawn(parts)]):
        text += _titled(block, "###")
        suffix = "" if index == 0 else f"_{index + 1}"
        for name, what, draw, caption, bars in _figures(
            block, found, index == 0 or len(parts) <= _ALL_FIGURES
        ):
            path = figures.save(draw(), out / "figures" / f"{name}{suffix}.png")
            text += picture(path.name, what, caption, bars)
    if _drawn(parts) < len(parts):
        text.append(
            f"The first {_drawn(parts)} of {len(parts)} settings are drawn; the tables have them all.\n"
        )
    if len(parts) > _ALL_FIGURES:
        text.append(
            "Figures on cost, learning rates and calibration are drawn for the first setting only.\n"
        )
    targets = {block.target for block, _ in parts}
    shown = {
        f"{name} ({'target' if name.partition(', ')[0] in targets else 'source'})": pair
        for name, pair in (samples or {}).items()
        if len(pair[1])
    }
    if shown:
        path = figures.save(pictures.samples(shown), out / "figures" / "samples.png")
        names = f"{', '.join(shown)}, with the labels of the classes."
        text += picture(path.name, "What the nets see", names, "")
    return text


def _drawn(parts: Parts) -> int:
    return len(parts) if len(parts) <= _MOST_DRAWN else _ALL_FIGURES


_Drawn = tuple[str, str, Callable[[], figures.Figure], str, str]
_BARS = "Bars and bands: 95% bootstrap over whole replicates; dots: single replicates."
_FLIPS = "Brackets: exact sign-flip intervals; \\* adjusted p ≤ .05."
_DOTS = "Dots grow with the number of replicates; lines: medians; rings: some at the edge of their grid."


def _figures(block: Block, found: list[Cell], every: bool) -> list[_Drawn]:
    """(file, title, what draws it, its sentence, what its bars are) of the figures that the data allow."""
    drawn: list[_Drawn] = []

    def add(
        name: str, what: str, draw: Callable[[], figures.Figure], caption: str, bars: str
    ) -> None:
        drawn.append((name, what, draw, caption, bars))

    if found:
        text = captions.accuracy_by_depth(block, found)
        add(
            "accuracy_by_depth",
            "Accuracy against depth",
            lambda: plots.accuracy_by_depth(block),
            text,
            _BARS,
        )
    if any(cell.benefit for cell in found):
        text = captions.benefit_map(block, found)
        add(
            "depth_benefit",
            "Depth benefit D",
            lambda: plots.benefit_map(block, found),
            text,
            _FLIPS,
        )
    text = captions.learning_curves(block, found)
    add(
        "learning_curves",
        "Learning curves",
        lambda: plots.learning_curves(block, found),
        text,
        _BARS,
    )
    if not every or not found:
        return drawn
    if (block.data[["flops_per_update", "trained_weights"]] > 0).all(axis=None):
        text = captions.cost_curve(block, found)
        add(
            "cost",
            "Accuracy against cost",
            lambda: plots.cost_curve(block),
            text,
            "Numbers at points: depth.",
        )
    if (block.both["lr"] > 0).all():
        add(
            "learning_rates",
            "Learning rates",
            lambda: plots.rates(block),
            captions.rates(block),
            _DOTS,
        )
    if block.data["test_ece"].notna().any():
        add(
            "calibration",
            "Calibration",
            lambda: plots.calibration(block),
            captions.calibration(block),
            _BARS,
        )
    return drawn


def picture(name: str, what: str, caption: str, bars: str) -> list[str]:
    plain = re.sub(r"[*\[\]\\]", "", f"{what}. {caption}")
    return [f"![{plain}](figures/{name})\n", f"**{what}.** {caption} {bars}".strip() + "\n"]


def _methods(parts: Parts, scope: Mapping[str, Any]) -> str:
    facts = {name: value for name, value in scope.items() if name != "command"}
    if parts:
        block = parts[0][0]
        facts.setdefault(
            "depths", ", ".join(block.depth_name(depth) for depth in block.depths) or block.full
        )
        facts.setdefault("replicates", block.replicates)
    text = ["## Methods\n", tables.facts_table(facts) if facts else "No facts were given.\n"]
    text.append(
        "Accuracies enter every test as z = logit((correct + ½)/(N + 1)). G = z(source, n, depth) − "
        "z(scratch, n), "
        "D = z(source, n, all) − z(source, n, 1), both within a replicate. Tests are exact two-sided "
        "sign-flip "
        "tests over replicates, and intervals their inversion; bootstrap draws take whole replicates jointly "
        "over "
        "all arms, and serve pictures and P(d\\*=k) only.\n"
    )
    for block, found in parts:
        if found:
            text += [
                *_titled(block, "###"),
                "p values behind the headline table:\n",
                tables.detail_table(found),
            ]
    return "\n".join(text)


def reproduce(scope: Mapping[str, Any]) -> str:
    command = scope.get("command")
    if not command:
        return "## Reproduce\n\nThe resolved configuration is in `configs/` beside this report.\n"
    return f"## Reproduce\n\n```bash\n{str(command).replace('```', '')}\n```\n"


def _titled(block: Block, level: str) -> list[str]:
    return [f"{level} {one_line(block.title)}\n"] if block.title else []


def _bullets(texts: Sequence[str]) -> str:
    return "\n".join(f"- {one_line(text)}" for text in texts) + "\n"


def one_line(text: str) -> str:
    """Text without line breaks: a heading or a bullet is one line of Markdown."""
    return " ".join(text.split())


# --- files --------------------------------------------------------------------------------------------


def to_html(text: str, title: str, folder: Path) -> str:
    """The Markdown as one page that needs no other file: pictures of `folder` become data URIs."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)

    def inline(found: re.Match[str]) -> str:
        content = (folder / "figures" / found[1]).read_bytes()
        share = min(
            1.0, int.from_bytes(content[16:20], "big") / _WIDEST
        )  # a PNG holds its width there
        return f'style="--share:{share:.3f}" src="data:image/png;base64,{base64.b64encode(content).decode()}"'

    body = re.sub(r'src="figures/([\w.-]+\.png)"', inline, body)
    body = body.replace("<table>", '<div class="wide"><table>').replace(
        "</table>", "</table></div>"
    )
    body = re.sub(r"<p>(<img [^>]*>)</p>", r'<div class="wide picture">\1</div>', body)
    for outcome in get_args(Outcome):
        kind = outcome.split()[0]
        body = body.replace(
            f"<strong>{outcome}</strong>", f'<strong class="outcome {kind}">{outcome}</strong>'
        )
    safe = title.replace("&", "&amp;").replace("<", "&lt;")
    return PAGE.replace("{title}", safe).replace("{body}", body)


def publish(text: str, title: str, out: Path, finish: Callable[[str], str] | None = None) -> Path:
    """Writes `out/report.md` and `out/report.html`, each under a temporary name that is then changed.

    Args:
      finish: what is done to the page at last.

    Returns:
      The path of report.html.
    """
    _written(out / "report.md", text)
    page = to_html(text, title, out)
    return _written(out / "report.html", finish(page) if finish else page)


def _written(path: Path, text: str) -> Path:
    with written(path) as file:
        file.write(redacted(text).encode())
    return path
