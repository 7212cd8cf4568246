"""Rows on disk: append-only files, one for each writing process, and the table made of them.

A row is one line of JSON. A torn last line (a killed writer) is skipped. Of two final rows of one trial
the first by (file, line) counts, so that everyone who reads the folder sees the same table.
"""

import io
import json
import os
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np

from convtl.errors import StorageError
from convtl.secrets import redact
from convtl.storage.files import storage_errors, sweep, temporary_folder, written
from convtl.study.columns import Row, Rows, Signatures, Table, column_of
from convtl.study.program import commit
from convtl.study.reading import parse, read_files
from convtl.study.results import in_order, write_csv

__all__ = ["FINAL", "Row", "RowStore", "accessible", "line_of"]

FINAL = ("done", "diverged")
"""Statuses that are not tried again."""

CHECKPOINTS = "checkpoints"
"""Folder of the runs in flight."""


accessible = partial(storage_errors, "out")
"""Raises errors of the file system about `out` as one line."""


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
      failed: trials that somebody has given up, as of that call; they may have been finished later.
      prepared: whether the folder was there and could be written to.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._folder = out / "rows"
        self._file: Path | None = None
        self.prepared = False
        self._read_until: dict[str, int] = {}
        self._finished: set[str] = set()
        self.diverged: set[str] = set()
        self.failed: set[str] = set()

    def prepare(self) -> None:
        """Makes the folder and proves that it can be written to.

        Raises:
          UserError: it cannot.
        """
        with accessible(self.out):
            self._folder.mkdir(parents=True, exist_ok=True)
            with temporary_folder(self.out / "probe"):
                self.prepared = True
            self.sweep()

    def sweep(self) -> None:
        """Removes what killed processes left half written; a checkpoint's parts may still be of use (`Checkpoints`)."""
        with suppress(OSError):
            folders = [
                path for path in self.out.iterdir() if path.is_dir() and path.name != CHECKPOINTS
            ]
            sweep([self.out, *folders])

    def append(self, row: Row) -> None:
        """Adds one row; when this returns, the row survives a kill of the process.

        A row that does not say so yet gets the commit of the program that made it: this one.

        Raises:
          UserError: it cannot be written, and no part of it is.
        """
        row = {"commit": commit(), **row}
        line = line_of(redact(row))
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

    def read(self) -> Rows:
        """Trial id -> its row: the first final one, or the first that says what moved; else the last one."""
        with accessible(self.out, "read"):
            table, counts = read_files(self._paths())
        signatures = Signatures(table, counts)
        if any(signatures.unsigned):  # rows from before they were signed are not this program's
            table = table.with_columns({"commit": column_of(table.objects("commit"), {})})
        return Rows(table.take(_counting(table)), signatures)

    def finished(self) -> set[str]:
        """Ids of the trials with a final row, from any process; reads only what is new since the last call."""
        with accessible(self.out, "read"):
            for entry in self._grown():
                with Path(entry.path).open("rb") as file:
                    self._read_until[entry.name] = begin = self._read_until.get(entry.name, 0)
                    file.seek(begin)
                    whole = [line for line in file if line.endswith(b"\n")]
                self._read_until[entry.name] += sum(map(len, whole))
                for row in parse(whole):
                    if row.get("status") in FINAL:
                        self._finished.add(row["trial"])
                    if row.get("status") == "diverged":
                        self.diverged.add(row["trial"])
                    (self.failed.add if row.get("status") == "failed" else self.failed.discard)(
                        row["trial"]
                    )
        return self._finished

    def _grown(self) -> list[os.DirEntry[str]]:
        """Files that hold more than was read of them: asking for sizes is cheaper than opening a thousand files."""
        try:
            with os.scandir(self._folder) as entries:
                there = [entry for entry in entries if entry.name.endswith(".jsonl")]
        except (FileNotFoundError, NotADirectoryError):
            self._missed()
            return []
        return [
            entry for entry in there if entry.stat().st_size > self._read_until.get(entry.name, 0)
        ]

    def _paths(self) -> list[Path]:
        """The files of rows, in the order of their names."""
        if not self._folder.is_dir():
            self._missed()
        return sorted(self._folder.glob("*.jsonl"))

    def _missed(self) -> None:
        """There is no folder of rows: nothing was written yet, or what was is gone.

        Raises:
          StorageError: it is gone.
        """
        if self.prepared:
            raise StorageError(
                f"out: '{self.out}' is gone, and what was saved in it; once it is back, the same command goes on"
            )

    def write_table(self, rows: Table | Iterable[Row]) -> Path:
        """Writes results.csv, sorted by the axes, in one step."""
        table = in_order(Table.of(rows))
        path = self.out / "results.csv"
        with accessible(self.out), written(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
            write_csv(table, text)
            text.detach()
        return path


def line_of(row: Row) -> bytes:
    """A row as it stands in a file."""
    return json.dumps(row, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _counting(table: Table) -> np.ndarray:
    """Of all rows in the order of their files those that count, one a trial."""
    places: dict[str, int] = {}
    open_ones, with_moved = set[str](), set[str]()
    trials = table.objects("trial")
    final, moves = table.mapped("status", FINAL.__contains__), table.mapped("moved", bool)
    for place, (trial, ended, moved) in enumerate(zip(trials, final, moves, strict=True)):
        if trial in places and trial not in open_ones and (trial in with_moved or not moved):
            continue
        places[trial] = place
        (open_ones.discard if ended else open_ones.add)(trial)
        (with_moved.add if moved else with_moved.discard)(trial)
    return np.fromiter(places.values(), np.int64, len(places))
