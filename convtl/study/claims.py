"""Who works on what: a trial is claimed by an OS lock that the kernel releases when its process dies, or by a lease.

Claims only keep work from being done twice; that results are right never depends on them.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from convtl.study.leases import Leases
from convtl.study.store import accessible

try:
    import fcntl
except ImportError:  # no POSIX record locks on this platform
    fcntl = None  # type: ignore[assignment]


class Claims:
    """Record locks in one file, a byte for each trial: no files to clean up, no limit on open files.

    Attributes:
      supported: whether there are locks; where there are none, claims are leases.
    """

    def __init__(self, out: Path) -> None:
        folder = out / "claims"
        with accessible(out):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(folder / "trials.lock", os.O_RDWR | os.O_CREAT, 0o666)
        self._mine: set[str] = set()
        self._leases = Leases(folder)
        self.supported = fcntl is not None

    def take(self, trial: str) -> bool:
        """Claims a trial; False if another process holds it."""
        if trial in self._mine:
            return True
        if self.supported:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(trial))
            except (
                BlockingIOError,
                PermissionError,
            ):  # POSIX allows either answer for a lock that is held
                return False
            except OSError:  # a file system without locks
                self.supported = False
        if not self.supported and not self._leases.take(trial):
            return False
        self._mine.add(trial)
        return True

    def release(self, trials: Iterable[str]) -> None:
        for trial in trials:
            self._mine.discard(trial)
            if self.supported:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _byte(trial))
            else:
                self._leases.release([trial])

    def close(self) -> None:
        os.close(self._file)
        self._leases.close()
        self._mine.clear()


def _byte(trial: str) -> int:
    """Offset of a trial's lock: 60 bits of its id, so that two trials hardly ever share one."""
    return int(trial[:15], 16)


@contextmanager
def one_at_a_time(out: Path, doing: str) -> Iterator[None]:
    """Makes processes that work on one folder do something after one another; where locks are missing, it does not."""
    folder = out / "claims"
    with accessible(out):
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / f"{doing}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.lockf(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
