"""Figures of accuracy by depth, source, images, updates and learning rates."""

from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import figure as mpl

from convtl.analysis.conditions import SCRATCH
from convtl.analysis.statistics import data_equivalent, regret_per_replicate
from convtl.reporting.figures.drawing import INK, Parts, Points, figure, heat, lines
from convtl.reporting.figures.series import (
    Arm,
    domains,
    near_to_far,
    noise_levels,
    panels,
    richest,
    usual,
)

ENDS: dict[str, int | str] = {"last layer trained": 1, "all layers trained": "all"}


@figure(
    "How many layers to train",
    "Test accuracy by the number of trained layers, counted from the last; the others keep what they "
    "learned on the source. The grey band is a fresh net of which all layers are trained.",
    partial(lines, x="trained layers, from the last", y="test accuracy", shares=True),
    fewest=2,
)
def accuracy_by_depth(report: Any) -> Points:
    sources = {panel: domains(report, panel) for panel in panels(report.conditions)}
    counts = Counter(arm for arms in sources.values() for arm in arms)
    for panel, arms in sources.items():
        yield panel.title, SCRATCH, None, panel.ask("test_accuracy", source=SCRATCH)
        for arm in arms:
            if counts[arm] == 1 < max(counts.values()):
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
    "Accuracy of all layers trained minus that of the last layer alone, in logits, by source and number "
    "of images: purple where all layers are better, orange where the last alone is (darkest at 1 logit "
    "and beyond). Means over at most {{ report.conditions.frame.replicate.nunique() }} replicates. †: at "
    "floor or ceiling, so that no claim uses it.",
    _benefit_map,
)
def depth_benefit(report: Any) -> pd.DataFrame:
    conditions, cells = report.conditions, []
    for panel in panels(conditions):
        mixtures = [arm for arm in panel.arms if arm.similarity is not None]
        for arm in [*domains(report, panel), *mixtures]:
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


@figure(
    "What a source is worth",
    "Accuracy of a net that was pretrained on the source named at the left, minus that of a fresh net "
    "with the same images and updates, in logits: right of the line pretraining helps. Near sources (by "
    "measured distance, if there is one) stand above far ones, and controls below both.",
    partial(lines, x="gain over scratch, logits", across=True, zero=True),
)
def gain_by_similarity(report: Any) -> Points:
    panel = richest(report.conditions)
    near = near_to_far(domains(report, panel), report.conditions)
    controls = [arm for arm in panel.arms if ":" in arm.source or arm.source in ("self", "random")]
    for arm in [*near, *controls]:
        for name, depth in ENDS.items():
            gain = panel.ask(report.conditions.transfer_gain, depth=depth, **arm.where)
            yield f"{panel.title} of {' and '.join(panel.targets)}", name, arm.source, gain


@figure(
    "Depth and similarity",
    "Logit accuracy of the last layer and of all layers trained, and their difference, from near to far "
    "sources (by measured distance, if there is one). Where a source mixes classes that are similar to "
    "the target with classes that are not, the share of similar ones is on the axis.",
    partial(lines, x="source; or share of similar classes", y="logits", zero=True),
    fewest=3,
)
def depth_benefit_by_similarity(report: Any) -> Points:
    panel = richest(report.conditions)
    ladder = near_to_far(domains(report, panel), report.conditions)
    steps: list[tuple[str, Any, Arm]] = [("sources", arm.source, arm) for arm in ladder]
    steps += [("mixtures", a.similarity, a) for a in panel.arms if a.similarity is not None]
    for title, place, arm in steps:
        benefit = panel.ask(report.conditions.depth_benefit, **arm.where)
        yield f"{title}: difference", "all − last layer", place, benefit
    for title, place, arm in steps:
        for name, depth in ENDS.items():
            yield title, name, place, panel.ask("logit_accuracy", depth=depth, **arm.where)


@figure(
    "Content or corruption?",
    "Gain over a fresh net, in logits, from one source whose pictures carry more or less noise; the "
    "target's have the noise that the title names. If nets only learned to see through noise, a source "
    "without it would be worth nothing.",
    partial(
        lines,
        x="noise in the source's pictures, as a share of full ink",
        y="gain over scratch, logits",
        zero=True,
    ),
)
def corruption(report: Any) -> Points:
    panel = richest(report.conditions)
    for arm, noise in noise_levels(report).items():
        target = report.config.domains[panel.targets[0]].jitter.noise
        for name, depth in ENDS.items():
            gain = panel.ask(report.conditions.transfer_gain, depth=depth, **arm.where)
            yield f"target with noise {target:g}, {panel.title}", name, noise, gain


@figure(
    "Rules for the depth",
    "How much accuracy, in logits, a rule for the number of trained layers gives away against the best "
    "depth of its row (a source and a number of images). The best depth is found on other replicates "
    "than those that are scored, so a rule can be below 0. The lecture's rule takes the last layer where "
    "the source is near or images are few, and all layers elsewhere.",
    partial(lines, x="given away against the best depth, logits", across=True, zero=True),
)
def policies(report: Any) -> Points:
    for panel in [panel for panel in panels(report.conditions) if panel.is_main]:
        for arm in domains(report, panel):
            depths = panel.depths(arm)
            scores, seen = (
                pd.DataFrame({d: panel.ask(column, depth=d, **arm.where) for d in depths}).dropna()
                for column in ("logit_accuracy", "val_accuracy")
            )
            if len(scores) < 2 or len(depths) < 3:
                continue
            rules: dict[str, Any] = dict(zip(ENDS, (0, len(depths) - 1), strict=True))
            rules["chosen on validation"] = seen.loc[scores.index].to_numpy().argmax(axis=1)
            for name, chosen in rules.items():
                regret = pd.Series(regret_per_replicate(scores.to_numpy(), chosen), scores.index)
                yield "", name, f"{arm.source}, n={panel.n:,}", regret


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
    table = usual(report.conditions)
    for panel in panels(report.conditions):
        rows = table[table["target"].isin(panel.targets) & (table["n_per_class"] == panel.n)]
        for arm in panel.arms:
            for updates in rows.loc[rows["source"] == arm.source, "updates"].unique():
                where = {"depth": "all", "updates": updates, **arm.where}
                yield panel.title, arm.name, updates, panel.ask("test_accuracy", **where)


def _rate_map(shares: pd.DataFrame) -> mpl.Figure:
    texts = shares.map(lambda share: f"{share:.0%}" if share > 0 else "")
    scale = {"cmap": "Blues", "vmin": 0, "vmax": 1}
    return heat(shares, texts, "learning rate", "trained layers", **scale)


@figure(
    "Which learning rates were chosen",
    "Share of trials that chose a learning rate by their validation images, by the number of trained "
    "layers. At the right: the share whose rate was the lowest or the highest that was tried, so that a "
    "better one may lie beyond; of a condition with more than a quarter of these no claim is judged.",
    _rate_map,
)
def learning_rates(report: Any) -> pd.DataFrame:
    frame = report.conditions.frame
    rows = frame[frame["usable"] & (frame["n_rates"] > 1)].drop_duplicates("trial")
    depths = rows["depth"].astype(int).astype(str).str.rjust(3)
    trained = depths.where(rows["source"] != SCRATCH, SCRATCH).rename("")
    rates = ((2 * np.log10(rows["lr"])).round() / 2).rename("")  # the grid's half decades
    shares = pd.crosstab(trained, rates, normalize="index")
    shares = shares.rename(columns=lambda step: f"{10**step:.1g}")
    edges = rows["lr_at_edge"].astype(float).groupby(trained).mean()
    return shares.assign(**{"at edge": edges}) if len(shares) else shares
