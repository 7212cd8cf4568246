"""Facts of a report: numbers and flags from conditions, worded by templates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, Literal

import pandas as pd

from convtl.analysis.conditions import SCRATCH, Conditions, MissingCondition
from convtl.analysis.contrasts import MOST_AT_EDGE, described
from convtl.analysis.frame import axes_of
from convtl.analysis.statistics import (
    EPSILON,
    Estimate,
    depth_distribution,
    equivalent,
    estimate,
    max_t,
    sufficient_depth,
)

UNMATCHED = 0.05
"""Difference of the sources' own accuracies above which they are unmatched."""
_SETTING = ("target", "model", "regime", "updates", "config")


@dataclass
class Difference:
    """Difference of two conditions within replicates, in logits and in accuracy.

    Attributes:
      share: of accuracies; small: whether a 90% interval lies within `EPSILON`.
      speed: whether it is a gain over scratch that longer training might narrow.
      adjusted: p over all differences of an answer (step-down max-T), once these are known.
    """

    values: pd.Series
    logits: Estimate
    share: Estimate
    small: bool
    speed: bool = False
    adjusted: float = float("nan")

    @property
    def outcome(self) -> Literal["small", "more", "less", "open", "untested"]:
        if self.small:
            return "small"
        if self.adjusted <= 0.05:
            return "more" if self.logits.effect > 0 else "less"
        return "open" if self.adjusted > 0.05 else "untested"

    @property
    def marks(self) -> list[str]:
        """What is printed behind it: `small` or `open`, and `speed`."""
        return [self.outcome] * (self.outcome in ("small", "open")) + ["speed"] * self.speed


@dataclass(frozen=True)
class Line:
    """Results of one source with one number of labels, in means over replicates.

    Attributes:
      distribution: depth -> share of bootstrap draws in which it suffices.
      suffices: the smallest depth within `EPSILON` of the best; enough: its accuracy.
      chosen: accuracy where each replicate chooses its depth by validation accuracy.
      benefit: all layers against the last; gain: transfer, depth chosen by validation, against scratch.
      flaw: floor or ceiling of both the last layer alone and all layers.
      at_edge: whether the rates of a depth, or of scratch, are too often at the edge of those tried.
    """

    source: str
    n: int
    m: int
    distribution: Mapping[int, float]
    suffices: int
    enough: float
    chosen: float
    scratch: float | None
    benefit: Difference | None
    gain: Difference | None
    flaw: str | None
    at_edge: bool

    @property
    def is_control(self) -> bool:
        """Return whether it is of a control (`latin:shuffled`) or mixture (`mixture@0.5`)."""
        return bool({":", "@"} & set(self.source))


@dataclass(frozen=True)
class Answer:
    """Layers that suffice for one target, of one model, regime and schedule."""

    target: str
    lines: Sequence[Line]

    @property
    def sound(self) -> list[Line]:
        """Lines that are neither at floor nor at ceiling."""
        return [line for line in self.lines if not line.flaw]

    @cached_property
    def spoken(self) -> list[str]:
        """Sources named in sentences: the best and worst of those with several sizes."""
        means: dict[str, dict[int, float]] = {}
        for line in self.sound:
            if not line.is_control:
                means.setdefault(line.source, {})[line.n] = line.chosen
        table = pd.DataFrame(means)  # sizes x sources
        table = table.loc[:, table.count() >= min(2, len(table))]
        if table.empty:
            return []
        compared = table.iloc[int(table.count(axis=1).argmax())].dropna()
        return list(dict.fromkeys([str(compared.idxmax()), str(compared.idxmin())]))

    def of(self, source: str) -> list[Line]:
        """The sound lines of one source."""
        return [line for line in self.sound if line.source == source]

    def runs(self, source: str) -> list[tuple[int, list[Line]]]:
        """(depth that suffices, lines) of a source, neighbouring sizes together."""
        return [
            (k, list(lines)) for k, lines in groupby(self.of(source), lambda line: line.suffices)
        ]


def answers(conditions: Conditions) -> list[Answer]:
    """Answer for each main target, in the setting that most of its trials have."""
    rows = conditions.frame[
        conditions.frame["usable"] & ~conditions.frame["source"].isin((SCRATCH, "random"))
    ]
    keys = [*_SETTING, *axes_of(rows)]
    results = []
    for target in conditions.targets:
        sizes = rows[rows["target"] == target].groupby(keys, sort=False).size()
        if not len(sizes):
            continue
        setting = dict(zip(keys, list(sizes.index)[int(sizes.argmax())], strict=True))
        alike = rows[(rows[keys] == pd.Series(setting)).all(axis=1)]
        arms = alike[["source", "similarity", "n_per_class"]].drop_duplicates()
        order = sorted(
            arms.itertuples(index=False, name=None),
            key=lambda arm: (conditions.sources.index(arm[0]), arm[2]),
        )
        lines = [_line(conditions, setting, *arm) for arm in order]
        if sound := [line for line in lines if line is not None]:
            _adjust(sound)
            results.append(Answer(target, sound))
    return results


