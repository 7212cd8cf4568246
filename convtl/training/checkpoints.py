"""Checkpoints of runs in flight, written every few minutes."""

import shutil
import time
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from convtl.errors import UserError
from convtl.runtime import stopping
from convtl.runtime.backend import any_process, broadcast_from_primary, is_primary
from convtl.storage import checkpoint

CHECKPOINTS = "checkpoints"  # Folder of the runs in flight, in `out` and in the cache.

Content = tuple[dict[str, Any], dict[str, Any]]
"""Nested dictionaries of NumPy arrays, and metadata."""


class Checkpoints:
    """Checkpoints by name, one folder each; only the claimant of a name uses it.

    Args:
      minutes: between two checkpoints; None: only when the process is to stop.
      say: takes one line where a checkpoint cannot be written or read; work goes on without it.
    """

    def __init__(self, folder: Path, minutes: float | None, say: Callable[[str], None]) -> None:
        self._folder, self._minutes, self._say = folder, minutes, say
        self._last = time.monotonic()

    def begin(self) -> None:
        """Start the clock of the next checkpoint."""
        self._last = time.monotonic()

    def due(self) -> bool:
        return self._minutes is not None and time.monotonic() - self._last >= 60 * self._minutes

    def between_calls(self, contents: Callable[[], Mapping[str, Content]]) -> None:
        """Write checkpoints if due or before a requested stop; call on every process."""
        stop = any_process(stopping.requested())
        if stop or broadcast_from_primary(self.due):
            made = contents()
            if is_primary():
                self.write(made)  # before it is obeyed: a launcher may have the job killed then
        stopping.obey(stop)

    def write(self, contents: Mapping[str, Content]) -> None:
        """Replace the checkpoints of these names."""
        for name, content in contents.items():
            try:
                checkpoint.save(self._folder / name, *content)
            except UserError as error:
                self._say(f"{error}; work goes on without it")
        self.begin()

    def read(self, name: str) -> Content | None:
        """Return the checkpoint of a name, if a whole one exists; remove broken parts."""
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
            return checkpoint.load(path)
        except UserError as error:
            self._say(f"{error}; it is not used")
            self.remove(name)  # else it could not be replaced
            return None

    def remove(self, name: str) -> None:
        """Remove the checkpoint of finished work."""
        shutil.rmtree(self._folder / name, ignore_errors=True)

    def sweep(self, done: Container[str]) -> None:
        """Remove checkpoints of finished work that a killed process left."""
        for path in self._folder.glob("*"):
            if path.name.lstrip(".").partition(".")[0] in done:
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Remove the folder if it is empty."""
        with suppress(OSError):  # not there, or another process keeps something in it
            self._folder.rmdir()
