"""What was asked for, kept beside the results: one resolved config for each distinct invocation."""

import platform
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from convtl.errors import UserError
from convtl.keys import digest
from convtl.study.grid import Trial
from convtl.study.store import accessible

_PACKAGES = ("convtl", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "hydra-core",
             "numpy", "matplotlib", "scikit-image")  # fmt: skip


def versions() -> dict[str, str]:
    """Python's and the packages' versions, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Git commit of a checkout of convtl; None for an installed package."""
    folder = Path(__file__).parent
    if not (folder.parent.parent / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


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
    """Writes `configs/<digest>.yaml`; the newest of them is what a report is made of by default."""
    path = out / "configs" / f"{digest(record['config'])}.yaml"
    with accessible(out):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        text = yaml.safe_dump(dict(record), sort_keys=False, allow_unicode=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    return path


def planned(points: Sequence[Trial]) -> list[dict[str, Any]]:
    """Where each trial stands in the study: enough to report it without its data at hand."""
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
    """The record of the last invocation.

    Raises:
      UserError: the folder holds no study.
    """
    with accessible(out, "read"):
        found = sorted(
            (out / "configs").glob("*.yaml"), key=lambda path: (path.stat().st_mtime_ns, path.name)
        )
        if not found:
            raise UserError(f"out: no study in '{out}'; accepted: a folder that convtl.run has written")
    return _read(found[-1])


def _read(path: Path) -> dict[str, Any]:
    with accessible(path.parent.parent, "read"):
        try:
            record = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            record = None
    if not _complete(record):
        raise UserError(f"out: '{path}' is no record of a run")
    return record


def _complete(record: Any) -> bool:
    kinds = {"config": dict, "points": list, "contents": dict}
    return isinstance(record, dict) and all(isinstance(record.get(key), kind) for key, kind in kinds.items())