def _line(
    conditions: Conditions, setting: Mapping[str, Any], source: str, share: float, n: int
) -> Line | None:
    """Make the line of an arm; None if fewer than two depths have most replicates."""
    where = {**setting, "source": source, "n_per_class": int(n)}
    if not pd.isna(share):
        where["similarity"] = share
    depths = [depth for depth in conditions.depths if conditions.has(depth=depth, **where)]
    counts = {depth: len(conditions.values(depth=depth, **where)) for depth in depths}
    depths = [depth for depth in depths if counts[depth] == max(counts.values())]
    z, accuracy = (
        pd.DataFrame(
            {depth: conditions.values(column, depth=depth, **where) for depth in depths}
        ).dropna()
        for column in ("logit_accuracy", "test_accuracy")
    )
    if len(depths) < 2 or z.empty:
        return None
    first, last = depths[0], depths[-1]
    chosen, chosen_share = (
        conditions.measured("chosen_depth", column, depths=depths, **where)
        for column in ("logit_accuracy", "test_accuracy")
    )
    suffices = depths[int(sufficient_depth(z.mean().to_numpy()))]
    usual = {key: where[key] for key in ("target", "n_per_class", "model", "updates")}
    fresh = [{**each, "source": SCRATCH} for each in (where, usual)]  # axes may concern it, or not
    fresh = [place for place in fresh if conditions.has(**place)]
    fresh_z, fresh_accuracy = (
        conditions.values(column, **fresh[0]) if fresh else pd.Series(dtype=float)
        for column in ("logit_accuracy", "test_accuracy")
    )
    places = [*fresh[:1], *({**where, "depth": depth} for depth in depths)]
    cells = [conditions.summary(**place) for place in places]
    gain = _difference(chosen - fresh_z, chosen_share - fresh_accuracy)
    if gain:
        gain.speed = gain.logits.effect > 0 and _is_speed(conditions, fresh[0])
    return Line(
        source=source if pd.isna(share) else f"{source}@{share:g}",
        n=where["n_per_class"],
        m=len(z),
        distribution=dict(zip(depths, map(float, depth_distribution(z.to_numpy())), strict=True)),
        suffices=suffices,
        enough=float(accuracy[suffices].mean()),
        chosen=float(chosen_share.mean()),
        scratch=float(fresh_accuracy.mean()) if fresh else None,
        benefit=_difference(z[last] - z[first], accuracy[last] - accuracy[first]),
        gain=gain,
        flaw=cells[-1]["flaw"] if cells[-1]["flaw"] and cells[-len(depths)]["flaw"] else None,
        at_edge=any(cell["at_edge"] > MOST_AT_EDGE for cell in cells),
    )


def _difference(values: pd.Series, share: pd.Series) -> Difference | None:
    values, share = values.dropna(), share.dropna()
    if values.empty:
        return None
    small = equivalent(values.to_numpy(), EPSILON)
    return Difference(values, estimate(values.to_numpy()), estimate(share.to_numpy()), small)


def _is_speed(conditions: Conditions, place: Mapping[str, Any]) -> bool:
    """Return whether scratch is not known to be flat on the schedule of a place."""
    try:
        others = {key: value for key, value in place.items() if key != "config"}
        updates, is_flat = conditions.scratch_flat(**others)
    except MissingCondition:  # schedules that differ in more than updates
        return True
    return not is_flat or place["updates"] < updates


def _adjust(lines: Sequence[Line]) -> None:
    """Adjust the p of all differences together, but for those at floor or at ceiling."""
    pairs = [(line.benefit, line.gain) for line in lines if not line.flaw]
    known = [difference for pair in pairs for difference in pair if difference is not None]
    table = pd.DataFrame([difference.values.rename(i) for i, difference in enumerate(known)])
    for difference, p in zip(known, max_t(table.to_numpy(float)) if known else (), strict=True):
        difference.adjusted = float(p)


# --- limits -------------------------------------------------------------------------------------------


def limits(conditions: Conditions) -> dict[str, Any]:
    """Numbers, flags and names on the limits of a study's conclusions."""
    frame, table = conditions.frame, conditions.table()
    rows = frame[frame["usable"]].sort_values("similarity", kind="stable", na_position="first")
    within = rows["validation"].eq("within")
    others = rows if within.all() else rows[~within]
    labels = (others["n_val"] / others["n_classes"]).groupby(others["n_per_class"]).median()
    flawed, edges = table[table["flaw"] != ""], table[table["at_edge"] > MOST_AT_EDGE]
    usual = {axis: conditions.usual.get(axis) for axis in axes_of(frame)}
    names = flawed["source"] + ", n=" + flawed["n_per_class"].astype(str) + ", " + flawed["target"]
    shares = rows["similarity"].map("@{:g}".format, na_action="ignore").astype(object).fillna("")
    by_source = rows.groupby(rows["source"] + shares, sort=False)
    sources = by_source["source_accuracy"].mean().dropna()
    return {
        "targets": list(rows["target"].unique()),
        "models": list(rows["model"].unique()),
        "schedules": sorted(map(int, rows["updates"].unique())),
        "m": int(rows["replicate"].nunique()),
        "validation": list(zip(labels.index.astype(int).tolist(), labels.tolist(), strict=True)),
        "budgeted": bool((rows["validation"] == "within").any()),
        "conditions": len(table),
        "edges": int(rows["lr_at_edge"].sum()),
        "edge_conditions": len(edges),
        "edge_names": [described(line, usual) for line in edges[:8].to_dict("records")],
        "excluded": len(flawed),
        "floor": list(names[flawed["flaw"] == "floor"].unique()),
        "ceiling": list(names[flawed["flaw"] == "ceiling"].unique()),
        "sources": sources.to_dict(),
        "unmatched": bool(len(sources)) and float(sources.max() - sources.min()) > UNMATCHED,
        "statuses": frame.loc[frame["status"] != "done", "status"].value_counts().to_dict(),
        "moved": int(frame["frozen_ok"].eq(False).sum()),
    }
