"""Files of rows to columns: in processes side by side where that takes longer than to start them."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from convtl.analysis.columns import Gathering, Rows, Table
from convtl.runtime.cores import core_count
from convtl.study.rows import FINAL
from convtl.study.store import RowStore, accessible, intact, lines_of

_ALONE = 100 * 2**20
"""Bytes that one process reads in about the time that others take to start."""
_SHARE = 20 * 2**20
"""Bytes that a process reads before it hands over what it has."""


def read_rows(out: Path) -> Rows:
    """Trial id -> its row: the first final one, or the first that says what moved; else the last one.

    Raises:
      UserError: the rows cannot be read, or are another version's.
    """
    with accessible(out, "read"):
        table = read_files(RowStore(out).paths())
    return Rows(table.take(_counting(table)))


def _counting(table: Table) -> np.ndarray:
    """Of all rows in the order of their files those that count, one a trial."""
    places: dict[str, int] = {}
    open_ones, with_moved = set[str](), set[str]()
    trials = table.objects("trial")
    final, moves = table.mapped("status", FINAL.__contains__), table.mapped("moved", bool)
    for place, (trial, ended, moved) in enumerate(zip(trials, final, moves, strict=True)):
        if trial in places and trial not in open_ones and (trial in with_moved or not moved):
            continue
        places[trial] = place
        (open_ones.discard if ended else open_ones.add)(trial)
        (with_moved.add if moved else with_moved.discard)(trial)
    return np.fromiter(places.values(), np.int64, len(places))


def read_files(paths: Sequence[Path]) -> Table:
    """All rows as they were written, repeated ones too.

    Raises:
      OSError: a file cannot be read.
      UserError: the rows are another version's.
    """
    sizes = [path.stat().st_size for path in paths]
    if sum(sizes) <= _ALONE or core_count() == 1:
        return _read(paths)
    gathered = Gathering()
    # not forked: what this process runs beside Python would not live on in its copies
    with ProcessPoolExecutor(core_count(), multiprocessing.get_context("spawn")) as pool:
        for table in pool.map(_read, _shares(paths, sizes)):
            gathered.extend(table)
    return gathered.table()


def _shares(paths: Sequence[Path], sizes: Sequence[int]) -> list[list[Path]]:
    """The files in their order, in parts of about the same size."""
    shares, held = [list[Path]()], 0
    for path, size in zip(paths, sizes, strict=True):
        if held > _SHARE:
            shares, held = [*shares, []], 0
        shares[-1].append(path)
        held += size
    return shares


def _read(paths: Sequence[Path]) -> Table:
    gathered = Gathering(pack=True)
    for path in paths:
        for row in intact(path, lines_of(path)):
            gathered.add(row)
    return gathered.table()
