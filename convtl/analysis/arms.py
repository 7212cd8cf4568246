"""Rows of a study as arms that are paired by replicate.

A *block* holds what may be compared: the trials of one model, regime, schedule and target. Within it an
arm is (source, labels a class, depth), one number per replicate.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import pandas as pd

from convtl.analysis.columns import Table
from convtl.analysis.statistics import logit_accuracy

SCRATCH = "scratch"
"""The source that is no source: a fresh net of which everything is trained."""

_NUMBERS = (
    "depth",
    "n_per_class",
    "n_train",
    "replicate",
    "lr",
    "n_rates",
    "updates",
    "n_val",
    "val_accuracy",
    "test_accuracy",
    "test_nll",
    "test_ece",
    "n_test",
    "source_accuracy",
    "trained_weights",
    "flops_per_update",
    "seconds",
    "similarity",
)
_TEXTS = (
    "study",
    "trial",
    "config",
    "model",
    "source",
    "target",
    "regime",
    "depth_unit",
    "subset_digest",
    "status",
)
LONG = ("scores", "classes", "declared")
"""Lists that no arm is compared by."""
_FLAGS = ("lr_at_edge", "frozen_ok")
_SETTING = ("model", "regime", "updates", "config")
_NOT_OF_SCRATCH = ("regime", "axes.upper_init", "axes.n_transferred")
"""What does not concern a fresh net of which everything is trained."""


def frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a data frame: known columns always there and of one type, `z` (logit accuracy), `usable`.

    Usable is a row that is done, has a finite test accuracy, and whose frozen weights did not move. Of
    two usable rows of one trial in one place (config, source, additional axes) the first counts; a mixture of
    one kind of classes only is the very trial of another source, and so has two places.
    """
    data = _flat(Table.of(rows))
    for name in _NUMBERS:
        data[name] = pd.to_numeric(data[name], errors="coerce") if name in data else np.nan
    for name in _TEXTS:
        data[name] = data[name].fillna("").astype(str) if name in data else ""
    for name in _FLAGS:
        values = [_flag(value) for value in data[name]] if name in data else [None] * len(data)
        data[name] = pd.Series(
            values, data.index, dtype=object
        )  # so that True stays True, not np.True_
    data["z"] = logit_accuracy(data["test_accuracy"], data["n_test"])
    moved = np.array([value is False for value in data["frozen_ok"]], bool)
    keys = data[["depth", "n_per_class", "replicate"]].notna().all(axis=1)
    data["usable"] = (data["status"] == "done") & np.isfinite(data["z"]) & ~moved & keys
    places = [
        "config",
        "source",
        "similarity",
        *(name for name in data if str(name).startswith("axes.")),
    ]
    repeated = (
        data["usable"]
        & (data["trial"] != "")
        & data[data["usable"]].duplicated(["trial", *places]).reindex(data.index, fill_value=False)
    )
    return data[~repeated].reset_index(drop=True) if repeated.any() else data


def arm_names(data: pd.DataFrame) -> pd.Series:
    """What the arm of each row is called: its source, and of a mixture its share too (`mixture@0.5`)."""
    shares = data["similarity"]
    names = [
        f"{name}@{s:g}" if s == s else name for name, s in zip(data["source"], shares, strict=True)
    ]
    return pd.Series(names, data.index, dtype=object)


def _flat(table: Table) -> pd.DataFrame:
    """Rows with their additional axes as columns `axes.NAME`; other mappings are left out, and what is long."""
    columns: dict[str, Any] = {}
    for name in table.names:
        numbers = table.column(name).floats()
        if numbers is None and name not in LONG:
            values = table.mapped(
                name, lambda value: np.nan if isinstance(value, Mapping) else value, np.nan
            )
            if any(value is not np.nan for value in values):
                columns[name] = values
        elif numbers is not None:
            columns[name] = numbers
    axes = [own for own in table.distinct("axes") if isinstance(own, Mapping)]
    for axis in dict.fromkeys(name for own in axes for name in own):
        columns[f"axes.{axis}"] = table.mapped("axes", partial(_said, axis))
    return pd.DataFrame(columns, index=range(len(table)))


