"""Figures of verdicts, ways of fine-tuning, shifts of pictures, and single layers."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from convtl.analysis.conditions import SCRATCH
from convtl.analysis.frame import axes_of
from convtl.analysis.gradients import arrivals, freezing_cost, relative_gradients
from convtl.analysis.statistics import EPSILON
from convtl.reporting.figures.drawing import NETS, Points, figure, lines
from convtl.reporting.figures.series import FINE_TUNE, moves, panels, shift_names

_SIGNS = {"supported": "✔", "contradicted": "✘", "below": "≈", "mixed": "±"}
_LINES = {"self": "the same classes", "own": "other classes"}


@figure(
    "All claims",
    "Every part of every claim in logits. Inside the grey band an effect is under 0.2 logit, the usual "
    "smallest effect of interest. (P): primary; ✔ supported, ✘ contradicted, ≈ too small to matter, "
    "± its parts disagree; no sign: inconclusive, or not judged.",
    partial(lines, x="effect, logits", across=True, zero=True, band=EPSILON),
)
def verdicts(report: Any) -> Points:
    names: dict[tuple[str, str], str] = {}
    for verdict in report.verdicts:
        for part in verdict.parts if verdict.claim.unit == "logit" else ():
            name = verdict.name.replace("_", " ")
            name += " (P)" if verdict.claim.rank == "primary" else ""
            name += f":\n{part.name}" if len(verdict.parts) > 1 else ""
            names[verdict.name, part.name] = f"{name} {_SIGNS.get(verdict.verdict, '  ')}"
    for seed, one in (("", report), ("another seed", report.replication)):
        for verdict in one.verdicts if one else ():
            for part in verdict.parts:
                if (verdict.name, part.name) in names:
                    yield "", seed, names[verdict.name, part.name], pd.Series(part.values)


@figure(
    "Ways of fine-tuning",
    "Accuracy of other ways of fine-tuning minus that of plain fine-tuning of all layers with as many "
    "updates, in logits and within replicates: right of the line a way is better.",
    partial(lines, x="against plain fine-tuning, logits", columns=3, across=True, zero=True),
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


@figure(
    "The same pictures, seen differently",
    "Test accuracy on pictures that are changed as the title says, by what is trained of a net that "
    "knows the same classes from unchanged pictures; and of a fresh net.",
    partial(lines, x="test accuracy", across=True, shares=True),
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


@figure(
    "What layers carry",
    "Logit accuracy of nets whose lowest layers come from elsewhere and whose other layers start anew: "
    "from a net of other classes (AnB in Yosinski et al. 2014), of the same classes (BnB), or of random "
    "weights; then kept frozen or tuned. Where the same classes beat others, layers belong to their task. "
    "Grey band: all layers trained from scratch.",
    partial(lines, x="transferred layers, from the input", y="logit accuracy"),
)
def layer_transfer(report: Any) -> Points:
    conditions = report.conditions
    table = conditions.table()
    rows = table["source"].ne(SCRATCH) & table.get("upper_init", table["source"]).eq("fresh")
    keys = ["target", "n_per_class", "model", "updates", *axes_of(conditions.frame)]
    for line in table[rows].to_dict("records"):
        place = {key: line[key] for key in keys}
        title = f"{line['target']}, n={line['n_per_class']}, {line['updates']:,} updates"
        way = "tuned" if line["depth"] == line["n_units"] else "frozen"
        name = f"{_LINES.get(line['source'], line['source'])}, {way}"
        number = int(line.get("n_transferred") or line["n_units"] - line["depth"])
        trained = {key: line[key] for key in ("source", "regime", "depth")}
        yield title, name, number, conditions.values(**place, **trained)
        place = {key: place[key] for key in keys[:4]} | {"source": SCRATCH}
        if conditions.has(**place):
            yield title, SCRATCH, None, conditions.values(**place)


def _probed(report: Any, probe: str, *keys: str) -> list[tuple[Any, ...]]:
    """The combinations of some columns in which fresh nets were probed."""
    frame = report.conditions.gradients
    if frame is None:
        return []
    rows = frame.loc[frame["probe"] == probe, list(keys)].dropna().drop_duplicates()
    return list(rows.sort_values(list(keys), kind="stable").itertuples(index=False, name=None))


def _by_unit(report: Any, table: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """Names of LeNet-5's units, with one number a replicate."""
    frame = report.conditions.gradients
    rows = frame[(frame["model"] == "lenet5") & frame["unit"].notna()]
    units: dict[Any, str] = dict(zip(rows["position"], rows["unit"], strict=True))
    for place, values in table.items():
        yield units[place], values.dropna()


@figure(
    "Gradients by layer",
    "How large the gradient is at each layer of plain fully connected chains of middle length, against "
    "their last hidden layer, in powers of ten: at −2 a layer gets a hundredth. Lines are ways of setting "
    "first weights.",
    partial(lines, x="hidden layer, from the input", y="gradient, powers of ten", columns=3),
    explained=NETS,
)
def gradient_profile(report: Any) -> Points:
    nets = _probed(report, "profile", "hidden", "update", "activation", "initialiser")
    lengths, moments = (sorted({net[place] for net in nets}) for place in (0, 1))
    for hidden, update, activation, initialiser in nets:
        if hidden == lengths[len(lengths) // 2] and update in (moments[0], moments[-1]):
            frame = report.conditions.gradients
            table = relative_gradients(frame, activation, initialiser, int(hidden), update)
            for place, values in table.dropna().items():
                yield f"{activation}, update {update:,.0f}", initialiser, place, values


@figure(
    "When layers settle",
    "The update of training, as a power of ten, by which the outputs of a layer are 90% of the way to "
    "what they become (linear CKA); of nets that learned. A layer cannot settle before those below it, so "
    "an order from below is built into this measure.",
    partial(lines, x="layer, from the input", y="settled at update, power of ten", columns=3),
    explained=NETS,
)
def convergence(report: Any) -> Points:
    for optimiser, activation in _probed(report, "convergence", "optimiser", "activation"):
        table = arrivals(report.conditions.gradients, activation, optimiser)
        table = table.loc[:, table.notna().mean() >= 0.5].map(np.log10)
        for unit, values in _by_unit(report, table):
            yield f"{activation}, {optimiser}", "", unit, values


@figure(
    "What freezing one layer costs",
    "How much test accuracy, in logits, a net loses when one of its layers is left as it is from some "
    "update on, all others being trained. Higher: this layer still had more to learn.",
    partial(lines, x="layer, from the input", y="cost, logits", columns=3, zero=True),
    explained=NETS,
)
def freezing_costs(report: Any) -> Points:
    keys = ("optimiser", "activation", "update", "unit")
    for optimiser, activation, update in {k[:3]: 0 for k in _probed(report, "freezing", *keys)}:
        table = freezing_cost(report.conditions.gradients, activation, optimiser, update)
        for unit, values in _by_unit(report, table):
            yield f"{activation}, {optimiser}", f"from update {update:,.0f}", unit, values


@figure(
    "How far layers move",
    "How far each layer moved when all layers were tuned: the change of its weights, as a share of their "
    "size before; and how alike its outputs are before and after (linear CKA; 1: the same up to a "
    "rotation).",
    partial(lines, x="layer, from the input", one_scale=False),
    explained=NETS,
)
def movement(report: Any) -> Points:
    titles = {"displacement": "change of weights", "cka": "outputs before and after"}
    table = moves(report.conditions)
    for column, title in titles.items():
        for (source, unit), rows in table.groupby(["source", "unit"], sort=False):
            values = rows.set_index("replicate")[column].dropna()
            yield title, str(source), unit, values
