"""A study's finished trials as cells: (source, n, depth, updates) -> one logit accuracy a target and replicate."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd

from convtl.analysis.arms import SCRATCH

T = TypeVar("T")
"""Numbers of replicates, or a table of them."""

Depth = int | str
"""Number of trained layers, or `all`."""

RUNGS = {"mixture@0": "noise", "mixture@1": "own"}
"""A mixture of one kind of classes only is that kind's own source: the same trials (`conf/domains/mixture.yaml`)."""

_FEWEST = 4
"""Classes from which on twice chance is a low score."""
_CEILING = 0.98
"""Accuracy above which 1,200 test images give a logit no better than to the smallest effect of interest."""


class NotEnoughData(Exception):
    """An estimand cannot be computed; the text names what is missing."""


class AtEdge(NotEnoughData):
    """A cell is at floor or ceiling, so that it enters no test.

    Attributes:
      edge: `floor` or `ceiling`.
      cell: which, in short.
    """

    def __init__(self, edge: str, source: str, target: str, n: int, updates: int) -> None:
        why = {
            "floor": "every arm is under twice chance",
            "ceiling": f"every arm is above {_CEILING:.0%}",
        }
        place = f"target {target}, source {source}, n_per_class {n}, {updates} updates"
        super().__init__(f"{place}: {edge}, {why[edge]}")
        self.edge, self.cell = edge, f"{source} to {target} at n={n:,}"


