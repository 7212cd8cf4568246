"""Rows of a study in `out`, locks on trials, records of invocations.

Rows are in append-only files, one for each writing process. A torn line is skipped, a damaged one left out and
reported; the trial of either is run again. Of two final rows of a trial the first by (file, line) counts. Compressed
files (`*.jsonl.gz`), rows that were kept elsewhere, are only read.
"""

import csv
import gzip
import io
import json
import os
import platform
import sys
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock
import yaml

from convtl.config.schema import RESULTS_VERSION
from convtl.errors import StorageError, UserError, redact
from convtl.keys import digest
from convtl.storage.files import storage_errors, sweep, take_lock, temporary_folder, written
from convtl.study.grid import Trial
from convtl.study.rows import FINAL, OtherVersionError, Row, commit, line_of, parse_line
from convtl.training.checkpoints import CHECKPOINTS

_PREFIX = 3  # hexadecimal digits of a trial's id that name its lock file: at most 4,096 files

accessible = partial(storage_errors, "out")
"""Raises errors of the file system about `out` as one line."""


def other_version(out: Path, commit_of_rows: str | None) -> UserError:
    commit = commit_of_rows or "189ef52"  # the last one of the first version
    return UserError(
        f"out: '{out}' was written by another version of convtl; commit {commit} reads it; "
        "accepted: a folder of this version, or a new one"
    )


def lines_of(path: Path, begin: int = 0) -> Iterator[bytes]:
    """Yield the lines of a file of rows, of an uncompressed one from a byte on."""
    if path.suffix != ".gz":
        with path.open("rb") as file:
            file.seek(begin)
            yield from file
        return
    try:
        with gzip.open(path) as packed:
            yield from packed
    except (EOFError, gzip.BadGzipFile, zlib.error):
        _report_damage(path)


def intact(path: Path, lines: Iterable[bytes]) -> Iterator[Row]:
    """Yield the rows of a file's whole lines; report damaged ones once."""
    for line in lines:
        try:
            if line.endswith(b"\n"):  # else a kill has torn it, or it is being written
                yield parse_line(line)
        except OtherVersionError as error:
            raise other_version(path.parent.parent, error.args[0]) from None
        except ValueError:
            _report_damage(path)


@cache
def _report_damage(path: Path) -> None:
    line = f"convtl: out: damaged rows left out of '{path}'; convtl.run runs these trials again"
    print(line, file=sys.stderr)


class RowStore:
    """The rows of one `out` folder."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / "rows"
        self.prepared = False
        self._file: Path | None = None
        self._read_until: dict[str, int] = {}
        self._finished: dict[str, str] = {}

    def prepare(self) -> None:
        """Make the folder, or raise a StorageError where it cannot be written to."""
        with accessible(self.out):
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary_folder(self.out / "probe"):
                self.prepared = True
        self.sweep()

    def sweep(self) -> None:
        """Remove half-written files of killed processes, but no checkpoints."""
        with suppress(OSError):
            folders = [path for path in self.out.iterdir() if path.is_dir()]
            sweep([self.out, *(path for path in folders if path.name != CHECKPOINTS)])

    def append(self, row: Row) -> None:
        """Add one row, signed with the program's commit, and flush it to disk."""
        line = line_of(redact({"commit": commit(), **row}))
        parse_line(line)
        with accessible(self.out):
            self._file = self._file or self.folder / f"{uuid.uuid4().hex}.jsonl"
            try:
                with self._file.open("ab") as file:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                self._file = None  # should half a row stay, the next one begins another file
                raise

    def read(self) -> dict[str, Row]:
        """Trial id -> row: the first final or first with `moved`; else the last."""
        rows: dict[str, Row] = {}
        with accessible(self.out, "read"):
            for path in self.paths():
                for row in intact(path, lines_of(path)):
                    earlier = rows.setdefault(row["trial"], row)
                    adds = bool(row.get("moved")) and not earlier.get("moved")
                    if earlier["status"] not in FINAL or adds:
                        rows[row["trial"]] = row
        return rows

    def finished(self) -> dict[str, str]:
        """Trial id -> status of its final row, or "moved"; reads only new rows."""
        with accessible(self.out, "read"):
            for path in self.paths():
                begin, size = self._read_until.get(path.name, 0), path.stat().st_size
                if size <= begin:
                    continue
                lines = [line for line in lines_of(path, begin) if line.endswith(b"\n")]
                whole = size if path.suffix == ".gz" else begin + sum(map(len, lines))
                self._read_until[path.name] = whole
                for row in intact(path, lines):
                    if row.get("moved"):
                        self._finished[row["trial"]] = "moved"
                    elif row["status"] in FINAL:
                        self._finished.setdefault(row["trial"], row["status"])
        return self._finished

    def paths(self) -> list[Path]:
        """Files of rows, by name; StorageError where the folder is gone since `prepare`."""
        if not self.folder.is_dir() and self.prepared:
            raise StorageError(
                f"out: '{self.out}' is gone, and what was saved in it; once it is back, the same command goes on"
            )
        return sorted(path for end in ("", ".gz") for path in self.folder.glob(f"*.jsonl{end}"))


class TrialLocks:
    """Locks on trials of this process; ids with the same prefix share a file."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._files: dict[str, filelock.BaseFileLock] = {}
        self._trials: set[str] = set()

    def take(self, trial: str) -> bool:
        """Lock a trial; return False if another process holds its lock file."""
        prefix = trial[:_PREFIX]
        if prefix not in self._files:
            lock = take_lock("out", self._out, f"trials-{prefix}")
            if lock is None:
                return False
            self._files[prefix] = lock
        self._trials.add(trial)
        return True

    def release(self, trials: Iterable[str]) -> None:
        self._trials.difference_update(trials)
        in_use = {trial[:_PREFIX] for trial in self._trials}
        for prefix in self._files.keys() - in_use:
            self._files.pop(prefix).release()

    def close(self) -> None:
        self.release(list(self._trials))


POINT = ("trial", "config", "axes", "source", "similarity")  # columns of the table of trials
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
    """Return each trial's place in the study: enough to report it without its data."""
    return [
        {
            "trial": point.id,
            "config": point.config,
            "axes": json.dumps(dict(point.axes), ensure_ascii=False),
            "source": point.source,
            "similarity": point.similarity,
        }
        for point in points
    ]


def record_path(out: Path, config: Mapping[str, Any]) -> Path:
    """Return the file of the record of a config."""
    return out / "configs" / f"{digest(config)}.yaml"


def write_record(out: Path, record: Mapping[str, Any]) -> Path:
    """Write a record; reports are made of the newest of a folder by default."""
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
