"""Figures of accuracy by depth, source, images, updates and learning rates."""

from collections import Counter
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from matplotlib import figure as mpl

from convtl.analysis.conditions import SCRATCH
from convtl.analysis.statistics import data_equivalent
from convtl.reporting.figures.drawing import INK, Apart, Parts, Points, figure, lines
from convtl.reporting.figures.series import (
    Arm,
    Panel,
    domains,
    near_to_far,
    noise_levels,
    panels,
    richest,
)

ENDS: dict[str, int | str] = {"last layer trained": 1, "all layers trained": "all"}


def _at_ends(measure: str, panel: Panel, arm: Arm, title: str, place: Any) -> Points:
    """A measure of one source with the last layer trained, and with all."""
    for name, depth in ENDS.items():
        yield title, name, place, panel.ask(measure, depth=depth, **arm.where)


@figure(
    "How many layers to train",
    "Test accuracy by the number of trained layers, counted from the last; the others keep what they "
    "learned on the source. The grey band is a fresh net of which all layers are trained. Hollow marks, and "
    "a hatched band: at floor, at ceiling, or over a quarter of the learning rates at an edge (see limits).",
    partial(lines, x="trained layers, from the last", y="test accuracy", shares=True),
    fewest=2,
)
def accuracy_by_depth(report: Any) -> Points:
    sources = {panel: domains(report, panel) for panel in panels(report.conditions)}
    counts = Counter(arm for arms in sources.values() for arm in arms)
    for panel, arms in sources.items():
        yield panel.title, SCRATCH, None, panel.ask_marked("test_accuracy", source=SCRATCH)
        for arm in arms:
            if counts[arm] == 1 < max(counts.values()):
                continue  # what was tried at one n only makes a panel hard to read
            for depth, unit in panel.units.items():
                values = panel.ask_marked("test_accuracy", depth=depth, **arm.where)
                yield panel.title, arm.name, f"{depth}\n{unit}", values


@figure(
    "Gain of training all layers over the last alone",
    "Accuracy of all layers trained minus that of the last layer alone, in logits, by the number of "
    "labelled images a class: above the line all layers are better, below it the last alone is. What is "
    "at floor or ceiling (see limits) is drawn, too.",
    partial(lines, x="labelled images a class", y="all − last layer, logits", zero=True),
    fewest=2,
)
def depth_benefit(report: Any) -> Points:
    for panel in panels(report.conditions):
        for arm in [*domains(report, panel), *(a for a in panel.arms if a.similarity is not None)]:
            benefit = panel.ask("depth_benefit", **arm.where)
            yield ", ".join(panel.targets), arm.name, panel.n, benefit


@figure(
    "What a source is worth",
    "Accuracy of a net that was pretrained on the source named at the left, minus that of a fresh net "
    "with the same images and updates, in logits: right of the line pretraining helps. "
    "{% if 'near to far' in data(report) | join %}Near sources (by measured distance) stand above far "
    "ones, and controls below both.{% else %}Sources stand in no order, above controls.{% endif %}",
    partial(lines, x="gain over scratch, logits", across=True, zero=True),
)
def gain_by_similarity(report: Any) -> Points:
    panel = richest(report.conditions)
    sources = domains(report, panel)
    ordered = near_to_far(sources, report.conditions)
    controls = [arm for arm in panel.arms if ":" in arm.source or arm.source in ("self", "random")]
    title = f"{panel.title} of {' and '.join(panel.targets)}{', near to far' if ordered else ''}"
    for arm in [*(ordered or sources), *controls]:
        yield from _at_ends("transfer_gain", panel, arm, title, arm.source)