@dataclass(frozen=True, eq=False)
class Cells:
    """Usable rows of one setting (net, regime, protocol), looked up by what was trained.

    Sources are named as in a config; a mixture with its share of near classes, `mixture@0.5`. Numbers come
    as series over (target, replicate); arithmetic on them leaves NaN where one side is missing.

    Attributes:
      rows: of `arms.frame`, usable ones.
      targets: those that are looked up where a call names none.
      gradients: the table of the probes (`convtl.training.probes`), if there is one.
      left_out: what means over cells did without, as it was at an edge; shared with the views that are made of
        these cells, and filled while contrasts are computed.
    """

    rows: pd.DataFrame
    targets: tuple[str, ...]
    gradients: pd.DataFrame | None = None
    left_out: list[AtEdge] = field(default_factory=list)

    def of(self, target: str) -> "Cells":
        """The same rows, with one main target."""
        view = replace(self, targets=(target,))
        return self._alike(view)

    def noting(self) -> "Cells":
        """The same rows, with a list of their own of what is left out."""
        return self._alike(replace(self, left_out=[]))

    def _alike(self, view: "Cells") -> "Cells":
        """A view of all of these rows, which finds them as they are found here."""
        view.__dict__.update(_arms=self._arms, _ways=self._ways)
        return view

    def by(self, regime: str) -> "Cells":
        """The trials of one regime."""
        view = self._only(self.rows["regime"] == regime)
        view.__dict__["_ways"] = self._ways
        return view

    def shifted(self, kind: str) -> "Cells":
        """The trials whose target images are changed in one way (a key of `shift`)."""
        column = f"axes.shift.{kind}"
        if column not in self.rows:
            raise NotEnoughData(f"trials with shift.{kind}")
        return self._only(
            ~self.rows[column].astype(str).isin(["False", "0", "0.0", "None", "nan", ""])
        )

    def _only(self, wanted: pd.Series) -> "Cells":
        view = replace(self, rows=self.rows[wanted])
        view.__dict__["full"] = self.full  # of the whole study: a part may lack scratch
        return view

    @cached_property
    def _ways(self) -> list["Cells"]:
        """These cells by regime: where one fails and another does not, the cell is not at floor."""
        regimes = self.rows["regime"].unique() if "regime" in self.rows else ()
        return (
            [self._only(self.rows["regime"] == regime) for regime in regimes]
            if len(regimes) > 1
            else [self]
        )

    @cached_property
    def full(self) -> int:
        """The depth `all`: that of scratch, or the deepest where scratch is missing."""
        fresh = self.rows[self.rows["source"] == SCRATCH]
        return int((fresh if len(fresh) else self.rows)["depth"].max()) if len(self.rows) else 0

    def z(
        self,
        source: str,
        n: int,
        depth: Depth,
        updates: int,
        *,
        target: str | None = None,
        upper: str = "source",
        column: str = "z",
    ) -> pd.Series:
        """Logit accuracy on test images (or another column) of one cell.

        Args:
          depth: of scratch it is `all`, whatever is asked for.
          target: instead of the view's targets.
          upper: `fresh` for nets whose trained layers started anew.

        Raises:
          NotEnoughData: a target has no finished trial of the cell.
        """
        found = {}
        for name in self.targets if target is None else (target,):
            found[name] = self._arm(name, source, n, depth, updates, upper, column)
        if not found:
            raise NotEnoughData("a target with finished trials")
        return pd.concat(found, names=["target", "replicate"])

    def has(self, source: str, n: int, depth: Depth, updates: int) -> bool:
        """Whether every target has finished trials of a cell."""
        return all(len(self._rows_of(name, source, n, depth, updates)) for name in self.targets)

    def counts(self, source: str, depths: Sequence[Depth], updates: int) -> list[int]:
        """The n for which every target has all of the depths, rising.

        Raises:
          NotEnoughData: fewer than two.
        """
        there = sorted({int(n) for n in self.rows["n_per_class"]})
        found = [n for n in there if all(self.has(source, n, depth, updates) for depth in depths)]
        if len(found) < 2:
            raise NotEnoughData(f"source {source}, {updates} updates: two sizes n_per_class")
        return found

    def D(self, source: str, n: int, updates: int, *, target: str | None = None) -> pd.Series:
        """Depth benefit: all layers minus the last.

        Raises:
          NotEnoughData: an arm is missing.
          AtEdge: head and whole net are both under twice chance, or both at the ceiling.
        """
        arms = {depth: self.z(source, n, depth, updates, target=target) for depth in (1, "all")}
        self.check(source, n, updates, target=target)
        return arms["all"] - arms[1]

    def G(
        self, source: str, n: int, depth: Depth, updates: int, *, target: str | None = None
    ) -> pd.Series:
        """Gain: transfer minus training from scratch.

        Raises:
          NotEnoughData: an arm is missing.
          AtEdge: as for `D`; at the ceiling scratch has to be, too.
        """
        gain = self.gain(source, n, depth, updates, target=target)
        self.check(source, n, updates, depth, against=SCRATCH, target=target)
        return gain

    def gain(
        self, source: str, n: int, depth: Depth, updates: int, *, target: str | None = None
    ) -> pd.Series:
        """G, at floor and ceiling too."""
        pretrained = self.z(source, n, depth, updates, target=target)
        return pretrained - self.z(SCRATCH, n, "all", updates, target=target)

    def L(
        self,
        source: str,
        n: int,
        long: int,
        short: int,
        *,
        depth: Depth = "all",
        target: str | None = None,
    ) -> pd.Series:
        """What a longer schedule adds.

        Raises:
          NotEnoughData: an arm is missing.
          AtEdge: the cells of both schedules are at an edge.
        """
        more = self.z(source, n, depth, long, target=target) - self.z(
            source, n, depth, short, target=target
        )
        with suppress(AtEdge):
            self.check(source, n, long, depth, target=target)
            return more
        self.check(source, n, short, depth, target=target)
        return more

    def check(
        self,
        source: str,
        n: int,
        updates: int,
        *depths: Depth,
        against: str = "",
        target: str | None = None,
        upper: str = "source",
    ) -> None:
        """That a cell (source, n, updates) enters a test.

        Args:
          depths: compared in the test, beside head and whole net.
          against: the source that it is compared with, if it is another one; its whole net then counts, too,
            for whether the comparison is at the ceiling. How low it is says nothing of the cell.

        Raises:
          AtEdge: every one of the arms that were run is under twice chance accuracy (of four classes or more),
            or every one is above 98 %.
        """
        for name in self.targets if target is None else (target,):
            own = self._edges(name, source, n, (1, "all", *depths), updates, upper)
            rival = (
                self._edges(name, against, n, ("all",), updates, upper) if against else set[str]()
            )
            if own == {"floor"}:
                raise AtEdge("floor", source, name, n, updates)
            if own and own | rival == {"ceiling"}:
                raise AtEdge("ceiling", source, name, n, updates)

    def _edges(
        self, target: str, source: str, n: int, depths: Sequence[Depth], updates: int, upper: str
    ) -> set[str]:
        """What the arms that were run are at: `floor`, `ceiling` or neither (empty); of every regime."""
        found = {
            way._edge(target, source, n, k, updates, upper) for way in self._ways for k in depths
        }
        return {edge for edge in found if edge is not None}

    def _edge(
        self, target: str, source: str, n: int, depth: Depth, updates: int, upper: str
    ) -> str | None:
        """`floor`, `ceiling` or neither, by the mean accuracy of an arm; None where it was not run."""
        rows = self._rows_of(target, source, n, depth, updates, upper)
        if not len(rows):
            return None
        classes = float((rows["n_train"] / rows["n_per_class"]).median())
        accuracy = float(rows["test_accuracy"].mean())
        if classes >= _FEWEST and accuracy < 2 / classes:
            return "floor"
        return "ceiling" if accuracy > _CEILING else ""

    def frozen(self, source: str, n: int, j: int, updates: int, target: str) -> pd.Series:
        """The j lowest layers frozen as the source left them, the others trained anew."""
        return self.z(source, n, self.full - j, updates, target=target, upper="fresh")

    def curve(
        self, source: str, n: int, depths: Sequence[Depth], updates: int, column: str = "z"
    ) -> pd.DataFrame:
        """(target, replicate) x depths: replicates that have every one of the depths."""
        return pd.DataFrame(
            {depth: self.z(source, n, depth, updates, column=column) for depth in depths}
        ).dropna()

    def validated(self, source: str, n: int, depths: Sequence[Depth], updates: int) -> pd.Series:
        """Logit accuracy at the depth with the highest validation accuracy; of equal ones the smallest."""
        seen = self.curve(source, n, depths, updates, "val_accuracy")
        scores = self.curve(source, n, depths, updates).reindex(seen.index).dropna()
        chosen = seen.loc[scores.index].to_numpy().argmax(axis=1)
        return pd.Series(scores.to_numpy()[np.arange(len(scores)), chosen], scores.index)

    def probes(self) -> pd.DataFrame:
        """The table of the probes.

        Raises:
          NotEnoughData: there is none.
        """
        if self.gradients is None or not len(self.gradients):
            raise NotEnoughData("no table of gradients (experiment=vanishing_gradients makes one)")
        return self.gradients

    def _arm(
        self, target: str, source: str, n: int, depth: Depth, updates: int, upper: str, column: str
    ) -> pd.Series:
        values = self._rows_of(target, source, n, depth, updates, upper).get(
            column, pd.Series(dtype=float)
        )
        if len(known := values.dropna()):
            return known
        begun = ", upper layers fresh" if upper == "fresh" else ""
        what = "" if column == "z" else f" with {column}"
        raise NotEnoughData(
            f"target {target}, source {source}, n_per_class {n}, depth {depth}, {updates} updates{begun}: "
            f"no finished trial{what}"
        )

    def _rows_of(
        self, target: str, source: str, n: int, depth: Depth, updates: int, upper: str = "source"
    ) -> pd.DataFrame:
        """Rows of a cell by replicate; none if it was not run."""
        k = self.full if depth == "all" or source == SCRATCH else int(depth)
        known = (
            self._arms.get((target, name, n, k, updates, upper))
            for name in (source, RUNGS.get(source))
        )
        return next((part for part in known if part is not None), self.rows.iloc[:0])

    @cached_property
    def _arms(self) -> dict[tuple[Any, ...], pd.DataFrame]:
        rows = self.rows.assign(replicate=self.rows["replicate"].astype(int))
        if "similarity" in rows:
            share = pd.to_numeric(rows["similarity"], errors="coerce")
            named = [
                f"{s}@{v:g}" if v == v else s for s, v in zip(rows["source"], share, strict=True)
            ]
            rows = rows.assign(source=named)
        if (
            "axes.n_transferred" in rows
        ):  # nets whose kept layers are trained on: other arms than the claims'
            rows = rows[
                rows["axes.n_transferred"].isin(["None", ""]) | rows["axes.n_transferred"].isna()
            ]
        if "axes.upper_init" in rows:
            fresh = (rows["axes.upper_init"] == "fresh") & (rows["source"] != SCRATCH)
            rows = rows.assign(_upper=np.where(fresh, "fresh", "source"))
        else:
            rows = rows.assign(_upper="source")
        keys = ["target", "source", "n_per_class", "depth", "updates", "_upper"]
        arms = {}
        for key, part in rows.groupby(keys, sort=False):
            target, source, n, depth, updates, upper = cast(tuple[Any, ...], key)
            indexed = part.set_index("replicate").sort_index()
            own = indexed[~indexed.index.duplicated()]
            arms[target, source, int(n), int(depth), int(updates), upper] = own
        return arms


