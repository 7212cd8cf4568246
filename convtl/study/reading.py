"""Files of rows to columns: in processes side by side where that takes longer than to start them."""

import json
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

from convtl.runtime.cores import core_count
from convtl.study.columns import Gathering, Row, Table

_ALONE = 100 * 2**20
"""Bytes that one process reads in about the time that others take to start."""
_SHARE = 20 * 2**20
"""Bytes that a process reads before it hands over what it has."""


def parse(lines: Iterable[bytes]) -> Iterator[Row]:
    """The rows in whole lines; what was torn by a kill is skipped."""
    for line in lines:
        if line.endswith(b"\n"):
            with suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and "trial" in row:
                    yield row


def read_files(paths: Sequence[Path]) -> tuple[Table, list[int]]:
    """All rows as they were written, repeated ones too, and how many of them each file has.

    Raises:
      OSError: a file cannot be read.
    """
    sizes = [path.stat().st_size for path in paths]
    if sum(sizes) <= _ALONE or core_count() == 1:
        return _read(paths)
    gathered, counts = Gathering(), list[int]()
    # not forked: what this process runs beside Python would not live on in its copies
    with ProcessPoolExecutor(core_count(), multiprocessing.get_context("spawn")) as pool:
        for table, own in pool.map(_read, _shares(paths, sizes)):
            gathered.extend(table)
            counts += own
    return gathered.table(), counts


def _shares(paths: Sequence[Path], sizes: Sequence[int]) -> list[list[Path]]:
    """The files in their order, in parts of about the same size."""
    shares, held = [list[Path]()], 0
    for path, size in zip(paths, sizes, strict=True):
        if held > _SHARE:
            shares, held = [*shares, []], 0
        shares[-1].append(path)
        held += size
    return shares


def _read(paths: Sequence[Path]) -> tuple[Table, list[int]]:
    gathered, counts = Gathering(pack=True), list[int]()
    for path in paths:
        before = len(gathered)
        with path.open("rb") as file:
            for row in parse(file):
                gathered.add(row)
        counts.append(len(gathered) - before)
    return gathered.table(), counts
