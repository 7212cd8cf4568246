"""The report of a study of declared claims: the scorecard first, then depths, figures, methods."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from convtl.analysis.arms import frame
from convtl.analysis.contrasts import SPECIAL
from convtl.analysis.scorecard import Score, settings_of
from convtl.analysis.scorecard import scorecard as judged
from convtl.reporting import (
    depth_table,
    document,
    feature_maps,
    figures,
    gradients,
    pictures,
    principle_figures,
    reach,
    replication,
    scorecard,
    tables,
    ways,
)
from convtl.reporting.view import View, views

_ALIASES = ("self", "mixture")
"""Sources whose pictures are shown under other names already."""
_SAID = (
    "command",
    "faces list",
    "targets that are no letters",
)
"""Facts that are said in sentences and are not in the table of methods."""


def write_report(
    rows: Iterable[Mapping[str, Any]],
    out: Path,
    *,
    title: str,
    question: str,
    names: Sequence[str],
    targets: Sequence[str],
    scope: Mapping[str, Any],
    samples: document.Samples | None,
    left_out: Sequence[str],
    probes: pd.DataFrame | None,
    uncached: principle_figures.Uncached,
    seed: int = 0,
    second: replication.Second | None = None,
) -> tuple[Path, str]:
    """Writes the report of a study with a scorecard.

    Args:
      rows: one dictionary a trial, with the measures of its source and target as columns.
      names: principles, as in the key `scorecard`.
      targets: the main ones, as in the key `target`; blocks of the study may have others.
      scope: facts of the protocol; see `convtl.reporting.document.write_report`.
      samples: domain -> (uint8 images, labels).
      left_out: what is not in `rows`, one line each.
      probes: the table of gradients, if there is one.
      uncached: what frozen layers cost where their outputs are not kept.
      seed: the study's.
      second: the same study under another seed.

    Returns:
      The path of report.html, and the scorecard to be printed.
    """
    data = frame(rows)
    scores = judged(names, data, probes, targets)
    found = _views(data, targets)
    again = replication.section(scores, seed, second) if second else []
    if second:
        scope = {**scope, "run again with seed": second.seed}
    text = "\n".join(
        [
            f"# {document.one_line(title)}\n",
            f"**Question.** {document.one_line(question)}\n",
            *_scorecard(scores, list(dict.fromkeys(data["source"])), again, second),
            reach.box(data, found, scores, scope),
            *ways.section(out, data, targets),
            *_depths(found),
            *_figures(out, found, data, probes, uncached, samples),
            *feature_maps.section(out, rows, scope),
            *_methods(scope, scores),
            "## Missing, diverged, failed, left out\n",
            tables.missing_table(data, [], left_out),
            document.reproduce(scope),
            *(replication.reproduce(second) if second else []),
        ]
    )
    path = document.publish(
        text, title, out, lambda page: depth_table.coloured(scorecard.headed(page))
    )
    return path, "\n\n".join(
        [scorecard.plain(scores), *(text.replace("**", "") for text in again[:1])]
    )


def _views(data: pd.DataFrame, targets: Sequence[str]) -> list[View]:
    """Those of the main targets, then, under their names, of the others: they lack most sources of the main ones."""
    main = settings_of(data, targets)
    known = {*SPECIAL, *(name for _, cells in main for name in cells.targets)}
    there = dict.fromkeys(data.loc[data["usable"].astype(bool), "target"]) if len(data) else ()
    others = [
        (name, one)
        for name in there
        if name not in known
        for one in views(settings_of(data, [name]))
    ]
    return views(main) + [
        replace(one, title=", ".join(filter(None, [one.title, f"target {name}"])))
        for name, one in others
    ]


# --- sections -----------------------------------------------------------------------------------------


def _scorecard(
    scores: Sequence[Score],
    sources: Sequence[str],
    again: Sequence[str],
    second: replication.Second | None,
) -> list[str]:
    return [
        "## Scorecard\n",
        "\n".join(f"- {text}" for text in scorecard.overview(scores)) + "\n",
        "**Table 1.** Every declared claim.\n",
        scorecard.table(scores, second),
        *scorecard.legend(scores),
        scorecard.rule(scores),
        reach.glossary(sources),
        *again,
    ]


def _depths(found: Sequence[View]) -> list[str]:
    text = ["## How many layers\n"]
    for view in found:
        cells = depth_table.depth_cells(view)
        if cells:
            text += _titled(view)
            text += [
                f"**Table 2.** {depth_table.summary(view, cells)}\n",
                depth_table.table(view, cells),
            ]
            text += [depth_table.legend(cells)]
    return text if len(text) > 1 else []


def _titled(view: View) -> list[str]:
    return [f"### {document.one_line(view.title)}\n"] if view.title else []


def _figures(
    out: Path,
    found: Sequence[View],
    data: pd.DataFrame,
    probes: pd.DataFrame | None,
    uncached: principle_figures.Uncached,
    samples: document.Samples | None,
) -> list[str]:
    text = ["## Figures\n"]
    if probes is not None and len(probes):
        text += [
            "**F1.** Gradient profiles and convergence are under *Gradients, unit by unit* below.\n"
        ]
    text += _shown(out, principle_figures.of_layers(data), "")
    for index, view in enumerate(found):
        text += _titled(view)
        text += _shown(
            out, principle_figures.of_view(view, uncached), "" if index == 0 else f"_{index + 1}"
        )
    if "moved" in data and data["moved"].notna().any():
        text += ["**F10.** How far each layer moves is under *What each unit computes* below.\n"]
    named = {
        name: pair
        for name, pair in (samples or {}).items()
        if len(pair[1]) and name not in _ALIASES
    }
    if named:
        path = figures.save(pictures.samples(named), out / "figures" / "samples.png")
        text += document.picture(path.name, "What the nets see", f"{', '.join(named)}.", "")
    if probes is not None and len(probes):
        text += gradients.section(out, probes)
    return text if len(text) > 1 else []


def _shown(out: Path, drawn: Sequence[principle_figures.Picture], suffix: str) -> list[str]:
    text = []
    for one in drawn:
        path = figures.save(one.draw(), out / "figures" / f"{one.name}{suffix}.png")
        text += document.picture(path.name, one.what, one.caption, one.bars)
    return text


def _methods(scope: Mapping[str, Any], scores: Sequence[Score]) -> list[str]:
    facts = {name: value for name, value in scope.items() if name not in _SAID}
    return [
        "## Methods\n",
        tables.facts_table(facts) if facts else "No facts were given.\n",
        "Test accuracies enter every test as z = logit((correct + ½)/(N + 1)). Intervals with a level are inversions "
        "of the exact sign-flip test; bootstrap draws take whole replicates jointly over all arms and serve pictures "
        "only.\n",
        "### Notes on the verdicts\n",
        "By number of the claim in Table 1: what qualifies a verdict, and to what it is confined.\n",
        scorecard.notes(scores) or "None.\n",
    ]
