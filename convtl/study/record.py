"""The record of an invocation, beside the results: its config, command, versions and trials.

`configs/<digest of the config>.yaml`, and `.points.csv` with the place of each trial in the study.
"""

import csv
import io
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from convtl.config.schema import RESULTS_VERSION
from convtl.keys import digest
from convtl.secrets import redact
from convtl.storage.files import written
from convtl.study.grid import Trial
from convtl.study.rows import commit
from convtl.study.store import accessible

POINT = ("trial", "config", "axes", "source", "similarity")
"""Columns of the table of trials."""
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-image")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change numbers."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def make_record(
    content: Mapping[str, Any], points: Sequence[Trial], command: str, device: str
) -> dict[str, Any]:
    """Return the record of an invocation as plain data."""
    return {
        "results_version": RESULTS_VERSION,
        "command": command,
        "commit": commit(),
        "device": device,
        "versions": versions(),
        "config": dict(content),
        "points": planned(points),
    }


def planned(points: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return the place of each trial in the study, its axes as JSON: enough to report it without its data."""
    axes = (json.dumps(dict(point.axes), ensure_ascii=False) for point in points)
    places = (
        (point.id, point.config, text, point.source, point.similarity)
        for point, text in zip(points, axes, strict=True)
    )
    return [dict(zip(POINT, place, strict=True)) for place in places]


def record_path(out: Path, config: Mapping[str, Any]) -> Path:
    """Return the file of the record of a config."""
    return out / "configs" / f"{digest(config)}.yaml"


def write_record(out: Path, record: Mapping[str, Any]) -> Path:
    """Write a record; the newest of a folder is what a report is made of by default."""
    path = record_path(out, record["config"])
    table = path.with_suffix(".points.csv")
    lines = io.StringIO(newline="")
    writer = csv.DictWriter(lines, POINT)
    writer.writeheader()
    writer.writerows(record["points"])
    text = yaml.safe_dump(
        redact({**record, "points": table.name}), sort_keys=False, allow_unicode=True
    )
    with accessible(out):
        path.parent.mkdir(exist_ok=True)
        for file_path, content in ((table, lines.getvalue()), (path, text)):
            with written(file_path) as file:
                file.write(content.encode())
    return path
