"""Conditions that figures show, with numbers by replicate, over targets."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from convtl.analysis.conditions import DIFFERENCES, SCRATCH, Conditions, MissingCondition
from convtl.analysis.contrasts import MOST_AT_EDGE
from convtl.analysis.frame import axes_of, axis_text
from convtl.config.domains import MadeConfig

FINE_TUNE = "fine_tune"


@dataclass(frozen=True)
class Arm:
    """A source, and of a mixture its share of near classes."""

    source: str
    similarity: float | None = None

    @property
    def where(self) -> dict[str, Any]:
        """Its coordinates in `Conditions`."""
        share = {} if self.similarity is None else {"similarity": self.similarity}
        return {"source": self.source} | share

    @property
    def name(self) -> str:
        """Name in legends: `scratch`, `from latin`, `from mixture 0.5`."""
        share = "" if self.similarity is None else f" {self.similarity:g}"
        return SCRATCH if self.source == SCRATCH else f"from {self.source}{share}"

    @property
    def is_domain(self) -> bool:
        """Return whether it is one domain: no mixture, no fresh net, no control."""
        fresh = self.source in (SCRATCH, "random", "self")
        return self.similarity is None and ":" not in self.source and not fresh


@dataclass(frozen=True, eq=False)
class Panel:
    """Conditions that may be compared: they share all but source and depth.

    Attributes:
      targets: over which means are taken; is_main: whether they are the study's main ones.
      where: the coordinates that all of `table` share, n among them.
    """

    conditions: Conditions
    targets: tuple[str, ...]
    is_main: bool
    table: pd.DataFrame
    where: Mapping[str, Any]

    @property
    def n(self) -> int:
        return int(self.where["n_per_class"])

    @property
    def title(self) -> str:
        images = f"{self.n:,} image{'s' if self.n != 1 else ''} a class"
        return images if self.is_main else f"{self.targets[0]}, {images}"

    @property
    def arms(self) -> list[Arm]:
        """Sources in the study's order, a mixture's shares one by one."""
        pairs = self.table[["source", "similarity"]].drop_duplicates().itertuples(index=False)
        arms = [Arm(str(name), None if pd.isna(share) else float(share)) for name, share in pairs]
        order = self.conditions.sources
        return sorted(arms, key=lambda arm: (order.index(arm.source), arm.similarity or 0.0))

    @property
    def units(self) -> dict[int, str]:
        """Depth -> the lowest trained unit."""
        return dict(
            self.table[["depth", "depth_unit"]].sort_values("depth").itertuples(index=False)
        )

    def depths(self, arm: Arm) -> list[int]:
        """Depths at which a source was tuned."""
        return sorted(set(self.table.loc[self.table["source"] == arm.source, "depth"].astype(int)))

    def ask(self, measure: str, **where: Any) -> pd.Series:
        """Mean over targets by replicate; empty if a target lacks the condition.

        Args:
          measure: one of `DIFFERENCES`, or a column.
        """
        column = "logit_accuracy" if measure in DIFFERENCES else measure
        places = [{**self.where, "target": target, **where} for target in self.targets]
        try:
            columns = [self.conditions.measured(measure, column, **place) for place in places]
        except MissingCondition:
            return pd.Series(dtype=float)
        return pd.concat(columns, axis=1).dropna().mean(axis=1)

    def ask_marked(self, column: str, **where: Any) -> pd.Series:
        """`ask`, with `attrs["unfit"]`: at floor, ceiling or edge for some target."""
        values = self.ask(column, **where)
        for target in self.targets if len(values) else ():
            line = self.conditions.summary(**{**self.where, "target": target, **where})
            if line["flaw"] or line["at_edge"] > MOST_AT_EDGE:
                values.attrs["unfit"] = True
        return values


def shift_names(table: pd.DataFrame) -> pd.Series:
    """Name the change of pictures in each condition; empty if unchanged."""
    names = [shift_name(line) for line in table.filter(like="shift.").to_dict("records")]
    return pd.Series(names or "", table.index, dtype=object)


def shift_name(axes: Mapping[Any, Any]) -> str:
    """Name a change of pictures from `shift.` axes: `inversion`, `noise 0.3`."""
    changes = {key: axis_text(value) for key, value in axes.items() if key.startswith("shift.")}
    return ", ".join(
        f"{key} {text}".removeprefix("shift.").removesuffix(" True")
        for key, text in changes.items()
        if text not in ("", "0", "0.0", "False")
    )


def panels(conditions: Conditions, table: pd.DataFrame | None = None) -> list[Panel]:
    """Return a panel for each n of the main targets, and then of every other target.

    Args:
      table: the conditions to be shown; by default plain fine-tuning, targets unchanged, upper layers transferred.
    """
    if table is None:
        table = conditions.table()
        table = table[(table["regime"] == FINE_TUNE) & (shift_names(table) == "")]
        # what has figures of its own, or none
        for key, value in {"upper_init": "fresh", "axes.validation": "within"}.items():
            table = table[table[key] != value] if key in table else table
    main = tuple(conditions.targets)
    others = dict.fromkeys(table.loc[~table["target"].isin(main), "target"])
    chosen = []
    for targets in (main, *((name,) for name in others)):
        for n, rows in table[table["target"].isin(targets)].groupby("n_per_class"):
            where = {"regime": FINE_TUNE, "n_per_class": n}
            for key in ("model", "updates", *axes_of(conditions.frame)):
                where[key] = rows[key].mode()[0]  # the setting that most conditions have
                rows = rows[rows[key] == where[key]]
            chosen.append(Panel(conditions, targets, targets == main, rows, where))
    return chosen


def richest(conditions: Conditions) -> Panel:
    """Return the main targets' panel with most sources; an empty one without any."""
    empty = Panel(conditions, (), True, conditions.table()[:0], {"n_per_class": 0})
    main = [panel for panel in panels(conditions) if panel.is_main]
    return max(main, key=lambda panel: len(panel.arms), default=empty)


