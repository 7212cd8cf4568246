"""What layers carry (Yosinski et al. 2014): nets whose lowest units come from another task, or from their own."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd

from convtl.analysis.arms import SCRATCH, arm_names
from convtl.reporting import numbers
from convtl.reporting.figures import (
    GREY,
    Axes,
    Figure,
    canvas,
    drawable,
    legend,
    styled,
    whole_axis,
)
from convtl.reporting.plots import line, shifts

_LOOKS = {
    "AnB": ("#0072B2", "o"),
    "AnB+": ("#56B4E9", "D"),
    "BnB": ("#D55E00", "s"),
    "BnB+": ("#E69F00", "^"),
    "random, frozen": ("#5D6D1E", "v"),
}
_DARK = ("#222222", "#8A8A8A", "#7B4B2A", "#0072B2")
_MORE = ("#CC79A7", "#7F3C8D", "#009E73")


@dataclass(frozen=True)
class Split:
    """One target whose lowest units come from elsewhere: rows of one schedule and number of labels.

    Attributes:
      rows: of nets whose other units started anew; base: of scratch (may be empty).
    """

    target: str
    n: int
    updates: int
    rows: pd.DataFrame
    base: pd.DataFrame
    full: int

    @property
    def title(self) -> str:
        return f"{self.target}, {self.updates:,} updates"

    @property
    def other(self) -> str:
        """What the other task, A, is."""
        named = {"own": f"other classes of {self.target}"}
        return ", ".join(named.get(name, name) for name in _tasks(self.rows)) or "–"


def splits(rows: pd.DataFrame) -> list[Split]:
    """Every target, n, schedule and other task with nets whose upper units started anew."""
    if "axes.upper_init" not in rows:
        return []
    rows = rows.assign(arm=arm_names)
    fresh = rows[(rows["axes.upper_init"] == "fresh") & (rows["source"] != SCRATCH)]
    base = rows[rows["source"] == SCRATCH]
    full = int(base["depth"].max()) if len(base) else 0
    found = []
    for key, part in fresh.groupby(["target", "n_per_class", "updates"], sort=False):
        target, n, updates = cast(tuple[str, float, float], key)
        same = (
            (base["target"] == target) & (base["n_per_class"] == n) & (base["updates"] == updates)
        )
        own = base[same].drop_duplicates("replicate")
        tasks = _tasks(part)
        for task in tasks or [""]:
            rest = part[~part["arm"].isin([name for name in tasks if name != task])]
            if full:
                found.append(Split(target, int(n), int(updates), rest, own, full))
    return found


def _tasks(rows: pd.DataFrame) -> list[str]:
    """Sources that are tasks of their own: not the target itself, nothing random, no control."""
    return [
        name
        for name in dict.fromkeys(rows["arm"])
        if name not in ("self", "random") and ":" not in name
    ]


def _kept(rows: pd.DataFrame, full: int) -> pd.Series:
    """Transferred units of each row: those that are frozen, or that were kept and trained on."""
    frozen = full - rows["depth"].astype(int)
    if "axes.n_transferred" not in rows:
        return frozen
    return pd.to_numeric(rows["axes.n_transferred"], errors="coerce").fillna(frozen).astype(int)


def levels(split: Split) -> dict[str, pd.DataFrame]:
    """Line -> replicates x transferred units: z."""
    rows = split.rows.assign(
        kept=_kept(split.rows, split.full), number=split.rows["replicate"].astype(int)
    )
    rows = rows[rows["kept"] > 0]
    tuned = rows["depth"].astype(int) == split.full
    found = {}
    for arm in dict.fromkeys(rows["arm"]):
        for plus in (False, True):
            part = rows[(rows["arm"] == arm) & (tuned == plus)]
            if len(part):
                name = _line_name(str(arm)) + ("+" if plus else "")
                found[name] = part.pivot_table(
                    index="number", columns="kept", values="z", aggfunc="first"
                )
    return found


def curves(split: Split) -> dict[str, pd.DataFrame]:
    """The same, minus z of the replicate's own base net."""
    base = split.base.set_index(split.base["replicate"].astype(int))["z"]
    return {
        name: table.sub(base, axis=0).dropna(how="all") for name, table in levels(split).items()
    }


