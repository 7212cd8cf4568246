"""Which figures a report of declared claims has: each where its data are there, with its words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from convtl.analysis.arms import SCRATCH
from convtl.reporting import (
    data_plots,
    depth_plots,
    figures,
    layer_plots,
    policy_plots,
    similarity_plots,
)
from convtl.reporting.view import View

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


def of_layers(data: pd.DataFrame) -> list[Picture]:
    """F2: where units were taken over and the others started anew."""
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


def of_view(view: View, uncached: Uncached) -> list[Picture]:
    """F3 to F9 and F11, each where its data are there."""
    if not view.schedules:
        return []
    curves, measures = _of_data(view), _of_measures(view)
    gains, policies = _of_similarity(view), _of_policy(view, uncached)
    return [*_of_depth(view), *curves, *gains, *_of_rates(view), *policies, *measures]


def _of_depth(view: View) -> list[Picture]:
    found = []
    if len(view.tuned) > 1 and depth_plots.places(view):
        found.append(
            Picture(
                "accuracy_by_depth",
                "F3. Accuracy against trained layers",
                lambda: depth_plots.accuracy_by_depth(view),
                depth_plots.accuracy_by_depth_caption(view),
                f"{_MEANS} {_BARS}",
            )
        )
    if len(view.tuned) > 1 and depth_plots.depth_benefits(view):
        found.append(
            Picture(
                "depth_benefit",
                "F4. Depth benefit D over similarity and labels",
                lambda: depth_plots.benefit_map(view),
                depth_plots.benefit_map_caption(view),
                "Sources from similar to far; black line: D = 0, from the isotonic fit of D in log n, where it is "
                "inside the n that were run; "
                "\\* adjusted p ≤ .05 over all cells (max-T); grey: not run.",
            )
        )
    if max(len(view.dial), len(view.ladder)) > 1 and depth_plots.depth_benefits(view):
        found.append(
            Picture(
                "similarity_effect",
                "F4, along similarity. D and its two halves",
                lambda: depth_plots.similarity_effect(view),
                depth_plots.similarity_effect_caption(view),
                _BARS,
            )
        )
    return found


def _of_data(view: View) -> list[Picture]:
    found = []
    if data_plots.curve_places(view)[0]:
        found.append(
            Picture(
                "learning_curves",
                "F5. Learning curves and what transfer is worth in labels",
                lambda: data_plots.learning_curves(view),
                data_plots.learning_curves_caption(view),
                f"Arrows lead to scratch's curve (isotonic, monotone cubic in log n); dashed: it ends before. {_BARS}",
            )
        )
    return found


def _of_rates(view: View) -> list[Picture]:
    if len(view.tuned) < 2 or not (view.cells.rows["lr"] > 0).any():
        return []
    return [
        Picture(
            "learning_rates",
            "F7. Learning rates that were chosen",
            lambda: data_plots.rates(view),
            data_plots.rates_caption(view),
            "A dot for each target's rate; lines: geometric means.",
        )
    ]


def _of_similarity(view: View) -> list[Picture]:
    found = []
    n, updates = view.crowded, view.schedules[0]
    deep = len(view.tuned) > 1 or view.tuned == (view.full,)
    if (
        deep
        and len(similarity_plots.places(view)[0]) > 1
        and len(view.z(SCRATCH, n, "all", updates))
    ):
        found.append(
            Picture(
                "gain_by_distance",
                similarity_plots.gain_title(view),
                lambda: similarity_plots.gain_by_distance(view),
                similarity_plots.gain_by_distance_caption(view),
                f"Hollow, bands: controls. {_BARS}",
            )
        )
    return found


def _of_measures(view: View) -> list[Picture]:
    found = []
    if len(similarity_plots.measured(view, "mmd2")) > 1 and len(view.ladder) > 1:
        found.append(
            Picture(
                "measured_similarity",
                "F11. Measured against constructed similarity",
                lambda: similarity_plots.constructed(view),
                similarity_plots.constructed_caption(view),
                _BARS,
            )
        )
    if taus := similarity_plots.correlations(view):
        found.append(
            Picture(
                "predictors",
                "F11. What predicts gain and the benefit of depth",
                lambda: similarity_plots.predictors(taus),
                similarity_plots.predictors_caption(taus),
                "Mean over replicates of the correlation over sources; bars: 95% bootstrap over replicates, for these "
                "sources only.",
            )
        )
    return found


def _of_policy(view: View, uncached: Uncached) -> list[Picture]:
    found = []
    if policy_plots.regrets(view)[0]:
        found.append(
            Picture(
                "regret",
                "F8. Regret of rules for the depth",
                lambda: policy_plots.regret_bars(view),
                policy_plots.regret_caption(view),
                "Bars: exact sign-flip intervals of the mean over cells and targets (approximate, as replicates share "
                "the halves that choose); dots: replicates; right: 95% bootstrap bands.",
            )
        )
    more = uncached(view.units)
    if len(view.tuned) > 1 and any(policy_plots.cost_counts(view)):
        found.append(
            Picture(
                "cost",
                "F9. Accuracy against cost",
                lambda: policy_plots.cost(view, more),
                policy_plots.cost_caption(view, more),
                "Numbers on the front: trained layers.",
            )
        )
    return found
