"""The records of a folder's invocations, read back."""

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from convtl.analysis.columns import Column, Table, column_of
from convtl.config.schema import RESULTS_VERSION
from convtl.errors import UserError
from convtl.study.store import POINT, accessible, other_version, record_path

_PATHS = ("out", "cache", "replication", "publish", "path")
"""Keys of folders: where somebody keeps results is no part of how they are made."""


def run_on(out: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the processes that ran a study said of themselves; empty if they left no record of it."""
    path = record_path(out, record["config"])
    if not path.is_file():
        return {}
    return {key: value for key, value in _read(path).items() if key in ("device", "versions")}


def newest_record(out: Path) -> dict[str, Any]:
    """The record of the last invocation.

    Raises:
      UserError: the folder holds no study.
    """
    if not (found := _records(out)):
        raise UserError(f"out: no study in '{out}'; accepted: a folder that convtl.run has written")
    return _read(found[-1])


def _records(out: Path) -> list[Path]:
    """Those of all distinct invocations, the newest last."""
    with accessible(out, "read"):
        return sorted(
            (out / "configs").glob("*.yaml"), key=lambda path: (path.stat().st_mtime_ns, path.name)
        )


def _read(path: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built
    with accessible(path.parent.parent, "read"):
        try:
            record = yaml.load(path.read_text(encoding="utf-8"), loader)
            if isinstance(record, dict) and isinstance(record.get("points"), str):
                record["points"] = _read_points(path.with_name(record["points"]))
        except (yaml.YAMLError, ValueError, KeyError):
            record = None
    if (
        isinstance(record, dict)
        and "commit" in record
        and record.get("results_version") != RESULTS_VERSION
    ):
        raise other_version(path.parent.parent, record["commit"])
    if not _complete(record):
        raise UserError(f"out: '{path}' is no record of a run")
    return record


def _read_points(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        names = next(lines, [])
        cells = list(zip(*lines, strict=True)) or [()] * len(names)
    known: dict[Any, Any] = {}
    values = dict(zip(names, cells, strict=True))
    shares = {text: float(text) if text else None for text in set(values["similarity"])}
    axes = {text: json.loads(text) for text in set(values["axes"])}
    columns: dict[str, Column] = {name: column_of(values[name], known) for name in POINT}
    columns["similarity"] = column_of([shares[text] for text in values["similarity"]])
    columns["axes"] = column_of([axes[text] for text in values["axes"]])
    return Table(columns, len(values["trial"]))


def without_paths(command: str) -> str:
    """A command, or a text with commands, without the folders that it names."""
    keys = "|".join(_PATHS)
    return re.sub(rf"(?<=\S) (?:(?:{keys})=(?:'[^']*'|[^\s`]+)|'(?:{keys})=[^']*')", "", command)


def _complete(record: Any) -> bool:
    kinds = {"config": dict, "points": list | Table}
    return isinstance(record, dict) and all(
        isinstance(record.get(key), kind) for key, kind in kinds.items()
    )
