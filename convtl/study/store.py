"""Rows on disk: append-only files, one for each writing process, and the table made of them.

A row is one line of JSON. A torn last line (a killed writer) is skipped. Of two final rows of one trial
the first by (file, line) counts, so that everyone who reads the folder sees the same table.
"""

import csv
import io
import json
import os
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

from convtl.errors import StorageError
from convtl.files import sweep, try_writing, written
from convtl.secrets import redacted
from convtl.study.program import commit

COLUMNS = (
    "study", "trial", "config", "model", "source", "similarity", "target", "regime", "depth", "depth_unit",
    "trained_units", "n_per_class", "n_train", "replicate", "lr", "lr_at_edge", "n_rates", "updates",
    "val_regime", "n_val", "val_accuracy", "test_accuracy", "test_nll", "test_ece", "n_test",
    "source_accuracy", "source_accuracy_by_part", "source_classes", "source_images", "trained_weights",
    "flops_per_update", "seconds", "frozen_ok", "augmented", "moved", "subset_digest", "mmd2", "frechet",
    "otdd", "leep", "nce", "logme", "h_score", "knn", "linear_probe", "status", "reason", "commit",
)  # fmt: skip
"""Columns of results.csv; those of additional axes come after them."""

PARTS = ("near", "far")
"""The two kinds of classes of a mixture, in the order of `source_accuracy_by_part`."""

FINAL = ("done", "diverged")
"""Statuses that are not tried again."""

Row = dict[str, Any]


@contextmanager
def accessible(out: Path, doing: str = "write in") -> Iterator[None]:
    """Turns what the file system refuses into one plain line."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"out: cannot {doing} '{out}': {error.strerror or error}") from None


@contextmanager
def saying_what_is_saved(store: "RowStore", saved: Callable[[], tuple[int, int]]) -> Iterator[None]:
    """Adds what is saved to the line of what the file system refuses, once a study is at work.

    Args:
      saved: how many trials need not be run again, and how many there are.
    """
    try:
        yield
    except StorageError as error:
        if not store.prepared and not (store.out / "rows").is_dir():
            raise  # nothing has begun
        done, of = saved()  # says so itself where all is gone
        goes_on = "the same command goes on from there"
        raise StorageError(f"{error}; {done} of {of} trials are saved, {goes_on}") from None


class RowStore:
    """The rows of one `out` folder.

    Attributes:
      diverged: those of the finished trials that left no net, as of the last call of `finished`.
      prepared: whether the folder was there and could be written to.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._folder = out / "rows"
        self._file: Path | None = None
        self.prepared = False
        self._read_until: dict[Path, int] = {}
        self._finished: set[str] = set()
        self.diverged: set[str] = set()

    def prepare(self) -> None:
        """Makes the folder and proves that it can be written to.

        Raises:
          UserError: it cannot.
        """
        with accessible(self.out):
            self._folder.mkdir(parents=True, exist_ok=True)
            try_writing(self.out)
            self.prepared = True
            self.sweep()

    def sweep(self) -> None:
        """Removes what killed processes left half written."""
        with suppress(OSError):
            sweep([self.out, *(path for path in self.out.iterdir() if path.is_dir())])

    def append(self, row: Row) -> None:
        """Adds one row; when this returns, the row survives a kill of the process.

        A row that does not say so yet gets the commit of the program that made it: this one.

        Raises:
          UserError: it cannot be written, and no part of it is.
        """
        row = {"commit": commit(), **row}
        line = redacted(json.dumps(row, sort_keys=True, ensure_ascii=False)).encode() + b"\n"
        with accessible(self.out):
            if self._file is None:
                name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
                self._file = self._folder / name
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
        """Trial id -> its row: the first final one, or the first that says what moved; else the last one."""
        rows: dict[str, Row] = {}
        for row in chain.from_iterable(self.files()):
            known = rows.get(row["trial"])
            again = bool(row.get("moved")) and known is not None and not known.get("moved")
            if known is None or known.get("status") not in FINAL or again:
                rows[row["trial"]] = {
                    "commit": None,
                    **row,
                }  # from before rows were signed: not this program's
        return rows

    def files(self) -> Iterator[list[Row]]:
        """The rows of each file as they were written, repeated ones too: what one process did."""
        with accessible(self.out, "read"):
            for path in self._paths():
                yield list(_parse(path.read_bytes()))

    def finished(self) -> set[str]:
        """Ids of the trials with a final row, from any process; reads only what is new since the last call."""
        with accessible(self.out, "read"):
            for path in self._paths():
                with path.open("rb") as file:
                    file.seek(self._read_until.get(path, 0))
                    new = file.read()
                whole = new[: new.rfind(b"\n") + 1]
                self._read_until[path] = self._read_until.get(path, 0) + len(whole)
                final = [row for row in _parse(whole) if row.get("status") in FINAL]
                self._finished |= {row["trial"] for row in final}
                self.diverged |= {row["trial"] for row in final if row["status"] == "diverged"}
        return self._finished

    def _paths(self) -> list[Path]:
        """The files of rows, in the order of their names."""
        if self.prepared and not self._folder.is_dir():  # a glob would take it for an empty one
            raise StorageError(
                f"out: '{self.out}' is gone, and what was saved in it; once it is back, the same command goes on"
            )
        return sorted(self._folder.glob("*.jsonl"))

    def write_table(self, rows: Iterable[Row]) -> Path:
        """Writes results.csv, sorted by the axes, in one step."""
        listed = sorted(rows, key=_order)
        extra = sorted({key for row in listed for key in row.get("axes", {})})
        path = self.out / "results.csv"
        with accessible(self.out), written(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
            writer = csv.writer(text)
            writer.writerow([*COLUMNS, *extra])
            writer.writerows(_cells(row, extra) for row in listed)
            text.detach()
        return path


def _parse(content: bytes) -> Iterator[Row]:
    """The rows in whole lines; what was torn by a kill is skipped."""
    for line in content.splitlines(keepends=True):
        if line.endswith(b"\n"):
            with suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and "trial" in row:
                    yield row


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    names = tuple(str(row.get(key, "")) for key in ("study", "model", "regime", "target", "source"))
    numbers = tuple(int(row.get(key) or 0) for key in ("depth", "n_per_class", "updates", "replicate"))
    return (*names, *numbers, json.dumps(row.get("axes", {}), sort_keys=True), row["trial"])


def _cells(row: Mapping[str, Any], extra: Sequence[str]) -> list[Any]:
    """Cells of one line; what is nested (`moved`, a mixture's accuracies) as JSON."""
    flat = {**row, "source_accuracy_by_part": by_part(row)}
    own = [flat.get(key) for key in COLUMNS] + [row.get("axes", {}).get(key) for key in extra]
    return [json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value for value in own]


def by_part(row: Mapping[str, Any]) -> dict[str, float] | None:
    """Accuracies of a source net on the near and the far classes of its mixture; None where it is of one kind."""
    parts = row.get("source_accuracy_by_part") or ()
    return dict(zip(PARTS, parts, strict=True)) if len(parts) == len(PARTS) else None
