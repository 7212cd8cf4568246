"""results.csv: one line a trial, sorted by the axes."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from convtl.analysis.columns import Table, column_of
from convtl.storage.files import written
from convtl.study.rows import COLUMNS
from convtl.study.similarity import place_of
from convtl.study.store import accessible

PARTS = ("near", "far")
"""The two kinds of classes of a mixture, in the order of `source_accuracy_by_part`."""

_NAMES = ("study", "model", "regime", "target", "source")
_NUMBERS = ("depth", "n_per_class", "updates", "replicate")
_AT_ONCE = 20_000
"""Lines whose cells are made together."""


def write_table(out: Path, rows: Table | Iterable[Mapping[str, Any]]) -> Path:
    """Write results.csv of a study's folder, sorted by the axes, in one step."""
    table = in_order(Table.of(rows))
    path = out / "results.csv"
    with accessible(out), written(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        write_csv(table, text)
        text.detach()
    return path


def in_order(table: Table) -> Table:
    """The rows sorted by names, then numbers, then additional axes; equal ones by trial."""
    keys = [_rank(table.mapped(name, str, "")) for name in _NAMES]
    keys += [
        np.array(table.mapped(name, lambda value: int(value or 0)), np.int64) for name in _NUMBERS
    ]
    keys.append(_rank(table.mapped("axes", lambda axes: json.dumps(axes, sort_keys=True), {})))
    keys.append(_rank(table.objects("trial")))
    return table.take(np.lexsort(keys[::-1]))


def _rank(values: list[Any]) -> np.ndarray:
    places = {value: place for place, value in enumerate(sorted(set(values)))}
    return np.array([places[value] for value in values], np.int64)


def write_csv(table: Table, file: TextIO) -> None:
    """All rows; what is nested (`moved`, a mixture's accuracies) as JSON, additional axes as columns at the end."""
    extra = sorted({key for axes in table.distinct("axes", {}) for key in axes})
    writer = csv.writer(file)
    writer.writerow([*COLUMNS, *extra])
    for start in range(0, len(table), _AT_ONCE):
        part = table.take(slice(start, start + _AT_ONCE))
        cells = [_cells(part, name) for name in COLUMNS]
        cells += [part.mapped("axes", partial(_of_axis, key), {}) for key in extra]
        writer.writerows(zip(*cells, strict=True))


def _cells(part: Table, name: str) -> list[Any]:
    if part.column(name).values.dtype != object:
        return part.objects(name)  # numbers stand as they are
    return part.mapped(name, _changes.get(name, _cell))


def _of_axis(key: str, axes: Mapping[str, Any]) -> Any:
    return _cell(axes.get(key))


def _cell(value: Any) -> Any:
    """A value as it stands in a cell; text that a spreadsheet would take for a formula gets a quote before it."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


def by_part(row: Mapping[str, Any]) -> dict[str, float] | None:
    """Accuracies of a source net on the near and the far classes of its mixture; None where it is of one kind."""
    return _named(row.get("source_accuracy_by_part"))


def _named(parts: Any) -> dict[str, float] | None:
    parts = parts or ()
    return dict(zip(PARTS, parts, strict=True)) if len(parts) == len(PARTS) else None


_changes: Mapping[str, Callable[[Any], Any]] = {
    "source_accuracy_by_part": lambda parts: _cell(_named(parts))
}


def with_similarity(
    rows: Iterable[Mapping[str, Any]], measured: Mapping[str, Mapping[str, float]]
) -> Table:
    """Rows with the measures of their source and target as columns."""
    table = Table.of(rows)
    if not measured:
        return table
    by_row = [measured.get(place_of(row), {}) if "contents" in row else {} for row in table]
    columns = {}
    for name in dict.fromkeys(name for measures in measured.values() for name in measures):
        before = table.column(name).objects()
        columns[name] = column_of(
            [measures.get(name, old) for measures, old in zip(by_row, before, strict=True)]
        )
    return table.with_columns(columns)
