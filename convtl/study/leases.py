"""Claims where file locks do not reach: a small file for each trial, and a heartbeat for each process.

A process counts in its own file for as long as it lives. Who finds a trial taken watches that count by a clock of
its own, so that no two clocks need to agree; where it has not moved for a minute, its process is taken for dead.
Wrong guesses cost work done twice, never a wrong result.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

BEAT, EXPIRES = 5.0, 60.0
"""Seconds between two counts, and without any before a process is taken for dead."""


class Leases:
    """The leases of one process in one folder; the heartbeat begins with the first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._me = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._mine: set[str] = set()
        self._seen: dict[str, tuple[str, float]] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, trial: str) -> bool:
        """Takes the lease of a trial; False if a process has it that seems to live."""
        if self._thread is None:
            self._beat(0)
            self._thread = threading.Thread(target=self._count, daemon=True)
            self._thread.start()
        if self._made(trial):
            return True
        owner = _content(self._lease(trial))
        if owner is None:  # given back since
            return self._made(trial)
        if self._lives(owner, trial):
            return False
        self._clear(trial, owner)
        return self._made(trial)

    def release(self, trials: Iterable[str]) -> None:
        for trial in trials:
            self._mine.discard(trial)
            if _content(self._lease(trial)) == self._me:
                _remove(self._lease(trial))

    def close(self) -> None:
        """Gives all leases back and ends the heartbeat."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self.release(list(self._mine))
        _remove(self._heart(self._me))

    def _lease(self, trial: str) -> Path:
        return self._folder / f"{trial}.lease"

    def _heart(self, owner: str) -> Path:
        return self._folder / f"{owner}.heart"

    def _made(self, trial: str) -> bool:
        """Makes the lease of a trial; one that is there is another's. Where none can be made, all may work."""
        try:
            with self._lease(trial).open("x") as file:
                file.write(self._me)
        except FileExistsError:
            return False
        except OSError:
            return True
        self._mine.add(trial)
        return True

    def _lives(self, owner: str, trial: str) -> bool:
        """Whether the count of an owner moves; of one that has not written its name yet, whether the lease does."""
        watched = self._heart(owner) if owner else self._lease(trial)
        count = _content(watched)
        if count is None:
            return False
        now = time.monotonic()
        known = self._seen.get(watched.name)
        if known is None or known[0] != count:
            self._seen[watched.name] = count, now
            return True
        return now - known[1] < EXPIRES

    def _clear(self, trial: str, owner: str) -> None:
        """Removes a dead owner's lease: by a rename first, since another may just have put its own there."""
        aside = self._folder / f"{trial}.{self._me}.dead"
        with suppress(OSError):
            self._lease(trial).rename(aside)
            if _content(aside) == owner:
                _remove(aside)
                if owner:
                    _remove(self._heart(owner))
            else:
                aside.rename(self._lease(trial))

    def _count(self) -> None:
        count = 0
        while not self._ended.wait(BEAT):
            count += 1
            self._beat(count)

    def _beat(self, count: int) -> None:
        with suppress(OSError):
            self._heart(self._me).write_text(str(count))


def _content(path: Path) -> str | None:
    """What a file holds; None where there is none."""
    try:
        return path.read_text()
    except OSError:
        return None


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
