"""The record of an invocation, beside the results: its config, command, versions and trials.

`configs/<digest of the config>.yaml`, and `.points.csv` with the place of each trial in the study.
"""

import csv
import io
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from convtl.config.schema import RESULTS_VERSION
from convtl.keys import digest
from convtl.secrets import redact
from convtl.storage.files import written
from convtl.study.grid import Trial
from convtl.study.program import commit
from convtl.study.store import accessible

POINT = ("trial", "config", "axes", "source", "similarity")
"""Columns of the table of trials."""
_PACKAGES = (
    "convtl",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "tensorflow-datasets",
    "hydra-core",
    "numpy",
    "matplotlib",
    "scikit-image",
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that matter."""
    installed = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


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
        "contents": named_contents(points),
    }


def record_path(out: Path, config: Mapping[str, Any]) -> Path:
    """Return the file of the record of a config."""
    return out / "configs" / f"{digest(config)}.yaml"


def write_record(out: Path, record: Mapping[str, Any]) -> Path:
    """Write a record; the newest of a folder is what a report is made of by default.

    Raises:
      StorageError: it cannot be written.
    """
    path = record_path(out, record["config"])
    table = path.with_suffix(".points.csv")
    content = redact({**record, "points": table.name})
    with accessible(out):
        with written(table) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
            writer = csv.writer(text)
            writer.writerow(POINT)
            for point in record["points"]:
                cells = point | {"axes": json.dumps(point["axes"], ensure_ascii=False)}
                writer.writerow([cells[name] for name in POINT])
            text.detach()
        with written(path) as file:
            file.write(yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())
    return path


def planned(points: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return the place of each trial in the study: enough to report it without its data."""
    return [
        {
            "trial": point.id,
            "config": point.config,
            "axes": dict(point.axes),
            "source": point.source,
            "similarity": point.similarity,
        }
        for point in points
    ]


def named_contents(points: Sequence[Trial]) -> dict[str, dict[str, str]]:
    """Return role -> name -> digest of its content; names that an axis varies are left out."""
    digests: dict[str, dict[str, set[str]]] = {}
    for point in points:
        for role, content in point.contents.items():
            digests.setdefault(role, {}).setdefault(str(getattr(point, role)), set()).add(content)
    return {
        role: {name: next(iter(contents)) for name, contents in names.items() if len(contents) == 1}
        for role, names in digests.items()
    }