def mean_of(parts: Sequence[pd.Series]) -> pd.Series:
    """Mean of several numbers of the same replicates; NaN where one is missing."""
    return sum(parts[1:], start=parts[0]) / len(parts)


def mean_over(cells: Cells, parts: Sequence[Callable[[], pd.Series]]) -> pd.Series:
    """Mean of the parts that are not at an edge; what is goes to `cells.left_out`.

    Raises:
      AtEdge: all of them are.
    """
    return mean_of(list(apart_from_edges(cells, parts).values()))


def apart_from_edges(
    cells: Cells, parts: Sequence[Callable[[], T]], fewest: int = 1
) -> dict[int, T]:
    """Place -> numbers of each part that is not at an edge; what is goes to `cells.left_out`.

    Raises:
      AtEdge: fewer than `fewest` are left.
    """
    found, out = {}, []
    for place, part in enumerate(parts):
        try:
            found[place] = part()
        except AtEdge as what:
            out.append(what)
    if len(found) < fewest:
        raise out[0]
    cells.left_out.extend(out)
    return found


def slope_of(x: Sequence[float], parts: Sequence[pd.Series]) -> pd.Series:
    """Least-squares slope on x of the numbers of each replicate; NaN where one is missing."""
    place = np.asarray(x, float) - np.mean(x)
    weights = place / (place @ place)
    terms = [weight * part for weight, part in zip(weights, parts, strict=True)]
    return cast(pd.Series, sum(terms[1:], start=terms[0]))


def chosen_elsewhere(curve: pd.DataFrame) -> pd.Series:
    """Each replicate's score in the column whose mean over the target's *other* replicates is highest.

    So no replicate helps to choose what it scores. NaN for the only replicate of a target.

    Args:
      curve: (target, replicate) x options, without gaps.
    """
    found = []
    for _, own in curve.groupby(level="target", sort=False):
        scores = own.to_numpy(float)
        if len(scores) < 2:
            found.append(pd.Series(np.nan, own.index))
            continue
        others = (scores.sum(axis=0) - scores) / (len(scores) - 1)
        found.append(pd.Series(scores[np.arange(len(scores)), others.argmax(axis=1)], own.index))
    return pd.concat(found) if found else pd.Series(np.nan, curve.index)
