"""The report of a study of declared claims: the scorecard first, then depths, figures, methods."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from convtl.reporting import (
    data_plots,
    depth_plots,
    depth_table,
    document,
    feature_maps,
    figures,
    gradients,
    layer_plots,
    pictures,
    policy_plots,
    reach,
    scorecard,
    similarity_plots,
    tables,
)
from convtl.reporting.view import View, views
from convtl.study.arms import SCRATCH, frame
from convtl.study.scorecard import Score, settings_of
from convtl.study.scorecard import scorecard as judged

Uncached = Callable[[Mapping[int, str]], Mapping[int, float]]
"""(depth -> lowest trained unit) -> depth -> FLOPs an update of what is frozen below it"""

_BARS = "Bars and bands: 95% bootstrap over whole replicates; dots: single replicates."
_MEANS = "Each number is a replicate's mean over the targets (from four targets on the interquartile mean)."


@dataclass(frozen=True)
class Picture:
    """One figure of the report."""

    name: str
    what: str
    draw: Callable[[], figures.Figure]
    caption: str
    bars: str = ""


def write_report(
    rows: list[dict[str, Any]],
    out: Path,
    *,
    title: str,
    question: str,
    names: Sequence[str],
    scope: Mapping[str, Any],
    samples: document.Samples | None,
    left_out: Sequence[str],
    probes: pd.DataFrame | None,
    uncached: Uncached,
) -> tuple[Path, str]:
    """Writes the report of a study with a scorecard.

    Args:
      rows: one dictionary a trial, with the measures of its source and target as columns.
      names: principles, as in the key `scorecard`.
      scope: facts of the protocol; see `convtl.reporting.document.write_report`.
      samples: domain -> (uint8 images, labels).
      left_out: what is not in `rows`, one line each.
      probes: the table of gradients, if there is one.
      uncached: what frozen layers cost where their outputs are not kept.

    Returns:
      The path of report.html, and the scorecard to be printed.
    """
    data = frame(rows)
    scores = judged(names, data, probes)
    found = views(settings_of(data))
    text = "\n".join(
        [
            f"# {document.one_line(title)}\n",
            f"**Question.** {document.one_line(question)}\n",
            *_scorecard(scores, list(dict.fromkeys(data["source"]))),
            reach.box(data, found, scores, scope),
            *_depths(found),
            *_figures(out, found, data, probes, uncached, samples),
            *feature_maps.section(out, rows, scope),
            *_methods(scope, scores, left_out),
            "## Missing, diverged, failed, left out\n",
            tables.missing_table(data, [], left_out),
            document.reproduce(scope),
        ]
    )
    path = document.publish(text, title, out, lambda page: depth_table.coloured(scorecard.headed(page)))
    return path, scorecard.plain(scores)


# --- sections -----------------------------------------------------------------------------------------


def _scorecard(scores: Sequence[Score], sources: Sequence[str]) -> list[str]:
    return [
        "## Scorecard\n",
        "\n".join(f"- {text}" for text in scorecard.overview(scores)) + "\n",
        "**Table 1.** Every declared claim.\n",
        scorecard.table(scores),
        scorecard.rule(scores),
        reach.glossary(sources),
    ]


def _depths(found: Sequence[View]) -> list[str]:
    text = ["## How many layers\n"]
    for view in found:
        cells = depth_table.depth_cells(view)
        if cells:
            text += _titled(view)
            text += [f"**Table 2.** {depth_table.summary(view, cells)}\n", depth_table.table(view, cells)]
            text += [depth_table.legend(cells)]
    return text if len(text) > 1 else []


def _titled(view: View) -> list[str]:
    return [f"### {document.one_line(view.title)}\n"] if view.title else []


def _figures(
    out: Path,
    found: Sequence[View],
    data: pd.DataFrame,
    probes: pd.DataFrame | None,
    uncached: Uncached,
    samples: document.Samples | None,
) -> list[str]:
    text = ["## Figures\n"]
    if probes is not None and len(probes):
        text += ["**F1.** Gradient profiles and convergence are under *Gradients, unit by unit* below.\n"]
    text += _shown(out, _layer_picture(data), "")
    for index, view in enumerate(found):
        text += _titled(view)
        text += _shown(out, _pictures(view, uncached), "" if index == 0 else f"_{index + 1}")
    named = {name: pair for name, pair in (samples or {}).items() if len(pair[1])}
    if named:
        path = figures.save(pictures.samples(named), out / "figures" / "samples.png")
        text += document.picture(path.name, "What the nets see", f"{', '.join(named)}.", "")
    if probes is not None and len(probes):
        text += gradients.section(out, probes)
    return text if len(text) > 1 else []


def _shown(out: Path, drawn: Sequence[Picture], suffix: str) -> list[str]:
    text = []
    for one in drawn:
        path = figures.save(one.draw(), out / "figures" / f"{one.name}{suffix}.png")
        text += document.picture(path.name, one.what, one.caption, one.bars)
    return text


def _layer_picture(data: pd.DataFrame) -> list[Picture]:
    splits = layer_plots.splits(data[data["usable"].astype(bool)])
    if not splits:
        return []
    caption = layer_plots.layer_transfer_caption(splits)
    return [
        Picture(
            "layer_transfer",
            "F2. What layers carry",
            lambda: layer_plots.layer_transfer(splits),
            caption,
            _BARS,
        )
    ]


def _pictures(view: View, uncached: Uncached) -> list[Picture]:
    """F3 to F9 and F11, each where its data are there."""
    if not view.schedules:
        return []
    return [*_of_depth(view), *_of_data(view), *_of_similarity(view), *_of_policy(view, uncached)]


def _of_depth(view: View) -> list[Picture]:
    found = []
    if len(view.depths) > 1:
        found.append(
            Picture(
                "accuracy_by_depth", "F3. Accuracy against trained layers",
                lambda: depth_plots.accuracy_by_depth(view), depth_plots.accuracy_by_depth_caption(view),
                f"{_MEANS} {_BARS}",
            )
        )  # fmt: skip
    if depth_plots.depth_benefits(view):
        found.append(
            Picture(
                "depth_benefit", "F4. Depth benefit D over similarity and labels",
                lambda: depth_plots.benefit_map(view), depth_plots.benefit_map_caption(view),
                "Sources from similar to far; black line: D = 0, from the isotonic fit of D in log n, where D rises; "
                "\\* adjusted p ≤ .05 over all cells (max-T); grey: not run.",
            )
        )  # fmt: skip
    if max(len(depth_plots.dial(view)), len(depth_plots.ladder(view))) > 1 and depth_plots.depth_benefits(
        view
    ):
        found.append(
            Picture(
                "similarity_effect", "F4, along similarity. D and its two halves",
                lambda: depth_plots.similarity_effect(view), depth_plots.similarity_effect_caption(view), _BARS,
            )
        )  # fmt: skip
    return found


def _of_data(view: View) -> list[Picture]:
    found = []
    if data_plots.curve_places(view)[0]:
        found.append(
            Picture(
                "learning_curves", "F5. Learning curves and what transfer is worth in labels",
                lambda: data_plots.learning_curves(view), data_plots.learning_curves_caption(view),
                f"Arrows lead to scratch's curve (isotonic, monotone cubic in log n); dashed: it ends before. {_BARS}",
            )
        )  # fmt: skip
    rates = Picture(
        "learning_rates", "F7. Learning rates that were chosen", lambda: data_plots.rates(view),
        data_plots.rates_caption(view), "A dot for each target's rate; lines: geometric means.",
    )  # fmt: skip
    return [*found, rates] if (view.cells.rows["lr"] > 0).any() else found


def _of_similarity(view: View) -> list[Picture]:
    found = []
    if len(view.sources_at(view.crowded, view.schedules[0])) > 1 and len(
        view.z(SCRATCH, view.crowded, "all", view.schedules[0])
    ):
        found.append(
            Picture(
                "gain_by_distance", "F6. Gain against distance", lambda: similarity_plots.gain_by_distance(view),
                similarity_plots.gain_by_distance_caption(view), f"Hollow, bands: controls. {_BARS}",
            )
        )  # fmt: skip
    if len(similarity_plots.measured(view, "mmd2")) > 1 and len(depth_plots.ladder(view)) > 1:
        found.append(
            Picture(
                "measured_similarity", "F11. Measured against constructed similarity",
                lambda: similarity_plots.constructed(view), similarity_plots.constructed_caption(view), _BARS,
            )
        )  # fmt: skip
    if taus := similarity_plots.correlations(view):
        found.append(
            Picture(
                "predictors", "F11. What predicts gain and the benefit of depth",
                lambda: similarity_plots.predictors(taus), similarity_plots.predictors_caption(taus),
                "Mean over replicates of the correlation over sources; bars: 95% bootstrap over replicates, for these "
                "sources only.",
            )
        )  # fmt: skip
    return found


def _of_policy(view: View, uncached: Uncached) -> list[Picture]:
    found = []
    if policy_plots.regrets(view)[0]:
        found.append(
            Picture(
                "regret", "F8. Regret of rules for the depth", lambda: policy_plots.regret_bars(view),
                policy_plots.regret_caption(view),
                "Bars: exact sign-flip intervals of the mean over cells and targets (approximate, as replicates share "
                "the halves that choose); dots: replicates; right: 95% bootstrap bands.",
            )
        )  # fmt: skip
    more = uncached(view.units)
    if (view.cells.rows[["flops_per_update", "trained_weights"]] > 0).any(axis=None):
        found.append(
            Picture(
                "cost", "F9. Accuracy against cost", lambda: policy_plots.cost(view, more),
                policy_plots.cost_caption(view, more), "Numbers on the front: trained layers.",
            )
        )  # fmt: skip
    return found


def _methods(scope: Mapping[str, Any], scores: Sequence[Score], left_out: Sequence[str]) -> list[str]:
    facts = {name: value for name, value in scope.items() if name not in ("command", "faces list")}
    tuning = [text for text in left_out if "tuning trial" in text]
    if tuning:
        facts["tuning"] = "; ".join(tuning)
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
