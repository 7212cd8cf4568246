"""What the report of a scorecard looks at: arms by source, labels, depth and schedule, averaged over targets."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from convtl.analysis.arms import SCRATCH, arm_names
from convtl.analysis.cells import RUNGS, AtEdge, Cells, Depth, NotEnoughData
from convtl.analysis.contrasts import SPECIAL
from convtl.analysis.declared import LADDER
from convtl.analysis.statistics import interquartile_mean

_TRIMMED = 4
"""Targets from which on the interquartile mean leaves any out."""
_RELATIVE = ("self", "random")
"""Sources that are no task of their own, so that they have no place on a ladder."""


@dataclass(frozen=True, eq=False)
class View:
    """Usable rows of one setting, on targets that were given the same sources.

    Numbers come one a replicate: the interquartile mean over targets (the mean of up to three).

    Attributes:
      title: what tells this view from the others; empty for a single one.
      cells: the rows, with the view's targets as main ones.
      names: sources of the view, those of the ladder first, mixtures last, controls left out.
      controls: nets whose weights were shuffled, replaced or learned without meaning, and `self`.
    """

    title: str
    cells: Cells
    names: tuple[str, ...]
    controls: tuple[str, ...]

    @property
    def targets(self) -> tuple[str, ...]:
        return self.cells.targets

    @cached_property
    def _known(self) -> set[tuple[str, int, int, int]]:
        """(source, n, depth, updates) of the arms that every target of the view has."""
        own = main_rows(self.cells.rows)
        own = own[own["target"].isin(self.targets)].assign(arm=arm_names)
        keys = ["arm", "n_per_class", "depth", "updates"]
        reached = own.groupby(keys)["target"].nunique()
        found = reached[reached == len(self.targets)].index
        return {(str(arm), int(n), int(depth), int(updates)) for arm, n, depth, updates in found}

    @property
    def full(self) -> int:
        return self.cells.full

    @cached_property
    def schedules(self) -> tuple[int, ...]:
        """Updates, ascending."""
        return tuple(
            sorted({updates for source, _, _, updates in self._known if source != SCRATCH})
        )

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Labels a class, ascending."""
        return tuple(sorted({n for source, n, _, _ in self._known if source != SCRATCH}))

    @cached_property
    def depths(self) -> tuple[int, ...]:
        return tuple(sorted({depth for _, _, depth, _ in self._known}))

    @cached_property
    def tuned(self) -> tuple[int, ...]:
        """Depths of pretrained nets, ascending."""
        return tuple(sorted({depth for source, _, depth, _ in self._known if source != SCRATCH}))

    @cached_property
    def only(self) -> str:
        """What is trained, where pretrained nets have one depth only: `conv1 alone`, `conv1+fc5`, `all layers`."""
        if len(self.tuned) != 1:
            return ""
        if self.tuned == (self.full,):
            return "all layers"
        rows = main_rows(self.cells.rows)
        first = rows[rows["source"] != SCRATCH].iloc[0]
        names = [str(first.get(column) or "") for column in ("trained_units", "depth_unit")]
        trained = next(
            (name for name in names if name not in ("", "nan")), f"depth {self.tuned[0]}"
        )
        return trained if "+" in trained else f"{trained} alone"

    @cached_property
    def units(self) -> dict[int, str]:
        """Depth -> name of the earliest unit that is trained."""
        rows = main_rows(self.cells.rows)
        return {
            int(depth): unit for depth, unit in zip(rows["depth"], rows["depth_unit"], strict=True)
        }

    def has(self, source: str, n: int, updates: int) -> tuple[int, ...]:
        """The depths that were run, ascending."""
        stands = RUNGS.get(source)
        return tuple(
            depth
            for depth in self.depths
            if {(name, n, depth, updates) for name in (source, stands)} & self._known
        )

    def sources_at(self, n: int, updates: int) -> tuple[str, ...]:
        return tuple(name for name in self.names if self.has(name, n, updates))

    def counts_of(self, source: str, updates: int) -> tuple[int, ...]:
        """Labels a class at which a source was run on a schedule."""
        return tuple(n for n in self.counts if self.has(source, n, updates))

    @cached_property
    def crowded(self) -> int:
        """The number of labels at which most sources were compared; 0 if nothing was."""
        crowd = (
            {n: len(self.sources_at(n, self.schedules[0])) for n in self.counts}
            if self.schedules
            else {}
        )
        return max(crowd, key=lambda n: crowd[n]) if crowd else 0

    @cached_property
    def unmatched(self) -> tuple[str, ...]:
        """Sources with other numbers of classes or images than most: shown, but in no slope or correlation."""
        rows = self.cells.rows.assign(arm=arm_names)
        rows = rows[rows["arm"].isin(self.names)]
        if not {"source_classes", "source_images"} <= set(rows):
            return ()
        sizes = (
            rows.dropna(subset=["source_images"])
            .groupby("arm")[["source_classes", "source_images"]]
            .first()
        )
        if not len(sizes):
            return ()
        usual = sizes.value_counts().index[0]
        return tuple(str(arm) for arm, *size in sizes.itertuples() if tuple(size) != tuple(usual))

    @cached_property
    def ladder(self) -> list[str]:
        """Sources of the declared ladder that were run at `crowded`, from similar to far."""
        return [
            name
            for name in LADDER
            if self.schedules and self.has(name, self.crowded, self.schedules[0])
        ]

    @cached_property
    def dial(self) -> list[str]:
        """Mixtures from similar to far, run at `crowded`; the ends may be named sources."""
        inner = [name for name in self.names if "@" in name]
        if not inner or not self.schedules:
            return []
        base = inner[0].partition("@")[0]
        named = dict.fromkeys([f"{base}@1", *inner, f"{base}@0"])
        return [name for name in named if self.has(name, self.crowded, self.schedules[0])]

    def z(self, source: str, n: int, depth: Depth, updates: int, column: str = "z") -> pd.Series:
        """One number per replicate; empty if the arm was not run for every target."""
        place = (source, n, depth, updates, column)
        return self._once(place, lambda: self.cells.z(source, n, depth, updates, column=column))

    def gain(self, source: str, n: int, depth: Depth, updates: int) -> pd.Series:
        """G per replicate, also at floor."""
        return self._once(
            ("G", source, n, depth, updates), lambda: self.cells.gain(source, n, depth, updates)
        )

    def edge(self, source: str, n: int, updates: int) -> str:
        """`floor` or `ceiling` where a cell is so on one of the targets, and so enters no test; empty elsewhere."""
        try:
            self.cells.check(source, n, updates)
        except AtEdge as what:
            return what.edge
        return ""

    def benefit(self, source: str, n: int, updates: int) -> pd.Series:
        """D per replicate, also of cells at the floor, which claims leave out."""

        def difference() -> pd.Series:
            return self.cells.z(source, n, "all", updates) - self.cells.z(source, n, 1, updates)

        return self._once(("D", source, n, updates), difference)

    @cached_property
    def _memory(self) -> dict[tuple[Hashable, ...], pd.Series]:
        return {}

    def _once(self, place: tuple[Hashable, ...], values: Callable[[], pd.Series]) -> pd.Series:
        """The replicates' numbers; found once, as figures, captions and tables ask for the same ones."""
        if place not in self._memory:
            try:
                self._memory[place] = over_targets(values().dropna())
            except NotEnoughData:
                self._memory[place] = pd.Series(dtype=float)
        return self._memory[place]

    def curve(self, source: str, n: int, updates: int, column: str = "z") -> pd.DataFrame:
        """Replicates x depths: the depths that were run, the replicates that have them all."""
        arms = {
            depth: self.z(source, n, depth, updates, column)
            for depth in self.has(source, n, updates)
        }
        return pd.DataFrame({depth: arm for depth, arm in arms.items() if len(arm)}).dropna()

    def chosen(self, source: str, n: int, updates: int, column: str) -> pd.Series:
        """A column at the depth that each replicate's validation images choose, on each target for itself."""
        depths = self.has(source, n, updates)
        try:
            seen = self.cells.curve(source, n, depths, updates, "val_accuracy")
            values = (
                self.cells.curve(source, n, depths, updates, column).reindex(seen.index).dropna()
            )
        except NotEnoughData:
            return pd.Series(dtype=float)
        if not len(values):
            return pd.Series(dtype=float)
        place = seen.loc[values.index].to_numpy().argmax(axis=1)
        return over_targets(
            pd.Series(values.to_numpy()[np.arange(len(values)), place], values.index)
        )

    def depth_name(self, depth: int) -> str:
        """`2 (fc4)`, `5 (conv1, all)`."""
        notes = [self.units.get(depth, ""), "all" if depth == self.full else ""]
        text = ", ".join(note for note in notes if note)
        return f"{depth} ({text})" if text else str(depth)