def specificity(split: Split) -> pd.DataFrame:
    """S: z(BnB) - z(AnB), replicates x transferred units; empty where one of them was not run."""
    found = levels(split)
    if not {"AnB", "BnB"} <= set(found):
        return pd.DataFrame()
    return (found["BnB"] - found["AnB"]).dropna(how="all")


def _line_name(arm: str) -> str:
    """In the paper's words: B is the target's task, A another; n is the number of transferred units."""
    return {"self": "BnB", "random": "random, frozen"}.get(
        arm, "AnB" if ":" not in arm else f"AnB of {arm}"
    )


@styled
def layer_transfer(found: list[Split]) -> Figure:
    """Difference to the base net against transferred units, a panel a split; last, specificity S of all splits."""
    based = [split for split in found if len(split.base)]
    apart = [split for split in found if len(specificity(split))]
    number = len(based) + bool(apart)
    figure, [axes] = canvas(number, columns=3, width=3.6 if number > 1 else 5.5, height=3.6)
    for split, axis in zip(based, axes, strict=False):
        _panel(axis, split)
        axis.set_ylabel("z − z of the base net, logit")
    if apart:
        _specificity_panel(axes[-1], apart)
    legend(figure, axes)
    return figure


def _specificity_panel(axis: Axes, apart: list[Split]) -> None:
    places = list(range(1, apart[0].full))
    names = split_names(apart)
    for index, (shift, split) in enumerate(zip(shifts(len(apart), 0.1), apart, strict=True)):
        table = specificity(split)
        known = [place for place in places if place in table]
        look = (_DARK[index % len(_DARK)], "Pv<o"[index % 4])
        line(
            axis,
            known,
            [table[place].dropna() for place in known],
            look,
            f"S, A: {names[index]}",
            float(shift),
        )
    axis.axhline(0, color=GREY, linewidth=1)
    _unit_places(axis, places)
    axis.set_title("specificity S = BnB − AnB", fontsize=9.5)
    axis.set_ylabel("S, logit")


def split_names(found: list[Split]) -> list[str]:
    """The other task of each split, with the target or the updates where these differ for one task."""
    short = [split.other for split in found]
    return [
        f"{split.other} to {split.title}" if short.count(split.other) > 1 else split.other
        for split in found
    ]


def _unit_places(axis: Axes, places: list[int]) -> None:
    whole_axis(axis.xaxis, places, [str(place) for place in places])
    axis.set_xlim(places[0] - 0.5, places[-1] + 0.5)
    axis.set_xlabel("transferred units, from the input")


def _panel(axis: Axes, split: Split) -> None:
    lines = curves(split)
    places = list(range(1, split.full))
    spare = iter(_MORE)
    for shift, (name, table) in zip(shifts(len(lines), 0.08), lines.items(), strict=True):
        look = _LOOKS[name] if name in _LOOKS else (next(spare, GREY), "P")
        known = [place for place in places if place in table]
        values = [table[place].dropna() for place in known]
        line(axis, known, values, look, name, float(shift))
    axis.axhline(
        0, color=GREY, linestyle="--", linewidth=1.3, label="base (all units trained from scratch)"
    )
    _unit_places(axis, places)
    axis.set_title(drawable(f"{split.title}\nA: {split.other}"), fontsize=9.5)


def layer_transfer_caption(found: list[Split]) -> str:
    """What each line loses with the most units transferred, and how specific units are, split by split."""
    said = []
    for split in found:
        parts = [f"{name} {_at_last(table)}" for name, table in curves(split).items() if len(table)]
        if parts:
            said.append(f"{split.title}: {', '.join(parts)}")
    text = (
        f"Difference to the base net with the most units transferred: {'; '.join(said)}. "
        if said
        else ""
    )
    apart = list(zip(split_names(found), map(specificity, found), strict=True))
    steps = [
        f"{title} {', '.join(numbers.signed(float(table[place].mean())) for place in table.columns)}"
        for title, table in apart
        if len(table)
    ]
    text += f"S by number of units: {'; '.join(steps)}. " if steps else ""
    return (
        f"{text}A: another task; B: the target's own task; +: trained on instead of frozen. What BnB loses is not "
        "specificity: its layers were only torn apart."
    )


def _at_last(table: pd.DataFrame) -> str:
    return numbers.signed(float(np.nanmean(table[table.columns.max()])))
