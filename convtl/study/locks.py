"""Locks on trials: of the processes that work in one folder, only one runs a trial."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import filelock

from convtl.storage.locks import locked, take_lock

_PREFIX = 3
"""Hexadecimal digits of a trial's id that name its lock file: at most 4,096 files a folder."""


class TrialLocks:
    """The trials that this process has locked.

    A lock file stands for all trials whose ids begin alike. So another process has to wait with these as well.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._files: dict[str, filelock.BaseFileLock] = {}
        self._trials: set[str] = set()

    def take(self, trial: str) -> bool:
        """Lock a trial; return False if another process holds it, or one that begins alike."""
        prefix = trial[:_PREFIX]
        if prefix not in self._files:
            lock = take_lock("out", self._out, f"trials-{prefix}")
            if lock is None:
                return False
            self._files[prefix] = lock
        self._trials.add(trial)
        return True

    def release(self, trials: Iterable[str]) -> None:
        """Unlock trials."""
        self._trials.difference_update(trials)
        in_use = {trial[:_PREFIX] for trial in self._trials}
        for prefix in self._files.keys() - in_use:
            self._files.pop(prefix).release()

    def close(self) -> None:
        """Unlock all trials."""
        self.release(list(self._trials))


def one_at_a_time(out: Path, task: str) -> AbstractContextManager[bool]:
    """Make processes that work on one folder do a task after one another."""
    return locked("out", out, task)