def near_to_far(arms: Sequence[Arm], conditions: Conditions) -> list[Arm] | None:
    """Sort sources by measured distance from the targets; None if one has none."""
    means = conditions.frame.groupby("source")["mmd2"].mean()
    known = means.reindex([arm.source for arm in arms]).notna().all()
    return sorted(arms, key=lambda arm: float(means[arm.source])) if known else None


def noise_levels(report: Any) -> dict[Arm, float]:
    """Return three or more sources that differ in noise only, with their noise."""
    families: dict[MadeConfig, dict[Arm, float]] = {}
    for source in report.conditions.sources:
        domain = report.config.domains.get(source)
        if isinstance(domain, MadeConfig):
            clean = replace(domain, jitter=replace(domain.jitter, noise=0.0))
            families.setdefault(clean, {})[Arm(source)] = domain.jitter.noise
    return max((f for f in families.values() if len(f) > 2), key=len, default={})


def domains(report: Any, panel: Panel) -> list[Arm]:
    """Return sources that are domains; the first of those that differ in noise only."""
    first, *others = noise_levels(report) or [None]
    dropped = others if first in panel.arms else []
    return [arm for arm in panel.arms if arm.is_domain and arm not in dropped]


def moves(conditions: Conditions) -> pd.DataFrame:
    """Movement of units where all were tuned, on most images of the first target."""
    frame = conditions.frame
    rows = frame[frame["moved"].ne("") & frame["depth"].eq(frame["n_units"])]
    rows = rows[rows["target"] == conditions.targets[0]]
    rows = rows[rows["n_per_class"] == rows["n_per_class"].max()]
    rows = rows[rows["updates"] == rows["updates"].min()]
    lines = [
        (row.trial, row.source, row.replicate, unit, *moved[unit])
        for row, moved in zip(rows.itertuples(), rows["moved"].map(json.loads), strict=True)
        for unit in row.trained_units.split("+")
        if unit in moved
    ]
    names = ["trial", "source", "replicate", "unit", "displacement", "cka"]
    return pd.DataFrame(lines, columns=names).astype({"displacement": float, "cka": float})
