"""Conditions: the one look-up from rows to numbers.

A condition is a trial but for its replicate. It has one number a replicate; differences are taken within replicates,
as all conditions of a study share these.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from convtl.analysis.frame import axes_of, axis_text
from convtl.analysis.gradients import MEASURES

SCRATCH = "scratch"
"""Source of a fresh net of which everything is trained."""
COORDINATES = (
    *("source", "target", "n_per_class", "model", "regime", "updates", "depth", "similarity"),
    "config",
)
"""Of every condition; additional axes are coordinates, too."""
DIFFERENCES = ("depth_benefit", "transfer_gain", "schedule_gain")
"""Differences of two conditions: D (whole net trained - head), G (fine-tuned - scratch), L (`high` - `low` updates)."""
_NOT_OF_SCRATCH = ("depth", "regime", "similarity")
_FEWEST_CLASSES = 3
_FEWEST_WRONG = 30
_FLAT = 0.05
"""Largest gain, in logits, by four times the updates of a long enough schedule."""


class MissingCondition(Exception):
    """No single condition has these coordinates; the text is one line."""


class Conditions:
    """The usable rows of a study, looked up by condition.

    Attributes:
      frame: all rows (`convtl.analysis.frame`).
      gradients: the table of the probes (`convtl.training.probes`), if there is one.
      targets: the main targets if they are named, else all.
      sources: in order of first appearance, controls (`latin:shuffled`) and scratch among them.
      sizes, depths, schedules: labels a class, depths of nets not trained from scratch, updates; ascending.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        gradients: pd.DataFrame | None = None,
        main_targets: Sequence[str] = (),
        order: Sequence[str] = (),
    ) -> None:
        """Number the conditions of a frame.

        Args:
          order: sources that come first, in this order.
        """
        self.frame, self.gradients = frame, gradients
        present = list(map(str, frame["source"].unique()))
        self.sources = tuple(dict.fromkeys(name for name in (*order, *present) if name in present))
        self.targets = tuple(main_targets) or tuple(map(str, frame["target"].unique()))
        self.sizes = tuple(sorted(map(int, frame["n_per_class"].unique())))
        self.schedules = tuple(sorted(map(int, frame["updates"].unique())))
        pretrained = frame[frame["source"] != SCRATCH]
        depths = (pretrained if len(pretrained) else frame)["depth"]
        self.depths = tuple(sorted(map(int, depths.unique())))
        self._rows = frame[frame["usable"]]
        self._keys = [*COORDINATES, *axes_of(frame)]
        codes = self._rows.groupby(self._keys, sort=False, dropna=False).ngroup().to_numpy()
        self._table = _table(self._rows, codes, self._keys)
        order_of_rows = np.lexsort([self._rows["replicate"].to_numpy(), codes])
        self._positions = np.split(order_of_rows, np.flatnonzero(np.diff(codes[order_of_rows])) + 1)
        self._columns = {"replicate": self._rows["replicate"].to_numpy()}
        self._known: dict[tuple[Any, ...], int] = {}

    # --- one condition --------------------------------------------------------------------

    def values(self, column: str = "logit_accuracy", **where: Any) -> pd.Series:
        """One number a replicate (the index) of exactly one condition.

        A coordinate that is left out has to have one value among the matching conditions. Else it is the regime
        `fine_tune`, and of the schedule and of additional axes the value that more than half of all rows have; a
        schedule is the shortest one where that one is not among them. Of scratch neither depth nor regime matters.

        Args:
          column: of the frame; numbers or flags.
          where: `COORDINATES`, additional axes and `n_classes`; the depth may be `all`.

        Raises:
          MissingCondition: nothing matches, or several conditions do.
        """
        return self.of(self._find(where), column)

    def of(self, code: int, column: str = "logit_accuracy") -> pd.Series:
        """`values` of the condition at a place of `table`."""
        if column not in self._columns:
            if column not in self._rows:
                raise MissingCondition(f"no column {column}")
            self._columns[column] = self._rows[column].to_numpy("float64", na_value=np.nan)
        rows = self._positions[code]
        index = pd.Index(self._columns["replicate"][rows], name="replicate")
        values = pd.Series(self._columns[column][rows], index, name=column).dropna()
        return values[~values.index.duplicated()]

    def has(self, **where: Any) -> bool:
        """Return whether exactly one condition matches."""
        try:
            self._find(where)
        except MissingCondition:
            return False
        return True

    def summary(self, **where: Any) -> dict[str, Any]:
        """Return the line of `table` of one condition.

        Its `flaw` is `floor` (accuracy under twice chance, of three classes and more), `ceiling` (under 30 wrong) or
        empty.
        """
        return dict(self.table().iloc[self._find(where)])

    # --- numbers of several conditions ----------------------------------------------------

    def measured(self, measure: str, column: str = "logit_accuracy", **where: Any) -> pd.Series:
        """One number a replicate of a difference, of `chosen_depth`, or else of a column.

        `chosen_depth` is the column at the depth with a replicate's best validation accuracy; of equal ones the first.

        Args:
          where: coordinates, and what `compared` takes.
        """
        codes = self.compared(measure, **where)
        if measure == "chosen_depth":
            seen = pd.concat([self.of(code, "val_accuracy") for code in codes], axis=1).dropna()
            scores = pd.concat([self.of(code, column) for code in codes], axis=1).loc[seen.index]
            best = seen.to_numpy().argmax(axis=1)
            return pd.Series(scores.to_numpy()[np.arange(len(best)), best], seen.index).dropna()
        first, *others = (self.of(code, column) for code in codes)
        return (first - others[0]).dropna() if others else first

    def compared(
        self,
        measure: str,
        *,
        depths: Sequence[int | str] = (),
        low: int | None = None,
        high: int | None = None,
        scratch_updates: int | str = "same",
        **where: Any,
    ) -> list[int]:
        """Places in `table` of a measure: two of a difference, all of a choice.

        Args:
          depths: of `chosen_depth`; low, high: updates of `schedule_gain`.
          scratch_updates: of `transfer_gain`; `flat`: those of `scratch_flat`.
        """
        if measure == "chosen_depth":
            if not depths:
                raise MissingCondition("chosen_depth: depths are needed, from which to choose")
            first = self._find({**where, "depth": depths[0]})
            return [first, *(self._near(first, depth=depth) for depth in depths[1:])]
        if measure == "depth_benefit":
            whole = self._find({**where, "depth": "all"})
            return [whole, self._near(whole, depth=1)]
        if measure == "schedule_gain":
            long = self._find({**where, "updates": high})
            return [long, self._near(long, updates=low)]
        if measure != "transfer_gain":
            return [self._find(where)]
        tuned = self._find({"depth": "all", **where})
        place = {name: column[tuned] for name, column in self._coordinates.items()}
        usual = {"same": place["updates"]}
        if scratch_updates == "flat":
            usual["flat"] = self.scratch_flat(**where)[0]
        updates = usual.get(str(scratch_updates), scratch_updates)
        return [tuned, self._find({**where, "source": SCRATCH, "updates": updates}, place)]

    def scratch_flat(self, **where: Any) -> tuple[int, bool]:
        """Find the shortest flat schedule of scratch; return it, and whether it is flat.

        Flat: four times as many updates gain under 0.05 logit. Where none is known to be, the longest schedule.
        """
        where = {key: value for key, value in where.items() if key not in ("source", "updates")}
        runs = [u for u in self.schedules if self.has(source=SCRATCH, updates=u, **where)]
        for low in runs:
            high = next((u for u in runs if u >= 4 * low), None)
            if high is None:
                continue
            fresh = {**where, "source": SCRATCH, "low": low, "high": high}
            if self.measured("schedule_gain", **fresh).mean() < _FLAT:
                return low, True
        if not runs:
            self.values(source=SCRATCH, **where)  # says what is missing
        return runs[-1], False

    def gradient(self, name: str, **where: Any) -> pd.Series:
        """One number a replicate of a measure in `gradients.MEASURES`."""
        if self.gradients is None or not len(self.gradients):
            raise MissingCondition("no table of gradients (measure=gradients makes one)")
        values = MEASURES[name](self.gradients, **where)
        if not len(values):
            raise MissingCondition(
                f"{name} with {_listed(where)}: not measured, or of nets at floor"
            )
        return values

    # --- all conditions -------------------------------------------------------------------

    def table(self) -> pd.DataFrame:
        """One line a condition: coordinates, replicates `m`, means over replicates."""
        return self._table

    @property
    def level(self) -> str:
        """Percent that an interval over all replicates attains: `95`, or under it."""
        frame = self._rows if self.gradients is None or len(self._rows) else self.gradients
        m = frame["replicate"].nunique() or 6  # from 6 on an exact interval has 95 %
        return f"{min(95, 100 - 200 / 2**m):.3g}"

    @cached_property
    def usual(self) -> dict[str, Any]:
        """Values of the schedule and additional axes that over half of all rows have."""
        counts = {
            name: self._rows[name].value_counts() for name in ("updates", *axes_of(self.frame))
        }
        half = len(self._rows) / 2
        return {name: n.index[0] for name, n in counts.items() if len(n) and n.iloc[0] > half}

    @cached_property
    def _coordinates(self) -> dict[str, list[Any]]:
        """Coordinate -> its value in each condition; similarity is None if missing."""
        table = self._table
        columns = {name: table[name].tolist() for name in (*self._keys, "n_classes")}
        columns["similarity"] = [None if s != s else s for s in columns["similarity"]]
        columns["whole"] = (table["depth"] == table["n_units"]).tolist()
        return columns

    def _near(self, code: int, **changes: Any) -> int:
        """Find a condition like another but for `changes`, preferably of its recipe."""
        place = {name: self._coordinates[name][code] for name in self._keys}
        config = place.pop("config")
        return self._find({**place, **changes}, {"config": config})

    def _find(self, where: Mapping[str, Any], near: Mapping[str, Any] | None = None) -> int:
        """Find the condition with these coordinates; prefer values in `near` for others."""
        key = (*sorted(where.items(), key=str), *(near or {}).items())
        if key not in self._known:
            self._known[key] = self._search(dict(where), near or {})
        return self._known[key]

    def _search(self, where: dict[str, Any], near: Mapping[str, Any]) -> int:
        if where.get("source") == SCRATCH:
            where = {key: value for key, value in where.items() if key not in _NOT_OF_SCRATCH}
        if not len(self._table):
            raise MissingCondition(f"{_listed(where)}: no trial is done")
        left: Sequence[int] = range(len(self._table))
        for key in sorted(where, key=[*self._keys, *where].index):
            left = self._narrowed(left, where, key)
        preferred = {"regime": "fine_tune", **self.usual, **near}
        for key, column in self._coordinates.items():
            present = {column[code] for code in left}
            if key not in where and len(present) > 1:
                value = preferred.get(key)
                if key == "updates" and value not in present:
                    value = min(present)
                left = [code for code in left if column[code] == value] or left
        if len(left) > 1 and not self._same_trials(left):
            values = {
                key: dict.fromkeys(column[code] for code in left)
                for key, column in self._coordinates.items()
                if key != "whole"
            }
            differing = (_named(key, *each) for key, each in values.items() if len(each) > 1)
            raise MissingCondition(f"{_listed(where)}: several conditions: {'; '.join(differing)}")
        return left[0]

    def _narrowed(self, left: Sequence[int], where: Mapping[str, Any], key: str) -> Sequence[int]:
        """Select the conditions in `left` that have a coordinate."""
        value = where[key]
        if key not in COORDINATES and key != "n_classes":
            value = axis_text(value)
            key = key if key in self._coordinates else f"axes.{key}"  # a row's column has its name
            if key not in self._coordinates:
                if set(self._rows.get(key[5:], ())) == {value}:  # no axis, but all rows have it
                    return left
                raise MissingCondition(f"{_listed(where)}: no trials differ in {key[5:]}")
        column = self._coordinates[key]
        whole = self._coordinates["whole"] if (key, value) == ("depth", "all") else None
        narrowed = [code for code in left if (whole[code] if whole else column[code] == value)]
        if not narrowed:
            present = dict.fromkeys(column[code] for code in left)
            raise MissingCondition(
                f"{_listed(where)}: no trials; there are {_named(key, *present)}"
            )
        return narrowed

    def _same_trials(self, codes: Sequence[int]) -> bool:
        """Return whether conditions are places of the very same trials."""
        trials = self._rows["trial"].to_numpy()
        return len({tuple(trials[self._positions[code]]) for code in codes}) == 1


