"""Figures that set things side by side: verdicts, ways of fine-tuning, shifts, transferred layers."""

from typing import Any

import numpy as np
from matplotlib import figure as mpl

from convtl.analysis.conditions import SCRATCH
from convtl.analysis.frame import axes_of
from convtl.reporting.figures.drawing import GREY, INK, Points, canvas, figure, line_figure, named
from convtl.reporting.figures.series import FINE_TUNE, panels, shift_names

Judged = list[tuple[Any, Any, Any]]
"""Verdict, one of its parts, and the same part under another seed (or None)."""
_SIGNS = {"supported": "✔", "contradicted": "✘", "below": "≈", "mixed": "±"}
_LINES = {"self": "the same classes", "own": "other classes"}


def _forest(judged: Judged) -> mpl.Figure:
    drawing, [axis] = canvas(1, 1, 0.3 * len(judged) + 0.6)
    names = []
    for place, (verdict, part, second) in enumerate(judged):
        margin, primary = verdict.claim.smallest_effect, verdict.claim.rank == "primary"
        band = [place - 0.5, place + 0.5]
        axis.fill_betweenx(band, -margin, margin, color="#DDDDDD", linewidth=0)
        looks = [(part, 0.0, "#0072B2" if primary else INK, None), (second, 0.28, GREY, "white")]
        for one, step, colour, inside in looks:
            if one is not None:
                bars = np.abs([[one.effect - one.interval.low], [one.interval.high - one.effect]])
                style: dict[str, Any] = {"fmt": "o", "capsize": 2, "ms": 5, "mfc": inside}
                axis.errorbar(one.effect, place + step, xerr=bars, color=colour, **style)
        name = verdict.name.replace("_", " ")
        name += f": {part.name}" if len(verdict.parts) > 1 else ""
        names.append(f"{name} {_SIGNS.get(verdict.verdict, '  ')}")
    axis.axvline(0, color=GREY, linewidth=1)
    named(axis.yaxis, range(len(judged)), names)
    axis.tick_params(axis="y", labelsize=10)
    axis.set_ylim(len(judged) - 0.4, -0.6)
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
def verdicts(report: Any) -> Judged:
    def parts_of(one: Any) -> list[tuple[Any, Any]]:
        return [(verdict, part) for verdict in one.verdicts or () for part in verdict.parts]

    again = parts_of(report.replication) if report.replication else []
    seconds = {(verdict.name, part.name): part for verdict, part in again}
    return [
        (verdict, part, seconds.get((verdict.name, part.name)))
        for verdict, part in parts_of(report)
        if verdict.claim.unit == "logit" and np.isfinite(part.effect)
    ]


@line_figure(
    "Ways of fine-tuning",
    "Accuracy of other ways of fine-tuning minus that of plain fine-tuning of all layers with as many "
    "updates, in logits and within replicates: right of the line a way is better.",
    x="against plain fine-tuning of all layers, logits",
    columns=3,
    across=True,
    zero=True,
)
def regimes(report: Any) -> Points:
    table = report.conditions.table()
    rivals = table[table["regime"].ne(FINE_TUNE) & shift_names(table).eq("")]
    for panel in panels(report.conditions):
        rows = rivals[rivals["n_per_class"].eq(panel.n) & rivals["target"].isin(panel.targets)]
        for arm in [arm for arm in panel.arms if arm.source in set(rows["source"])]:
            names = sorted(rows.loc[rows["source"] == arm.source, "regime"].unique())
            ways: dict[str, dict[str, Any]] = {
                name.replace("_", " "): {"regime": name} for name in names
            }
            ways |= {f"only the last {d}": {"depth": d} for d in panel.depths(arm)[:-1]}
            plain = panel.ask("logit_accuracy", depth="all", **arm.where)
            for name, place in ways.items():
                values = panel.ask("logit_accuracy", **arm.where, **place)
                yield f"{arm.name},\n{panel.title}", "", name, (values - plain).dropna()


@line_figure(
    "The same pictures, seen differently",
    "Test accuracy on pictures that are changed as the title says, by what is trained of a net that "
    "knows the same classes from unchanged pictures; and of a fresh net.",
    x="test accuracy",
    across=True,
    shares=True,
)
def shifts(report: Any) -> Points:
    table = report.conditions.table()
    names = shift_names(table)
    for shift in names[names != ""].unique():
        rows = table[names.eq(shift) & table["regime"].eq(FINE_TUNE)]
        for panel in panels(report.conditions, rows):
            for arm in [arm for arm in panel.arms if arm.is_domain]:
                ways: dict[str, Any] = {f"last {d}": {"depth": d} for d in panel.depths(arm)}
                ways["first alone"] = {"regime": "first_unit_only"}
                ways["fresh net"] = {"source": SCRATCH}
                for name, place in ways.items():
                    values = panel.ask("test_accuracy", **(arm.where | place))
                    yield shift, panel.title, name, values


@line_figure(
    "What layers carry",
    "Logit accuracy of nets whose lowest layers come from elsewhere and whose other layers start anew: "
    "from a net of other classes (AnB in Yosinski et al. 2014), of the same classes (BnB), or of random "
    "weights; then kept frozen or tuned. Where the same classes beat others, layers belong to their task. "
    "Grey band: all layers trained from scratch.",
    x="transferred layers, from the input",
    y="logit accuracy",
)
def layer_transfer(report: Any) -> Points:
    conditions = report.conditions
    table = conditions.table()
    rows = table["source"].ne(SCRATCH) & table.get("upper_init", table["source"]).eq("fresh")
    keys = ["target", "n_per_class", "model", "updates", *axes_of(conditions.frame)]
    for line in table[rows].to_dict("records"):
        place = {key: line[key] for key in keys}
        title = f"{line['target']}, {line['updates']:,.0f} updates"
        way = "tuned" if line["depth"] == line["n_units"] else "frozen"
        name = f"{_LINES.get(line['source'], line['source'])}, {way}"
        number = int(line.get("n_transferred") or line["n_units"] - line["depth"])
        trained = {key: line[key] for key in ("source", "regime", "depth")}
        yield title, name, number, conditions.values(**place, **trained)
        place = {key: place[key] for key in keys[:4]} | {"source": SCRATCH}
        if conditions.has(**place):
            yield title, SCRATCH, None, conditions.values(**place)
