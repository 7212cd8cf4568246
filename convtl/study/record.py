"""What was asked for, kept beside the results: one resolved config for each distinct invocation.

Where each trial stands in its study is part of the record; of more than some thousand trials it is a table of its
own beside it, since YAML of a million takes minutes to read.
"""

import csv
import io
import json
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from convtl.config.roles import neutral_values
from convtl.config.schema import Config
from convtl.errors import UserError
from convtl.keys import digest
from convtl.secrets import redact
from convtl.storage.files import written
from convtl.study.columns import Column, Rows, Table, column_of
from convtl.study.grid import Trial
from convtl.study.program import commit
from convtl.study.store import RowStore, accessible

_PATHS = ("out", "cache", "replication", "publish", "path")
"""Keys of folders: where somebody keeps results is no part of how they are made."""
_IN_RECORD = 5_000
"""Most trials whose places are written in the record itself."""
_POINT = ("trial", "config", "axes", "source", "similarity")
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
    """Python's and the packages' versions, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def make_record(
    content: Mapping[str, Any], points: Sequence[Trial], command: str, device: str
) -> dict[str, Any]:
    """What is kept of an invocation, as plain data."""
    return {
        "command": command,
        "commit": commit(),
        "device": device,
        "versions": versions(),
        "config": dict(content),
        "points": planned(points),
        "contents": named_contents(points),
    }


def write_record(out: Path, record: Mapping[str, Any]) -> Path:
    """Writes `configs/<digest>.yaml`; the newest of them is what a report is made of by default.

    Where a study goes on under another commit, its record keeps the one that it began with (`first_commit`).
    """
    name = digest(record["config"])
    path = out / "configs" / f"{name}.yaml"
    with suppress(UserError):
        earlier = _read(path) if path.is_file() else record
        record = {**record, "first_commit": earlier.get("first_commit", earlier.get("commit"))}
    points = Table.of(record["points"])
    if len(points) > _IN_RECORD:
        beside = path.with_name(f"{name}.points.csv")
        with accessible(out):
            _write_points(points, beside)
        record = {**record, "points": beside.name}
    else:
        record = {**record, "points": list(points)}
    text = yaml.safe_dump(redact(dict(record)), sort_keys=False, allow_unicode=True)
    with accessible(out), written(path) as file:
        file.write(text.encode())
    return path


def _write_points(points: Table, path: Path) -> None:
    with written(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow(_POINT)
        spelt = {
            "axes": points.mapped("axes", lambda axes: json.dumps(axes, ensure_ascii=False), {})
        }
        columns = [spelt.get(name) or points.objects(name) for name in _POINT]
        writer.writerows(zip(*columns, strict=True))
        text.detach()


def _read_points(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        names = next(lines, [])
        cells = list(zip(*lines, strict=True))
    known: dict[Any, Any] = {}
    values = dict(zip(names, cells, strict=True))
    shares = {text: float(text) if text else None for text in set(values["similarity"])}
    axes = {text: json.loads(text) for text in set(values["axes"])}
    columns: dict[str, Column] = {name: column_of(values[name], known) for name in _POINT}
    columns["similarity"] = column_of([shares[text] for text in values["similarity"]])
    columns["axes"] = column_of([axes[text] for text in values["axes"]])
    return Table(columns, len(values["trial"]))


def run_on(out: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the processes that ran a study said of themselves; empty if they left no record of it."""
    path = out / "configs" / f"{digest(record['config'])}.yaml"
    if not path.is_file():
        return {}
    return {key: value for key, value in _read(path).items() if key in ("device", "versions")}


def planned(points: Sequence[Trial]) -> Table:
    """Where each trial stands in the study: enough to report it without its data at hand."""
    return Table.of(
        {
            "trial": point.id,
            "config": point.config,
            "axes": dict(point.axes),
            "source": point.source,
            "similarity": point.similarity,
        }
        for point in points
    )


def named_contents(points: Sequence[Trial]) -> dict[str, dict[str, str]]:
    """Role -> name -> digest of what the name stood for; names that an axis varies are left out."""
    found: dict[str, dict[str, set[str]]] = {}
    for point in points:
        for role, content in point.contents.items():
            found.setdefault(role, {}).setdefault(str(getattr(point, role)), set()).add(content)
    return {
        role: {name: next(iter(all_of)) for name, all_of in names.items() if len(all_of) == 1}
        for role, names in found.items()
    }


def newest_record(out: Path) -> dict[str, Any]:
    """The record of the last invocation; keys that its config is too old for have the values that change nothing.

    Raises:
      UserError: the folder holds no study.
    """
    if not (found := _records(out)):
        raise UserError(f"out: no study in '{out}'; accepted: a folder that convtl.run has written")
    record = _read(found[-1])
    return {**record, "config": {**neutral_values(Config), **record["config"]}}


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
    if not _complete(record):
        raise UserError(f"out: '{path}' is no record of a run")
    return record


def commits_of(store: RowStore, rows: Rows | None = None) -> dict[str, str | None]:
    """Trial id -> commit of the program that made its row; None where nothing is known.

    A row says it. One from before rows did was made, as all others of its file, by one invocation: the
    earliest that planned them.

    Args:
      rows: of the store, where they were read already.
    """
    signatures = (store.read() if rows is None else rows).signatures
    found, unsigned = dict(signatures.signed), signatures.unsigned
    if not any(unsigned):
        return found
    records = [_read(path) for path in _records(store.out)]
    plans = [(set(Table.of(record["points"]).objects("trial")), record) for record in records]
    planned = {trial for plan, _ in plans for trial in plan}
    for trials in unsigned:
        own = trials & planned  # the others chose learning rates
        commits = [
            record.get("first_commit", record.get("commit"))
            for plan, record in plans
            if own <= plan
        ]
        known = bool(commits) and (bool(own) or len(set(commits)) == 1)
        found |= dict.fromkeys(trials - set(found), commits[0] if known else None)
    return found


def without_paths(command: str) -> str:
    """A command, or a text with commands, without the folders that it names."""
    keys = "|".join(_PATHS)
    return re.sub(rf"(?<=\S) (?:(?:{keys})=(?:'[^']*'|[^\s`]+)|'(?:{keys})=[^']*')", "", command)


def _complete(record: Any) -> bool:
    kinds = {"config": dict, "points": list | Table, "contents": dict}
    return isinstance(record, dict) and all(
        isinstance(record.get(key), kind) for key, kind in kinds.items()
    )