def _table(rows: pd.DataFrame, codes: np.ndarray, keys: list[str]) -> pd.DataFrame:
    """Coordinates, number of replicates and means over them of each condition."""
    columns = {
        "n_units": rows["n_units"],
        "n_classes": rows["n_classes"],
        "accuracy": rows["test_accuracy"],
        "logit": rows["logit_accuracy"],
        "n_val": rows["n_val"],
        "source_accuracy": rows["source_accuracy"],
        "at_edge": rows["lr_at_edge"].astype("float64"),
        "wrong": (1 - rows["test_accuracy"]) * rows["n_test"],
        "flops": rows["flops_per_update"] * rows["updates"],
        "seconds": rows["seconds"],
    }
    grouped = pd.DataFrame(columns).groupby(codes)
    first = np.unique(codes, return_index=True)[1]
    table = rows[[*keys, "depth_unit"]].iloc[first].reset_index(drop=True)
    table = table.assign(m=grouped.size()).join(grouped.mean()).assign(sd=grouped["logit"].std())
    table["n_classes"] = table["n_classes"].round()
    low = (table["n_classes"] >= _FEWEST_CLASSES) & (table["accuracy"] * table["n_classes"] < 2)
    high = table["wrong"] < _FEWEST_WRONG
    table["flaw"] = np.where(low, "floor", np.where(high, "ceiling", ""))
    return table.drop(columns="wrong")


def _named(key: str, *values: Any) -> str:
    return f"{key} {', '.join('none' if value in (None, '') else str(value) for value in values)}"


def _listed(where: Mapping[str, Any]) -> str:
    return ", ".join(_named(*item) for item in where.items() if item[1] not in (None, "")) or "all"
