"""Rows on disk: append-only files, one for each writing process.

A line that a kill has torn is skipped, a damaged one is left out and reported; the trial of either is run again. Of
two final rows of one trial the first by (file, line) counts, so that all readers see the same table.
"""

import os
import socket
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from convtl.errors import StorageError, UserError
from convtl.secrets import redact
from convtl.storage.files import storage_errors, sweep, temporary_folder
from convtl.study.program import commit
from convtl.study.rows import FINAL, OtherVersionError, Row, line_of, parse_line

FIRST_VERSION = "189ef52"
"""Last commit of the first version of convtl."""

CHECKPOINTS = "checkpoints"
"""Folder of the runs in flight."""

accessible = partial(storage_errors, "out")
"""Raises errors of the file system about `out` as one line."""

_damaged: dict[Path, set[tuple[str, bytes]]] = {}
"""Folder -> file and content of every damaged line that this process has met."""
_reported: dict[Path, int] = {}
"""Folder -> number of damaged lines that the user was informed of."""


def other_version(out: Path, commit_of_rows: str | None) -> UserError:
    """Return the error for a folder that another version of convtl has written."""
    return UserError(
        f"out: '{out}' was written by another version of convtl; commit {commit_of_rows or FIRST_VERSION} reads it; "
        "accepted: a folder of this version, or a new one"
    )


def intact(folder: Path, name: str, lines: Iterable[bytes]) -> Iterator[Row]:
    """Yield the rows of the whole lines of one file, without the damaged ones (`report_damage`).

    Raises:
      UserError: another version of convtl has written them.
    """
    for line in lines:
        try:
            if line.endswith(b"\n"):  # else a kill has torn it, or it is being written
                yield parse_line(line)
        except OtherVersionError as error:
            raise other_version(folder.parent, error.args[0]) from None
        except ValueError:
            _damaged.setdefault(folder, set()).add((name, line))


def report_damage(folder: Path) -> None:
    """Print how many damaged lines of a folder were met, where they are more than at the last report."""
    count = len(_damaged.get(folder, ()))
    if count > _reported.get(folder, 0):
        _reported[folder] = count
        rows = f"{count} damaged row{'s' * (count > 1)} left out of '{folder}'"
        print(f"convtl: out: {rows}; convtl.run runs these trials again", file=sys.stderr)


@contextmanager
def saying_what_is_saved(store: "RowStore", saved: Callable[[], tuple[int, int]]) -> Iterator[None]:
    """Add to a storage error, once a study is at work, how much of it is saved.

    Args:
      saved: returns the numbers of finished trials and of all.
    """
    try:
        yield
    except StorageError as error:
        if not store.prepared and not (store.out / "rows").is_dir():
            raise  # nothing has begun
        done, total = saved()  # raises where all is gone
        raise StorageError(
            f"{error}; {done} of {total} trials are saved, the same command goes on from there"
        ) from None


class RowStore:
    """The rows of one `out` folder.

    Attributes:
      diverged: ids of the trials that diverged, as of the last call of `finished`.
      failed: ids of the trials whose last row says that they failed, as of that call.
      prepared: whether the folder exists and can be written to.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / "rows"
        self.prepared = False
        self.diverged: set[str] = set()
        self.failed: set[str] = set()
        self._file: Path | None = None
        self._read_until: dict[str, int] = {}
        self._finished: set[str] = set()

    def prepare(self) -> None:
        """Make the folder and check that it can be written to.

        Raises:
          StorageError: it cannot.
        """
        with accessible(self.out):
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary_folder(self.out / "probe"):
                self.prepared = True
        self.sweep()

    def sweep(self) -> None:
        """Remove what killed processes left half written, but for checkpoints (`Checkpoints` reads them)."""
        with suppress(OSError):
            folders = [path for path in self.out.iterdir() if path.is_dir()]
            sweep([self.out, *(path for path in folders if path.name != CHECKPOINTS)])

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row, signed with the program's commit; on return it survives a kill of the process.

        Raises:
          StorageError: it cannot be written, and no part of it is.
          ValueError: a field has a wrong name, type or value.
        """
        line = line_of(redact({"commit": commit(), **row}))
        parse_line(line)
        with accessible(self.out):
            if self._file is None:
                name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
                self._file = self.folder / name
            with self._file.open("ab", buffering=0) as file:
                before = file.tell()
                try:
                    while line:  # a disk that is nearly full takes the beginning of it
                        line = line[file.write(line) :]
                    os.fsync(file.fileno())
                except OSError:
                    self._file = None  # should half a row stay, the next one begins another file
                    with suppress(OSError):
                        os.ftruncate(file.fileno(), before)
                    raise

    def read(self) -> dict[str, Row]:
        """Trial id -> its row: the first final one, or the first that has `moved`; else the last one."""
        rows: dict[str, Row] = {}
        with accessible(self.out, "read"):
            for path in self.paths():
                with path.open("rb") as file:
                    for row in intact(self.folder, path.name, file):
                        earlier = rows.setdefault(row["trial"], row)
                        adds = bool(row.get("moved")) and not earlier.get("moved")
                        if earlier["status"] not in FINAL or adds:
                            rows[row["trial"]] = row
        report_damage(self.folder)
        return rows

    def finished(self) -> set[str]:
        """Ids of the trials with a final row, of any process; reads only what is new since the last call."""
        with accessible(self.out, "read"):
            for path in self.paths():
                begin = self._read_until.get(path.name, 0)
                if path.stat().st_size <= begin:
                    continue
                with path.open("rb") as file:
                    file.seek(begin)
                    lines = [line for line in file if line.endswith(b"\n")]
                self._read_until[path.name] = begin + sum(map(len, lines))
                for row in intact(self.folder, path.name, lines):
                    self._note(row)
        report_damage(self.folder)
        return self._finished

    def _note(self, row: Row) -> None:
        trial, status = row["trial"], row["status"]
        if status in FINAL:
            self._finished.add(trial)
        if status == "diverged":
            self.diverged.add(trial)
        (self.failed.add if status == "failed" else self.failed.discard)(trial)

    def paths(self) -> list[Path]:
        """The files of rows, in the order of their names.

        Raises:
          StorageError: the folder was prepared, and is gone.
        """
        if not self.folder.is_dir() and self.prepared:
            raise StorageError(
                f"out: '{self.out}' is gone, and what was saved in it; once it is back, the same command goes on"
            )
        return sorted(self.folder.glob("*.jsonl"))