@figure(
    "Depth and similarity",
    "Logit accuracy of the last layer and of all layers trained, and their difference"
    "{% if 'near to far' in data(report) | join %}, from near to far sources (by measured distance)"
    "{% else %}; sources stand in no order{% endif %}. Where a source mixes classes that are similar "
    "to the target with classes that are not, the share of similar ones is on the axis.",
    partial(lines, x="source; or share of similar classes", y="logits", zero=True),
    fewest=3,
)
def depth_benefit_by_similarity(report: Any) -> Points:
    panel = richest(report.conditions)
    sources = domains(report, panel)
    steps: list[tuple[str, Any, Arm]] = [("sources", Apart(a.source), a) for a in sources]
    if ordered := near_to_far(sources, report.conditions):
        steps = [("sources, near to far", arm.source, arm) for arm in ordered]
    steps += [("mixtures", a.similarity, a) for a in panel.arms if a.similarity is not None]
    for title, place, arm in steps:
        benefit = panel.ask("depth_benefit", **arm.where)
        yield f"{title}: difference", "all − last layer", place, benefit
    for title, place, arm in steps:
        yield from _at_ends("logit_accuracy", panel, arm, title, place)


@figure(
    "Content or corruption?",
    "Gain over a fresh net, in logits, from one source whose pictures carry more or less noise; the "
    "target's have the noise that the title names. If nets only learned to see through noise, a source "
    "without it would be worth nothing.",
    partial(lines, x="noise in the source's pictures", y="gain over scratch, logits", zero=True),
)
def corruption(report: Any) -> Points:
    panel = richest(report.conditions)
    for arm, noise in noise_levels(report).items():
        target = report.config.domains[panel.targets[0]].jitter.noise
        title = f"target with noise {target:g}, {panel.title}"
        yield from _at_ends("transfer_gain", panel, arm, title, noise)


def _with_arrows(parts: Parts, **options: Any) -> mpl.Figure:
    """Learning curves, with arrows from the first source to where scratch gets as far."""
    drawing = lines(parts, **options)
    for axis, part in zip(drawing.axes, parts.values(), strict=True):
        first, last = next(iter(part)), list(part)[-1]
        curve, scratch = (
            {n: float(values.mean()) for n, values in part[name].items() if len(values)}
            for name in (first, last)
        )
        sizes = sorted({n for line in part.values() for n, values in line.items() if len(values)})
        for n, height in curve.items() if last == SCRATCH != first else ():
            worth = data_equivalent(height, list(scratch), list(scratch.values()), n)
            if worth.log2_ratio < 0.3 or worth.censored == "left":
                continue
            reach = np.log2(n) + np.array([0, worth.log2_ratio])
            start, end = np.interp(reach, np.log2(sizes), range(len(sizes)))
            axis.annotate("", (end, height), (start, height), arrowprops={"arrowstyle": "->"})
            text = ">" * (worth.censored == "right") + f"×{2**worth.log2_ratio:.2g}"
            style: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "color": INK}
            axis.annotate(text, ((start + end) / 2, height), (0, 4), **style)
    return drawing


@figure(
    "More images",
    "Test accuracy by the number of labelled images a class, all layers trained. Arrows: how many images "
    "a fresh net (scratch) would need to be as good: ×4 says four times as many, > that it does not get "
    "there with the most images that were tried.",
    partial(_with_arrows, x="labelled images a class", y="test accuracy", shares=True),
    fewest=2,
)
def learning_curves(report: Any) -> Points:
    for panel in panels(report.conditions):
        for arm in [*domains(report, panel), Arm(SCRATCH)]:
            values = panel.ask("test_accuracy", depth="all", **arm.where)
            yield ", ".join(panel.targets), arm.name, panel.n, values


@figure(
    "Longer training",
    "Test accuracy by the number of updates, all layers trained. A fresh net (scratch) that still rises "
    "at its longest schedule might catch up: what pretraining gains is then speed.",
    partial(lines, x="updates", y="test accuracy", shares=True),
    fewest=2,
)
def schedules(report: Any) -> Points:
    for panel in panels(report.conditions):
        for arm, updates in product(panel.arms, report.conditions.schedules):
            where = {**arm.where, "depth": "all", "updates": updates}
            yield panel.title, arm.name, updates, panel.ask("test_accuracy", **where)