def over_targets(found: pd.Series) -> pd.Series:
    """(target, replicate) -> replicate: the interquartile mean over targets, of replicates that have them all."""
    if not len(found):
        return pd.Series(dtype=float)
    table = found.astype(float).unstack("target").dropna()
    if table.shape[1] < _TRIMMED:
        return table.mean(axis=1)
    return pd.Series(
        [interquartile_mean(row) for row in table.to_numpy(float)], table.index, dtype=float
    )


def main_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of nets whose trained layers start from the source's, and of scratch; not of special targets."""
    kept = ~rows["target"].isin(SPECIAL)
    if "axes.upper_init" in rows:
        kept &= (rows["axes.upper_init"] != "fresh") | (rows["source"] == SCRATCH)
    return rows[kept]


def views(settings: Sequence[tuple[str, Cells]]) -> list[View]:
    """One view for each setting and set of targets that have sources in common.

    Args:
      settings: of `convtl.analysis.scorecard.settings`.
    """
    found = []
    for title, cells in settings:
        groups = _groups(cells)
        for targets, sources in groups:
            heading = ", ".join(
                filter(None, [title, f"targets {', '.join(targets)}" if len(groups) > 1 else ""])
            )
            own = tuple(name for name in sources if ":" not in name and name not in _RELATIVE)
            own = tuple(name for name in own if RUNGS.get(name) not in own)
            controls = tuple(name for name in sources if ":" in name or name == "self")
            part = Cells(cells.rows, targets, cells.gradients)
            found.append(View(heading, part, tuple(sorted(own, key=_place)), controls))
    return found


def _groups(cells: Cells) -> list[tuple[tuple[str, ...], list[str]]]:
    """Targets whose sources are the same, or a part of another's; and these sources, in order of appearance."""
    own = main_rows(cells.rows).assign(arm=arm_names)
    own = own[own["source"] != SCRATCH]
    groups: list[tuple[list[str], list[str]]] = []
    for target in cells.targets:
        sources = list(dict.fromkeys(own.loc[own["target"] == target, "arm"]))
        if not sources:
            continue
        for targets, known in groups:
            if set(known) <= set(sources) or set(sources) <= set(known):
                targets.append(target)
                known += [name for name in sources if name not in known]
                break
        else:
            groups.append(([target], sources))
    return [(tuple(targets), known) for targets, known in groups]


def _place(name: str) -> tuple[int, float, str]:
    if name in LADDER:
        return 0, LADDER.index(name), ""
    base, _, share = name.partition("@")
    return (2, -float(share), base) if share else (1, 0, "")