def _said(axis: str, axes: Any) -> Any:
    return str(axes[axis]) if isinstance(axes, Mapping) and axis in axes else np.nan


def _flag(value: Any) -> bool | None:
    """True or False whether it comes from memory or from a CSV file; None where nothing is known."""
    if isinstance(value, str):
        return {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}.get(
            value.lower()
        )
    return None if value is None or pd.isna(value) else bool(value)


@dataclass(frozen=True)
class Block:
    """Trials that may be compared with each other.

    Attributes:
      setting: (column, value) of everything that is the same in the block, the target left out.
      target: the target domain.
      title: what tells this block from the others of the study; empty if it is the only one.
      data: usable rows of pretrained sources; scratch: usable rows of the fresh net.
      order: the sources, in the order in which they are to be shown.
    """

    setting: tuple[tuple[str, str], ...]
    target: str
    title: str
    data: pd.DataFrame
    scratch: pd.DataFrame
    order: tuple[str, ...]

    @cached_property
    def sources(self) -> tuple[str, ...]:
        found = list(dict.fromkeys(self.data["source"]))
        return tuple(sorted(found, key=lambda name: (*self.order, *found).index(name)))

    @cached_property
    def both(self) -> pd.DataFrame:
        return pd.concat([part for part in (self.data, self.scratch) if len(part)] or [self.data])

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Labels a class, ascending."""
        return tuple(sorted({int(value) for value in self.both["n_per_class"]}))

    @cached_property
    def depths(self) -> tuple[int, ...]:
        return tuple(sorted({int(value) for value in self.data["depth"]}))

    @cached_property
    def full(self) -> int:
        """The depth that stands for `all`: that of scratch, or the deepest seen where scratch is missing."""
        return int(self.both["depth"].max())

    @property
    def full_known(self) -> bool:
        """Whether scratch rows confirm that `full` is the whole net."""
        return len(self.scratch) > 0

    @cached_property
    def units(self) -> dict[int, str]:
        """Depth -> name of the earliest unit that is trained."""
        pairs = zip(self.both["depth"], self.both["depth_unit"], strict=True)
        return {int(depth): unit for depth, unit in pairs}

    def depth_name(self, depth: int) -> str:
        """`2 (fc4)`; the deepest as `5 (conv1, all)`."""
        notes = [self.units.get(depth, ""), "all" if self.full_known and depth == self.full else ""]
        text = ", ".join(note for note in notes if note)
        return f"{depth} ({text})" if text else str(depth)

    @property
    def full_name(self) -> str:
        """`all layers`, or what is known of the deepest depth."""
        return "all layers" if self.full_known else f"the last {self.full}"

    @cached_property
    def replicates(self) -> int:
        return int(self.both["replicate"].nunique())

    @cached_property
    def classes(self) -> int | None:
        known = self.both[self.both["n_train"].notna()]
        return (
            round(float((known["n_train"] / known["n_per_class"]).median())) if len(known) else None
        )

    @cached_property
    def _arms(self) -> dict[tuple[str, int, int], pd.DataFrame]:
        arms = {}
        places = ["source", "n_per_class", "depth", "replicate"]
        known = ["trial", "z", *_NUMBERS, *_FLAGS]
        both = self.both[list(dict.fromkeys([*places, *known]))]
        both = both.assign(replicate=both["replicate"].astype(int))
        both = both.drop_duplicates(places).set_index("replicate").sort_index(kind="stable")
        for key, part in both.groupby(places[:3], sort=False):
            source, n, depth = cast(tuple[str, float, float], key)
            arms[source, int(n), int(depth)] = part
        return arms

    def arm(self, source: str, n: int, depth: int, column: str = "z") -> pd.Series:
        """One number per replicate (index); empty if the arm was not run."""
        place = source, n, depth, column
        if place not in self._series:
            part = self._arms.get((source, n, depth))
            self._series[place] = (
                part[column].dropna() if part is not None else pd.Series(dtype=float)
            )
        return self._series[place]

    @cached_property
    def _series(self) -> dict[tuple[str, int, int, str], pd.Series]:
        """What `arm` has given, as reports ask for the same arms again and again."""
        return {}

    def scratch_arm(self, n: int, column: str = "z") -> pd.Series:
        return self.arm(SCRATCH, n, self.full, column)

    def curve(self, source: str, n: int, column: str = "z") -> pd.DataFrame:
        """Replicates x depths, only replicates that have every depth of this (source, n)."""
        arms = {depth: self.arm(source, n, depth, column) for depth in self.depths}
        return pd.DataFrame({depth: arm for depth, arm in arms.items() if len(arm)}).dropna()

    def gain(self, source: str, n: int, depth: int) -> pd.Series:
        """G = z(source, n, depth) - z(scratch, n), per replicate."""
        return (self.arm(source, n, depth) - self.scratch_arm(n)).dropna()

    def benefit(self, source: str, n: int) -> pd.Series:
        """D = z(source, n, all) - z(source, n, 1), per replicate; empty where all is the head."""
        if self.full == 1:
            return pd.Series(dtype=float)
        return (self.arm(source, n, self.full) - self.arm(source, n, 1)).dropna()


def blocks(data: pd.DataFrame, order: Sequence[str] = ()) -> list[Block]:
    """The blocks of a frame, in order of appearance.

    Scratch has no regime of its own: where a regime has no scratch rows it is compared with those of
    another regime that are otherwise alike.
    """
    columns = [*_SETTING, *(str(name) for name in data if str(name).startswith("axes."))]
    # Only what tells blocks apart is looked at whole: of a million trials a copy of all is a gigabyte.
    told_by = data.loc[
        data["usable"], list(dict.fromkeys([*columns, "target", "source", "similarity"]))
    ]
    # Trials in which a free column is empty still belong together, so empty is a value like any other.
    texts = {name: told_by[name].map(_text) for name in columns}
    keyed = told_by.assign(source=arm_names).drop(columns="similarity").assign(**texts)
    pretrained, fresh = keyed[keyed["source"] != SCRATCH], keyed[keyed["source"] == SCRATCH]
    varying = _telling(
        pretrained if "axes.upper_init" in keyed and len(pretrained) else keyed, columns
    )
    found = []
    for key, part in _groups(pretrained if len(pretrained) else fresh, [*columns, "target"]):
        content = dict(zip([*columns, "target"], key, strict=True))
        title = ", ".join(_phrase(name, content[name]) for name in varying if content[name])
        rows = part if len(pretrained) else part.iloc[:0]
        whole = [data.loc[own.index].assign(**own) for own in (rows, _scratch_of(fresh, content))]
        setting = tuple((name, content[name]) for name in columns)
        found.append(Block(setting, content["target"], title, whole[0], whole[1], tuple(order)))
    return found


def _telling(keyed: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """The columns that it takes to tell blocks apart: none that goes along with others, the protocol last."""
    wanted = ["target", *(name for name in columns if name != "config"), "config"]
    kept: list[str] = []
    blocks_so_far = 1 if len(keyed) else 0
    for name in wanted:
        number = len(keyed[[*kept, name]].drop_duplicates())
        if number > blocks_so_far:
            kept, blocks_so_far = [*kept, name], number
    return [name for name in (*columns, "target") if name in kept]


def _scratch_of(fresh: pd.DataFrame, content: Mapping[str, str]) -> pd.DataFrame:
    strict = [name for name in content if name not in _NOT_OF_SCRATCH]
    alike = (
        fresh[(fresh[strict] == pd.Series(content)[strict]).all(axis=1)] if len(fresh) else fresh
    )
    same = alike[alike["regime"] == content["regime"]]
    return same if len(same) else alike


def _groups(
    data: pd.DataFrame, columns: list[str]
) -> Iterable[tuple[tuple[str, ...], pd.DataFrame]]:
    if not len(data):
        return []
    return [(tuple(map(str, key)), part) for key, part in data.groupby(columns, sort=False)]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:g}"
    return str(value)


def _phrase(name: str, value: str) -> str:
    phrases = {
        "updates": f"{value} updates",
        "target": f"target {value}",
        "config": f"config {value}",
    }
    return phrases.get(name, value if name in _SETTING else f"{name.removeprefix('axes.')}={value}")
