"""results.csv: one line a trial, sorted by the axes."""

import csv
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TextIO

import numpy as np

from convtl.study.columns import Table

COLUMNS = (
    "study",
    "trial",
    "config",
    "model",
    "source",
    "similarity",
    "target",
    "regime",
    "depth",
    "depth_unit",
    "trained_units",
    "n_per_class",
    "n_train",
    "replicate",
    "lr",
    "lr_at_edge",
    "n_rates",
    "updates",
    "val_regime",
    "n_val",
    "val_accuracy",
    "test_accuracy",
    "test_nll",
    "test_ece",
    "n_test",
    "source_accuracy",
    "source_accuracy_by_part",
    "source_classes",
    "source_images",
    "trained_weights",
    "flops_per_update",
    "seconds",
    "frozen_ok",
    "augmented",
    "moved",
    "subset_digest",
    "mmd2",
    "frechet",
    "otdd",
    "leep",
    "nce",
    "logme",
    "h_score",
    "knn",
    "linear_probe",
    "status",
    "reason",
    "commit",
)
"""Columns of results.csv; those of additional axes come after them."""

PARTS = ("near", "far")
"""The two kinds of classes of a mixture, in the order of `source_accuracy_by_part`."""

_NAMES = ("study", "model", "regime", "target", "source")
_NUMBERS = ("depth", "n_per_class", "updates", "replicate")
_AT_ONCE = 20_000
"""Lines whose cells are made together."""


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
