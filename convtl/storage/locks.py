"""Locks between processes (`filelock`): a file each, released by the kernel when its process dies.

Locks only save work: no result depends on them.
"""

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from convtl.storage.files import storage_errors

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""Error numbers of file systems without locks."""
_SILENT_SECONDS = 2.0
"""Time to wait for another process before the user is informed."""


def print_error(line: str) -> None:
    """Print a line for the user to stderr."""
    print(line, file=sys.stderr, flush=True)


class Locks:
    """The locks of one folder, in its subfolder `.locks`.

    Args:
      key: config key of the folder, for messages.
      root: folder that the locks are about.
      instead: what to do where its files cannot be made, for messages.
      say: takes one line for the user, when a lock is waited for or the file system has none.
    """

    def __init__(
        self, key: str, root: Path, say: Callable[[str], None] = print_error, instead: str = ""
    ) -> None:
        self._key, self._root, self._say, self._instead = key, root, say, instead
        self._supported = True

    def take(self, name: str, blocking: bool = False) -> filelock.BaseFileLock | None:
        """Acquire a lock; None where another process holds it. The caller releases it.

        Where the file system has no locks, every process acquires every lock, and the user is informed once.

        Raises:
          StorageError: its file cannot be made.
        """
        with storage_errors(self._key, self._root, instead=self._instead):
            (self._root / ".locks").mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self._root / ".locks" / name)
            try:
                lock.acquire(timeout=_SILENT_SECONDS if blocking else 0)
            except filelock.Timeout:
                if not blocking:
                    return None
                self._say(f"{self._key}: waiting for another process ({name})")
                lock.acquire()
            except (OSError, NotImplementedError) as error:  # the latter from filelock 3
                if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                    raise
                if self._supported:
                    line = f"no file locks in {self._root}: processes may do the same work twice"
                    self._say(f"{self._key}: {line}")
                self._supported = False
        return lock

    @contextmanager
    def held(self, name: str, blocking: bool = True) -> Iterator[bool]:
        """Hold a lock; yield False where another process has it and `blocking` is false."""
        lock = self.take(name, blocking)
        try:
            yield lock is not None
        finally:
            if lock is not None:
                lock.release()
