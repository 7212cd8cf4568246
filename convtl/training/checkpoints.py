"""Checkpoints of runs in flight, written in the background every few minutes."""

import shutil
import time
from collections.abc import Callable, Container, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from convtl.errors import UserError
from convtl.storage import checkpoint


class CheckpointContent(NamedTuple):
    """Content of a checkpoint: nested dictionaries of NumPy arrays, and metadata."""

    arrays: dict[str, Any]
    metadata: dict[str, Any]


class Checkpoints:
    """Checkpoints by name, one folder each; only the claimant of a name uses it.

    Args:
      folder: made when something is written.
      minutes: of work after which the next is due; None: only when the process is to stop.
      say: takes one line, where a checkpoint cannot be written or read: work then goes on without it.
    """

    def __init__(self, folder: Path, minutes: float | None, say: Callable[[str], None]) -> None:
        self._folder, self._minutes, self._say = folder, minutes, say
        self._last = time.monotonic()
        self._writer = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[None] | None = None

    def begin(self) -> None:
        """Start the clock of the next checkpoint."""
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time for one; not while another is being written."""
        if self._minutes is None or (self._writing is not None and not self._writing.done()):
            return False
        return time.monotonic() - self._last >= 60 * self._minutes

    def write(self, contents: Mapping[str, CheckpointContent], wait: bool = False) -> None:
        """Replace the checkpoints of these names; `wait` until they are on disk."""
        self._writing = self._writer.submit(self._write, dict(contents))
        if wait:
            self._writing.result()
        self._last = time.monotonic()

    def _write(self, contents: Mapping[str, CheckpointContent]) -> None:
        for name, content in contents.items():
            try:
                checkpoint.save(self._folder / name, content.arrays, content.metadata)
            except UserError as error:
                self._say(f"{error}; work goes on without it")

    def read(self, name: str) -> CheckpointContent | None:
        """The checkpoint of that name, if a whole one exists; remove broken parts."""
        path = self._folder / name
        # The new one, then the old one that made room for it.
        for part in sorted(self._folder.glob(f".{name}.*")):
            if not path.exists():
                with suppress(UserError):
                    checkpoint.load(part)
                    part.rename(path)
            shutil.rmtree(part, ignore_errors=True)
        if not path.is_dir():
            return None
        try:
            return CheckpointContent(*checkpoint.load(path))
        except UserError as error:
            self._say(f"{error}; it is not used")
            shutil.rmtree(path, ignore_errors=True)  # else it could not be replaced
            return None

    def remove(self, name: str) -> None:
        """Remove the checkpoint of finished work."""
        if self._writing is not None:
            self._writing.result()
        if (self._folder / name).is_dir():
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def sweep(self, done: Container[str]) -> None:
        """Remove checkpoints of finished work that a killed process left."""
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path.name.lstrip(".").partition(".")[0] in done:
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Wait for what is being written; remove the folder if it is empty."""
        self._writer.shutdown()
        with suppress(OSError):  # not there, or another process keeps something in it
            self._folder.rmdir()
