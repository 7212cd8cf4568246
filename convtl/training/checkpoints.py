"""What runs have come to so far, kept on disk every few minutes, in the background, so that a kill loses little."""

import shutil
import time
from collections.abc import Callable, Container, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from convtl.errors import UserError
from convtl.storage import checkpoint


class Kept(NamedTuple):
    """Nested dictionaries of NumPy arrays, which nobody changes any more, and what is said of them."""

    arrays: dict[str, Any]
    metadata: dict[str, Any]


class Checkpoints:
    """Checkpoints by name, one folder each; whoever claimed a name is the only one to write and read it.

    Args:
      folder: made when something is written.
      minutes: of work after which it is time for the next; None: only when the process is asked to stop.
      say: takes one line, where a checkpoint cannot be written or read: work then goes on without it.
    """

    def __init__(self, folder: Path, minutes: float | None, say: Callable[[str], None]) -> None:
        self._folder, self._minutes, self._say = folder, minutes, say
        self._last = time.monotonic()
        self._writer: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None

    def begin(self) -> None:
        """Work begins: the next checkpoint is due when it has gone on for long enough."""
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time for a checkpoint; not while the one before is still being written."""
        if self._minutes is None or (self._writing is not None and not self._writing.done()):
            return False
        return time.monotonic() - self._last >= 60 * self._minutes

    def write(self, kept: Mapping[str, Kept], wait: bool = False) -> None:
        """Writes checkpoints in place of those of the same names.

        Args:
          wait: whether to return when they are on disk, and not at once.
        """
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, "checkpoints")
        self._writing = self._writer.submit(self._write, dict(kept))
        if wait:
            self._writing.result()
        self._last = time.monotonic()

    def _write(self, kept: Mapping[str, Kept]) -> None:
        try:
            for name, own in kept.items():
                checkpoint.save(self._folder / name, own.arrays, own.metadata)
        except UserError as error:
            self._say(f"{error}; work goes on without it")

    def read(self, name: str) -> Kept | None:
        """The checkpoint of that name, if there is one that is whole; what a kill left half written goes."""
        parts = sorted(
            self._folder.glob(f".{name}.*")
        )  # the new one, then the old one that made room for it
        for part in parts:
            if not (self._folder / name).exists() and _whole(part):
                part.rename(self._folder / name)
            shutil.rmtree(part, ignore_errors=True)
        if not (self._folder / name).is_dir():
            return None
        try:
            return Kept(*checkpoint.load(self._folder / name))
        except UserError as error:
            self._say(f"{error}; it is not used")
            return None

    def remove(self, name: str) -> None:
        """What it was kept for is done."""
        if self._writing is not None:
            self._writing.result()
        if (self._folder / name).is_dir():
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def sweep(self, done: Container[str]) -> None:
        """Removes those whose work is done, left by a process that was killed before it could."""
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.name.lstrip(".").partition(".")[0] in done:
                    shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Waits for what is being written; an empty folder goes."""
        if self._writer is not None:
            self._writer.shutdown()
        with suppress(OSError):  # not there, or another process keeps something in it
            self._folder.rmdir()


def _whole(path: Path) -> bool:
    try:
        checkpoint.load(path)
    except UserError:
        return False
    return True
