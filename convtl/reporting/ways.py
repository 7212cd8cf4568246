"""Ways of fine-tuning side by side: what one regime reaches and costs where others trained on the same images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pandas as pd

from convtl.analysis.arms import SCRATCH, arm_names
from convtl.analysis.contrasts import PLAIN, SPECIAL
from convtl.analysis.principles import ALPHA
from convtl.analysis.statistics import estimate, max_t
from convtl.reporting import document, figures, numbers, way_plots
from convtl.reporting.tables import markdown
from convtl.reporting.view import main_rows, over_targets
from convtl.reporting.way_plots import Arm, Panel, Point

_NEUTRAL = ("False", "0", "0.0", "None", "nan", "")
_NO_TASK = ("self", "random")
"""Sources that are no task of their own; with weights that were shuffled or mean nothing (`X:...`), the controls."""
_NOT_OF_SCRATCH = ("axes.upper_init", "axes.n_transferred")
_WIDEST = 8
"""Columns of numbers that a table may have before every setting gets one of its own."""


@dataclass(frozen=True, eq=False)
class Place:
    """One source, setting of the additional axes, n and schedule that was trained under several regimes.

    Attributes:
      setting: the values that are not usual, in words; empty where the study has one setting.
      updates: the schedule, named only where there are several.
      accuracy, z, cost: by arm, one number a replicate: test accuracy, its logit, FLOPs of one fine-tuning.
      scratch: test accuracy of the fresh net, one number a replicate; empty if it was not run.
      reference: fine-tuning of all layers at one rate, if it was run.
      changes: by arm, z minus that of the reference, one number a replicate.
      adjusted: by arm, p of its change over all places of the source (step-down max-T).
    """

    source: str
    setting: str
    n: int
    updates: str
    accuracy: Mapping[Arm, pd.Series]
    cost: Mapping[Arm, pd.Series]
    scratch: pd.Series
    reference: Arm | None
    changes: Mapping[Arm, pd.Series]
    adjusted: Mapping[Arm, float]

    @property
    def title(self) -> str:
        return ", ".join(filter(None, [self.setting, f"n={self.n}", self.updates]))

    @property
    def best(self) -> Arm:
        return max(self.accuracy, key=lambda arm: float(self.accuracy[arm].mean()))

    def settled(self, arm: Arm) -> bool:
        return self.adjusted.get(arm, 1.0) <= ALPHA


# --- what is compared ---------------------------------------------------------------------------------


def compared(data: pd.DataFrame, targets: Sequence[str]) -> dict[str, list[Place]]:
    """Source (no control) -> its places that were trained under several regimes, settings as they appear.

    Args:
      data: of `convtl.analysis.arms.frame`.
      targets: the main ones; if none of them has rows, all that are there.
    """
    rows = main_rows(data[data["usable"].astype(bool)])
    named = [name for name in targets if name in set(rows["target"])]
    rows = rows[rows["target"].isin(named)] if named else rows
    rows = rows[~rows["target"].isin(SPECIAL)]
    if not len(rows):
        return {}
    rows = rows.assign(arm=arm_names)
    fresh, own = rows[rows["arm"] == SCRATCH], rows[rows["arm"] != SCRATCH]
    own = own[~own["arm"].str.contains(":") & ~own["arm"].isin(_NO_TASK)]
    columns = _telling(own)
    keyed = own.assign(**{name: own[name].astype(str) for name in columns})
    usual = {name: str(keyed[name].mode().iloc[0]) for name in columns if len(keyed)}
    schedules = keyed["updates"].nunique() > 1
    whole = rows.groupby("model")["depth"].max()
    found: dict[str, list[Place]] = {}
    for group, part in keyed.groupby(["arm", "n_per_class", "updates", *columns], sort=False):
        source, n, updates, *key = cast(tuple[str, float, float, str], group)
        content = dict(zip(columns, map(str, key), strict=True))
        full = int(whole[part["model"].iloc[0]])
        place = _place(source, int(n), part, _alike(fresh, content, n, updates), full)
        if place is not None:
            said = f"{int(updates):,} updates" if schedules else ""
            found.setdefault(place.source, []).append(
                replace(place, setting=setting_name(content, usual), updates=said)
            )
    return {source: _adjusted(_in_order(places)) for source, places in found.items()}


def _telling(own: pd.DataFrame) -> list[str]:
    """Columns of which some target has several values, so that rows may be compared inside one of them only."""
    known = ["model", *(str(name) for name in own if str(name).startswith("axes."))]
    return [
        name for name in known if own[name].astype(str).groupby(own["target"]).nunique().max() > 1
    ]


def setting_name(content: Mapping[str, str], usual: Mapping[str, str]) -> str:
    """`inversion`, `noise 0.3`; what is neutral is not said, of other axes what is commonest.

    Args:
      content: column -> value, of the columns that tell settings apart; none gives no name.
      usual: column -> the commonest value.
    """
    said = []
    for column, value in content.items():
        name = column.removeprefix("axes.").removeprefix("shift.").replace("_", " ")
        if column.startswith("axes.shift."):
            if value not in _NEUTRAL:
                said.append(name if value == "True" else f"{name} {_plain(value)}")
        elif value != usual[column]:
            said.append(f"{name} {_plain(value)}")
    if said or not content:
        return ", ".join(said)
    return "no shift" if all(column.startswith("axes.shift.") for column in content) else "as usual"


def _plain(value: str) -> str:
    try:
        return f"{float(value):g}"
    except ValueError:
        return value


def _alike(
    fresh: pd.DataFrame, content: Mapping[str, str], n: float, updates: float
) -> pd.DataFrame:
    rows = fresh[(fresh["n_per_class"] == n) & (fresh["updates"] == updates)]
    for name, value in content.items():
        if name not in _NOT_OF_SCRATCH:
            rows = rows[rows[name].astype(str) == value]
    return rows


def _place(source: str, n: int, part: pd.DataFrame, fresh: pd.DataFrame, full: int) -> Place | None:
    """None where no two regimes share their targets."""
    regimes = part.groupby("target")["regime"].nunique()
    targets = list(regimes.index[regimes > 1])
    part = part[part["target"].isin(targets)]
    rows = {}
    for group, own in part.groupby(["regime", "depth"]):
        regime, depth = cast(tuple[str, float], group)
        if set(own["target"]) == set(targets):
            rows[Arm(regime, int(depth), _units(own))] = own
    if len({arm.regime for arm in rows}) < 2:
        return None
    z = {arm: _numbers(own, "z") for arm, own in rows.items()}
    reference = next((arm for arm in rows if (arm.regime, arm.depth) == (PLAIN, full)), None)
    changes = {
        arm: over_targets((values - z[reference]).dropna())
        for arm, values in z.items()
        if reference is not None and arm != reference
    }
    costs = {
        arm: own.assign(flops=own["flops_per_update"] * own["updates"]) for arm, own in rows.items()
    }
    fresh = fresh[fresh["target"].isin(targets)]
    return Place(
        source,
        "",
        n,
        "",
        {arm: over_targets(_numbers(own, "test_accuracy")) for arm, own in rows.items()},
        {arm: over_targets(_numbers(own, "flops")) for arm, own in costs.items()},
        over_targets(_numbers(fresh, "test_accuracy"))
        if set(fresh["target"]) == set(targets)
        else pd.Series(dtype=float),
        reference,
        {arm: values for arm, values in changes.items() if len(values)},
        {},
    )


def _numbers(rows: pd.DataFrame, column: str) -> pd.Series:
    """(target, replicate) -> a number."""
    found = rows.astype({"replicate": int}).set_index(["target", "replicate"])[column].dropna()
    return found[~found.index.duplicated()]


def _units(rows: pd.DataFrame) -> str:
    """`conv1 to fc5`, `conv1+fc5`; the lowest unit where no more is known."""
    first = rows.iloc[0]
    units = [
        name for name in str(first.get("trained_units") or "").split("+") if name not in ("", "nan")
    ]
    apart = "+" in str(first["depth_unit"])
    if len(units) < 2 or apart:
        return units[0] if units and not apart else str(first["depth_unit"])
    return f"{units[0]} to {units[-1]}"


def _in_order(places: Iterable[Place]) -> list[Place]:
    places = list(places)
    settings = list(dict.fromkeys(place.setting for place in places))
    return sorted(places, key=lambda place: (settings.index(place.setting), place.updates, place.n))


def _adjusted(places: list[Place]) -> list[Place]:
    """With p values of every change, over all places at once."""
    values = pd.DataFrame(
        {
            (index, arm): own
            for index, place in enumerate(places)
            for arm, own in place.changes.items()
        }
    ).T
    if not values.size:
        return places
    ps = max_t(values.to_numpy(float))
    by_place: dict[int, dict[Arm, float]] = {}
    for (index, arm), p in zip(values.index, ps, strict=True):
        by_place.setdefault(index, {})[arm] = float(p)
    return [replace(place, adjusted=by_place.get(index, {})) for index, place in enumerate(places)]


# --- the section --------------------------------------------------------------------------------------


def section(out: Path, data: pd.DataFrame, targets: Sequence[str]) -> list[str]:
    """Markdown of the figure and the tables; writes `out/figures/ways.png`. Nothing for studies of one regime."""
    found = compared(data, targets)
    if not found:
        return []
    first = next(iter(found))
    text = ["## Ways of fine-tuning compared\n"]
    panels = [panel for place in found[first] if len((panel := _panel(place)).points) > 1]
    if panels:
        path = figures.save(way_plots.ways(panels), out / "figures" / "ways.png")
        what = f"Accuracy against the arithmetic of one fine-tuning, from {first}"
        text += document.picture(path.name, what, caption(found[first], len(found)), way_plots.READ)
    for source, places in found.items():
        text += _tables(source, places, 1 if panels and source == first else 0)
    return text


def _panel(place: Place) -> Panel:
    points = {
        arm: Point(float(place.cost[arm].mean()), values)
        for arm, values in place.accuracy.items()
        if len(values) and len(place.cost[arm]) and place.cost[arm].mean() > 0
    }
    return Panel(place.title, points, place.scratch)


def caption(places: Sequence[Place], sources: int) -> str:
    """Which arm is highest where, and how many arms differ from training everything at one rate."""
    by_arm: dict[str, list[str]] = {}
    for place in places:
        accuracy = numbers.percent(float(place.accuracy[place.best].mean()))
        by_arm.setdefault(place.best.name, []).append(f"{place.title}: {accuracy}")
    said = numbers.listed([f"{name} ({'; '.join(where)})" for name, where in by_arm.items()])
    text = f"Highest mean: {said}. {_difference(places)}"
    others = "; the others are in the tables only" if sources > 1 else ""
    text += f" The source is the first that was trained in several ways and is no control{others}."
    return text


def _difference(places: Sequence[Place]) -> str:
    changes = [(place, arm) for place in places for arm in place.changes]
    if not changes:
        return "All layers at one rate were not trained beside them, so there is nothing to test them against."
    settled = [float(place.changes[arm].mean()) for place, arm in changes if place.settled(arm)]
    above = sum(value > 0 for value in settled)
    return (
        f"Of {numbers.plural(len(changes), 'difference')} from {PLAIN} with all layers, {len(settled)} hold after "
        f"adjustment over the table: {above} above it, {len(settled) - above} below."
    )


def _tables(source: str, places: Sequence[Place], told: int) -> list[str]:
    settings = list(dict.fromkeys(place.setting for place in places))
    groups = (
        [places]
        if len(places) <= _WIDEST
        else [[p for p in places if p.setting == s] for s in settings]
    )
    summary = "" if told else f" {_difference(places)}"
    text = [
        f"**From {source}.** Mean test accuracy; difference in logit accuracy from {PLAIN} with all layers [sign-flip "
        f"interval], \\* adjusted p ≤ .05 over all differences from this source (step-down max-T).{summary}\n"
    ]
    return text + [table(group) for group in groups]


def table(places: Sequence[Place]) -> str:
    """A line an arm, a column a place."""
    arms = sorted({arm for place in places for arm in place.accuracy}, key=way_plots.arm_order)
    lines = [[arm.name, arm.units, *(_cell(place, arm) for place in places)] for arm in arms]
    return markdown(
        ["way, trained layers", "trained units", *(place.title for place in places)], lines
    )


def _cell(place: Place, arm: Arm) -> str:
    values = place.accuracy.get(arm, pd.Series(dtype=float))
    if not len(values):
        return "–"
    accuracy = numbers.percent(float(values.mean()))
    if arm not in place.changes:
        return accuracy
    sign = " \\*" if place.settled(arm) else ""
    return f"{accuracy}; {numbers.contrast(estimate(place.changes[arm]))}{sign}"
