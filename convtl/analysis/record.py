"""Reading of the records of a folder's invocations."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from convtl.config.schema import RESULTS_VERSION
from convtl.errors import UserError
from convtl.study.store import POINT, accessible, other_version, record_path

_PATHS = ("out", "cache", "replication", "publish", "path")
"""Keys of folders, which do not change results."""


def run_on(out: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return device and versions of the processes that ran a study; empty if unknown."""
    path = record_path(out, record["config"])
    if not path.is_file():
        return {}
    return {key: value for key, value in _read(path).items() if key in ("device", "versions")}


def newest_record(out: Path) -> dict[str, Any]:
    """Return the record of the last invocation.

    Raises:
      UserError: the folder holds no study.
    """
    if not (paths := _records(out)):
        raise UserError(f"out: no study in '{out}'; accepted: a folder that convtl.run has written")
    return _read(paths[-1])


def _records(out: Path) -> list[Path]:
    """List the records of all distinct invocations, the newest last."""
    with accessible(out, "read"):
        return sorted(
            (out / "configs").glob("*.yaml"), key=lambda path: (path.stat().st_mtime_ns, path.name)
        )


def _read(path: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built
    record: Any = None
    with accessible(path.parent.parent, "read"), suppress(yaml.YAMLError, ValueError, KeyError):
        record = yaml.load(path.read_text(encoding="utf-8"), loader)
        if isinstance(record, dict) and isinstance(record.get("points"), str):
            record["points"] = _read_points(path.with_name(record["points"]))
    record = record if isinstance(record, dict) else {}
    if "commit" in record and record.get("results_version") != RESULTS_VERSION:
        raise other_version(path.parent.parent, record["commit"])
    kinds = {"config": dict, "points": pd.DataFrame}
    if not all(isinstance(record.get(key), kind) for key, kind in kinds.items()):
        raise UserError(f"out: '{path}' is no record of a run")
    return record


def _read_points(path: Path) -> pd.DataFrame:
    """The trials with their places in the study; `axes` stays JSON."""
    points = pd.read_csv(path, dtype="str", keep_default_na=False)[list(POINT)]
    for text in points["axes"].unique():
        json.loads(text)
    numbers = points["similarity"].replace("", "nan").astype(object)
    return points.assign(similarity=numbers.astype("float64"))


def without_paths(command: str) -> str:
    """Remove the folders from a command, or from a text with commands."""
    keys = "|".join(_PATHS)
    return re.sub(rf"(?<=\S) (?:(?:{keys})=(?:'[^']*'|[^\s`]+)|'(?:{keys})=[^']*')", "", command)
