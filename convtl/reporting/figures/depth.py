"""Figures of depth: how many layers to train, by images and by similarity of the source."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import figure as mpl

from convtl.analysis.conditions import SCRATCH
from convtl.analysis.statistics import regret_per_replicate
from convtl.reporting.figures.drawing import INTERVALS, Parts, figure, heat, lines
from convtl.reporting.figures.series import (
    Arm,
    Panel,
    near_to_far,
    noise_levels,
    panels,
    richest,
)

Table = dict[str, dict[str, Any]]
ENDS: dict[str, int | str] = {"last layer trained": 1, "all layers trained": "all"}
_MOST = 6


@figure(
    "How many layers to train",
    partial(lines, x="trained layers, from the last", y="test accuracy", shares=True),
    "Test accuracy by the number of trained layers, counted from the last; the others keep what they "
    "learned on the source. The grey band is a fresh net of which all layers are trained. "
    + INTERVALS,
)
def accuracy_by_depth(report: Any) -> Parts:
    shown = {
        panel: [arm for arm in panel.arms if arm.is_domain and len(panel.depths(arm)) > 1]
        for panel in panels(report.conditions)
    }
    counts = pd.Series([arm for arms in shown.values() for arm in arms]).value_counts()
    repeated = {arm for arm, count in counts.items() if count > 1} or set(counts.index)
    parts: Table = {}
    for panel, arms in shown.items():
        rows = panel.table.sort_values("depth")
        units = dict(zip(rows["depth"], rows["depth_unit"], strict=True))
        curves: dict[str, Any] = {SCRATCH: panel.ask("test_accuracy", source=SCRATCH)}
        for arm in [arm for arm in arms if arm in repeated][:_MOST]:
            curves[arm.name] = {
                f"{depth}\n{unit}": panel.ask("test_accuracy", depth=depth, **arm.where)
                for depth, unit in units.items()
            }
        if len(curves) > 1:
            parts[panel.title] = curves
    return parts


def _benefit_map(cells: pd.DataFrame) -> mpl.Figure:
    signs = cells["benefit"].map("{:+.2f}".format).str.replace("-", "−")
    cells = cells.assign(text=signs + cells["flawed"].map({True: "†", False: ""}))
    benefits, texts = (
        cells.pivot(index="source", columns="n", values=name).loc[cells["source"].unique()]
        for name in ("benefit", "text")
    )
    scale = {"cmap": "PuOr", "vmin": -1, "vmax": 1}
    return heat(benefits, texts.fillna(""), "labelled images a class", "", **scale)


@figure(
    "Gain of training all layers over the last alone",
    _benefit_map,
    "Accuracy of all layers trained minus that of the last layer alone, in logits, by source and number "
    "of images: purple where all layers are better, orange where the last alone is (darkest at 1 logit "
    "and beyond). Means over at most {{ report.conditions.frame.replicate.nunique() }} replicates. †: at "
    "floor or ceiling, so that no claim uses it.",
)
def depth_benefit(report: Any) -> pd.DataFrame:
    conditions, cells = report.conditions, []
    for panel in panels(conditions):
        for arm in [arm for arm in panel.arms if arm.is_domain or arm.similarity is not None]:
            values = panel.ask(conditions.depth_benefit, **arm.where)
            if len(values):
                flaws = [
                    conditions.flaw(**panel.where, **arm.where, target=target, depth=depth)
                    for target in panel.targets
                    for depth in (1, "all")
                ]
                name = arm.name.removeprefix("from ")
                name += "" if panel.is_main else f" to {panel.targets[0]}"
                cells.append((name, panel.n, float(values.mean()), any(flaws)))
    return pd.DataFrame(cells, columns=["source", "n", "benefit", "flawed"])


def _by_ends(panel: Panel, measure: Any, places: dict[Any, Arm]) -> dict[str, dict[Any, pd.Series]]:
    """A line for the last layer trained, and one for all."""
    return {
        name: {at: panel.ask(measure, depth=depth, **arm.where) for at, arm in places.items()}
        for name, depth in ENDS.items()
    }


@figure(
    "What a source is worth",
    partial(lines, x="gain over scratch, logits", across=True, zero=True),
    "Accuracy of a net that was pretrained on the source named at the left, minus that of a fresh net "
    "with the same images and updates, in logits: right of the line pretraining helps. Near sources "
    "(by measured distance, if there is one) stand above far ones, and controls, whose names have a "
    "colon, below them. " + INTERVALS,
)
def gain_by_similarity(report: Any) -> Parts:
    panel = richest(report.conditions)
    if panel is None:
        return {}
    arms = [arm for arm in panel.arms if arm.source != SCRATCH and arm.similarity is None]
    arms = sorted(near_to_far(arms, report.conditions), key=lambda arm: not arm.is_domain)
    gains = _by_ends(panel, report.conditions.transfer_gain, {arm.source: arm for arm in arms})
    shown = any(len(values) for line in gains.values() for values in line.values())
    return {f"{panel.title} of {' and '.join(panel.targets)}": gains} if shown else {}


@figure(
    "Depth and similarity",
    partial(
        lines, x="from near to far sources; or share of similar classes", y="logits", zero=True
    ),
    "Above: accuracy of all layers trained minus that of the last layer alone, in logits. Below: both by "
    "themselves. Where a source mixes classes that are similar to the target with classes that are not, "
    "the share of similar ones is on the axis. " + INTERVALS,
)
def depth_benefit_by_similarity(report: Any) -> Parts:
    panel = richest(report.conditions)
    if panel is None:
        return {}
    noisy = list(noise_levels(report))[1:]
    arms = [arm for arm in panel.arms if len(panel.depths(arm)) > 1 and arm not in noisy]
    ladder = near_to_far([arm for arm in arms if arm.is_domain], report.conditions)
    scales: dict[str, dict[Any, Arm]] = {
        "sources": {arm.source: arm for arm in ladder},
        "mixtures": {arm.similarity: arm for arm in arms if arm.similarity is not None},
    }
    scales = {name: places for name, places in scales.items() if len(places) > 2}
    benefits = {
        f"{name}: all layers − last layer": {
            "difference": {
                at: panel.ask(report.conditions.depth_benefit, **arm.where)
                for at, arm in places.items()
            }
        }
        for name, places in scales.items()
    }
    both = {name: _by_ends(panel, "logit_accuracy", places) for name, places in scales.items()}
    return {**benefits, **both}


@figure(
    "Content or corruption?",
    partial(
        lines,
        x="noise in the source's pictures, as a share of full ink",
        y="gain over scratch, logits",
        zero=True,
    ),
    "Gain over a fresh net, in logits, from one source whose pictures carry more or less noise; the "
    "target's pictures have the noise that the title names. If nets only learned to see through noise, "
    "a source without it would be worth nothing. " + INTERVALS,
)
def corruption(report: Any) -> Parts:
    levels, panel = noise_levels(report), richest(report.conditions)
    if panel is None or not levels:
        return {}
    target = report.config.domains[panel.targets[0]].jitter.noise
    places = {noise: arm for arm, noise in levels.items()}
    gain = report.conditions.transfer_gain
    return {f"target with noise {target:g}, {panel.title}": _by_ends(panel, gain, places)}


@figure(
    "Rules for the depth",
    partial(lines, x="given away against the best depth, logits", across=True, zero=True),
    "How much accuracy, in logits, a rule for the number of trained layers gives away against the best "
    "depth of its row (a source and a number of images). The best depth is found on other replicates "
    "than those that are scored, so a rule can be below 0. " + INTERVALS,
)
def policies(report: Any) -> Parts:
    regrets: Table = {}
    for panel in panels(report.conditions):
        for arm in panel.arms:
            depths = panel.depths(arm)
            if not (panel.is_main and arm.is_domain and len(depths) > 2):
                continue
            scores, seen = (
                pd.DataFrame({d: panel.ask(column, depth=d, **arm.where) for d in depths}).dropna()
                for column in ("logit_accuracy", "val_accuracy")
            )
            chosen: dict[str, Any] = {
                "last layer trained": 0,
                "all layers trained": len(depths) - 1,
                "chosen on validation": np.argmax(seen.reindex(scores.index).to_numpy(), axis=1),
            }
            for name, place in chosen.items() if len(scores) > 1 else ():
                regret = regret_per_replicate(scores.to_numpy(), place)
                line = regrets.setdefault(name, {})
                line[f"{arm.source}, n={panel.n:,}"] = pd.Series(regret, scores.index)
    return {"": regrets} if regrets else {}
