"""Figures that set things side by side: verdicts, ways of fine-tuning, shifts, transferred layers."""

from functools import partial
from typing import Any

import numpy as np
from matplotlib import figure as mpl

from convtl.analysis.conditions import SCRATCH
from convtl.analysis.frame import axes_of
from convtl.reporting.figures.drawing import (
    GREY,
    INK,
    INTERVALS,
    Parts,
    canvas,
    figure,
    lines,
    named,
)
from convtl.reporting.figures.series import FINE_TUNE, panels, shift_names

Table = dict[str, dict[str, dict[Any, Any]]]
_SIGNS = {"supported": "✔", "contradicted": "✘", "below": "≈", "mixed": "±"}
_LINES = {"self": "the same classes", "own": "other classes"}


def _forest(pairs: list[tuple[Any, Any, Any]]) -> mpl.Figure:
    """A line for each part of a claim, its effect with its interval, and that of another seed."""
    drawing, [axis] = canvas(1, 1, 0.3 * len(pairs) + 0.6)
    names = []
    for place, (verdict, part, second) in enumerate(pairs):
        margin = verdict.claim.smallest_effect
        axis.fill_betweenx(
            [place - 0.5, place + 0.5], -margin, margin, color="#DDDDDD", linewidth=0
        )
        colour = "#0072B2" if verdict.claim.rank == "primary" else INK
        looks = [(part, place, {"color": colour, "marker": "o"})]
        looks += [(second, place + 0.28, {"color": GREY, "marker": "o", "mfc": "white"})] * (
            second is not None
        )
        for one, height, look in looks:
            bars = np.abs([[one.effect - one.interval.low], [one.interval.high - one.effect]])
            axis.errorbar(one.effect, height, xerr=bars, capsize=2, markersize=5, **look)
        name = verdict.name.replace("_", " ")
        name += f": {part.name}" if len(verdict.parts) > 1 else ""
        names.append(f"{name} {_SIGNS.get(verdict.verdict, '  ')}")
    axis.axvline(0, color=GREY, linewidth=1)
    named(axis.yaxis, range(len(pairs)), names)
    axis.tick_params(axis="y", labelsize=10)
    axis.set_ylim(len(pairs) - 0.4, -0.6)
    axis.set_xlabel("effect, logits")
    return drawing


@figure(
    "All claims",
    _forest,
    "Every part of every claim in logits: its effect with the 95% interval, blue if the claim is a "
    "primary one. Inside the grey band an effect is smaller than what the claim calls of interest. "
    "✔ supported, ✘ contradicted, ≈ too small to matter, ± its parts disagree; no sign: inconclusive, or "
    "not judged.{% if report.replication %} Hollow: the same study under another seed.{% endif %}",
)
def verdicts(report: Any) -> list[tuple[Any, Any, Any]]:
    def parts_of(one: Any) -> list[tuple[Any, Any]]:
        return [(verdict, part) for verdict in one.verdicts or () for part in verdict.parts]

    again = parts_of(report.replication) if report.replication else []
    seconds = {(verdict.name, part.name): part for verdict, part in again}
    return [
        (verdict, part, seconds.get((verdict.name, part.name)))
        for verdict, part in parts_of(report)
        if verdict.claim.unit == "logit" and np.isfinite(part.effect)
    ]


@figure(
    "Ways of fine-tuning",
    partial(
        lines,
        x="against plain fine-tuning of all layers, logits",
        columns=3,
        across=True,
        zero=True,
    ),
    "Accuracy of other ways of fine-tuning minus that of plain fine-tuning of all layers with as many "
    "updates, in logits and within replicates: right of the line a way is better. " + INTERVALS,
)
def regimes(report: Any) -> Parts:
    conditions, parts = report.conditions, {}
    table = conditions.table()
    rivals = table[(table["regime"] != FINE_TUNE) & (shift_names(table) == "")]
    for panel in panels(conditions):
        there = rivals[(rivals["n_per_class"] == panel.n) & rivals["target"].isin(panel.targets)]
        for arm in panel.arms:
            names = sorted(set(there.loc[there["source"] == arm.source, "regime"]))
            plain = panel.ask("logit_accuracy", depth="all", **arm.where)
            places: dict[str, dict[str, Any]] = {
                **{name.replace("_", " "): {"regime": name} for name in names},
                **{f"only the last {depth}": {"depth": depth} for depth in panel.depths(arm)[:-1]},
            }
            line = {
                name: (panel.ask("logit_accuracy", **arm.where, **place) - plain).dropna()
                for name, place in places.items()
            }
            if names and len(plain):
                parts[f"{arm.name},\n{panel.title}"] = {"": line}
    return parts


@figure(
    "The same pictures, seen differently",
    partial(lines, x="test accuracy", across=True, shares=True),
    "Test accuracy on pictures that are changed as the title says, by what is trained of a net that "
    "knows the same classes from unchanged pictures; and of a fresh net. " + INTERVALS,
)
def shifts(report: Any) -> Parts:
    parts: Table = {}
    table = report.conditions.table()
    table = table.assign(shift=shift_names(table))
    plain = table[table["shift"].ne("") & table["regime"].eq(FINE_TUNE)]
    for shift, shown in plain.groupby("shift", sort=False):
        for panel in panels(report.conditions, shown.drop(columns="shift")):
            for arm in [arm for arm in panel.arms if arm.is_domain]:
                places: dict[str, Any] = {f"last {d}": {"depth": d} for d in panel.depths(arm)}
                places["first alone"] = {"regime": "first_unit_only"}
                places["fresh net"] = {"source": SCRATCH}
                line = {
                    name: panel.ask("test_accuracy", **(arm.where | place))
                    for name, place in places.items()
                }
                parts.setdefault(str(shift), {})[panel.title] = line
    return parts


@figure(
    "What layers carry",
    partial(lines, x="transferred layers, from the input", y="logit accuracy"),
    "Logit accuracy of nets whose lowest layers come from elsewhere and whose other layers start anew: "
    "from a net of other classes (AnB in Yosinski et al. 2014), of the same classes (BnB), or of random "
    "weights; then kept frozen or tuned. Where the same classes beat others, layers belong to their task. "
    "Band: all layers trained from scratch. " + INTERVALS,
)
def layer_transfer(report: Any) -> Parts:
    conditions, parts = report.conditions, {}
    table = conditions.table()
    if "upper_init" not in table:
        return {}
    table = table[table["source"].ne(SCRATCH) & table["upper_init"].eq("fresh")]
    keys = ["source", "target", "n_per_class", "model", "regime", "updates", "depth"]
    for line in table.to_dict("records"):
        place = {key: line[key] for key in (*keys, *axes_of(conditions.frame))}
        number = int(line.get("n_transferred") or line["n_units"] - line["depth"])
        way = "tuned" if line["depth"] == line["n_units"] else "frozen"
        name = f"{_LINES.get(line['source'], line['source'])}, {way}"
        title = f"{line['target']}, {line['updates']:,.0f} updates"
        parts.setdefault(title, {}).setdefault(name, {})[number] = conditions.values(**place)
        place = {key: place[key] for key in keys[1:-1]} | {"source": SCRATCH}
        if conditions.has(**place):
            parts[title][SCRATCH] = conditions.values(**place)
    return parts
