"""Figures of depth: how many layers to train, by images and by similarity of the source."""

from collections import Counter
from typing import Any

import pandas as pd
from matplotlib import figure as mpl

from convtl.analysis.conditions import SCRATCH
from convtl.analysis.statistics import regret_per_replicate
from convtl.reporting.figures.drawing import Points, figure, heat, line_figure
from convtl.reporting.figures.series import Arm, near_to_far, noise_levels, panels, richest

ENDS: dict[str, int | str] = {"last layer trained": 1, "all layers trained": "all"}


@line_figure(
    "How many layers to train",
    "Test accuracy by the number of trained layers, counted from the last; the others keep what they "
    "learned on the source. The grey band is a fresh net of which all layers are trained.",
    x="trained layers, from the last",
    y="test accuracy",
    fewest=2,
    shares=True,
)
def accuracy_by_depth(report: Any) -> Points:
    parts = panels(report.conditions)
    counts = Counter(arm for panel in parts for arm in panel.arms if arm.is_domain)
    for panel in parts:
        yield panel.title, SCRATCH, None, panel.ask("test_accuracy", source=SCRATCH)
        for arm in panel.arms:
            if counts[arm] == 1 < max(counts.values()) or not arm.is_domain:
                continue  # what was tried at one n only makes a panel hard to read
            for depth, unit in panel.units.items():
                values = panel.ask("test_accuracy", depth=depth, **arm.where)
                yield panel.title, arm.name, f"{depth}\n{unit}", values


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
                    for depth in ENDS.values()
                ]
                name = arm.name.removeprefix("from ")
                name += "" if panel.is_main else f" to {panel.targets[0]}"
                cells.append((name, panel.n, float(values.mean()), any(flaws)))
    return pd.DataFrame(cells, columns=["source", "n", "benefit", "flawed"])


@line_figure(
    "What a source is worth",
    "Accuracy of a net that was pretrained on the source named at the left, minus that of a fresh net "
    "with the same images and updates, in logits: right of the line pretraining helps. Near sources (by "
    "measured distance, if there is one) stand above far ones, and controls below both.",
    x="gain over scratch, logits",
    across=True,
    zero=True,
)
def gain_by_similarity(report: Any) -> Points:
    panel = richest(report.conditions)
    arms = [arm for arm in panel.arms if arm.source != SCRATCH and arm.similarity is None]
    title = f"{panel.title} of {' and '.join(panel.targets)}"
    for arm in sorted(near_to_far(arms, report.conditions), key=lambda arm: not arm.is_domain):
        for name, depth in ENDS.items():
            gain = panel.ask(report.conditions.transfer_gain, depth=depth, **arm.where)
            yield title, name, arm.source, gain


@line_figure(
    "Depth and similarity",
    "Logit accuracy of the last layer and of all layers trained, and their difference, from near to far "
    "sources (by measured distance, if there is one). Where a source mixes classes that are similar to "
    "the target with classes that are not, the share of similar ones is on the axis.",
    x="source; or share of similar classes",
    y="logits",
    fewest=3,
    zero=True,
)
def depth_benefit_by_similarity(report: Any) -> Points:
    panel = richest(report.conditions)
    noisy = list(noise_levels(report))[1:]
    arms = [arm for arm in panel.arms if len(panel.depths(arm)) > 1 and arm not in noisy]
    ladder = near_to_far([arm for arm in arms if arm.is_domain], report.conditions)
    steps: list[tuple[str, Any, Arm]] = [("sources", arm.source, arm) for arm in ladder]
    steps += [("mixtures", arm.similarity, arm) for arm in arms if arm.similarity is not None]
    for title, place, arm in steps:
        benefit = panel.ask(report.conditions.depth_benefit, **arm.where)
        yield f"{title}: difference", "all − last layer", place, benefit
    for title, place, arm in steps:
        for name, depth in ENDS.items():
            yield title, name, place, panel.ask("logit_accuracy", depth=depth, **arm.where)


@line_figure(
    "Content or corruption?",
    "Gain over a fresh net, in logits, from one source whose pictures carry more or less noise; the "
    "target's have the noise that the title names. If nets only learned to see through noise, a source "
    "without it would be worth nothing.",
    x="noise in the source's pictures, as a share of full ink",
    y="gain over scratch, logits",
    zero=True,
)
def corruption(report: Any) -> Points:
    levels = noise_levels(report)
    panel = richest(report.conditions)
    for arm, noise in levels.items():
        target = report.config.domains[panel.targets[0]].jitter.noise
        for name, depth in ENDS.items():
            gain = panel.ask(report.conditions.transfer_gain, depth=depth, **arm.where)
            yield f"target with noise {target:g}, {panel.title}", name, noise, gain


@line_figure(
    "Rules for the depth",
    "How much accuracy, in logits, a rule for the number of trained layers gives away against the best "
    "depth of its row (a source and a number of images). The best depth is found on other replicates "
    "than those that are scored, so a rule can be below 0. The lecture's rule takes the last layer where "
    "the source is near or images are few, and all layers elsewhere.",
    x="given away against the best depth, logits",
    across=True,
    zero=True,
)
def policies(report: Any) -> Points:
    for panel in [panel for panel in panels(report.conditions) if panel.is_main]:
        for arm in [arm for arm in panel.arms if arm.is_domain and len(panel.depths(arm)) > 2]:
            depths = panel.depths(arm)
            scores, seen = (
                pd.DataFrame({d: panel.ask(column, depth=d, **arm.where) for d in depths}).dropna()
                for column in ("logit_accuracy", "val_accuracy")
            )
            if len(scores) < 2:
                continue
            rules: dict[str, Any] = dict(zip(ENDS, (0, len(depths) - 1), strict=True))
            rules["chosen on validation"] = seen.loc[scores.index].to_numpy().argmax(axis=1)
            for name, chosen in rules.items():
                regret = pd.Series(regret_per_replicate(scores.to_numpy(), chosen), scores.index)
                yield "", name, f"{arm.source}, n={panel.n:,}", regret
