"""Locks between processes (`filelock`): a file each, released by the kernel when its process dies.

Locks only save work: no result depends on them.
"""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import filelock

from convtl.storage.files import storage_errors

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def take_lock(
    key: str, root: Path, name: str, blocking: bool = False
) -> filelock.BaseFileLock | None:
    """Acquire a lock of a folder; None where another process holds it. The caller releases it.

    Where the file system has no locks, every process acquires every lock, and one line says so. A StorageError,
    whose line begins with the folder's `key`, is raised where the lock's file cannot be made.
    """
    with storage_errors(key, root):
        (root / ".locks").mkdir(exist_ok=True)  # a folder that went away is not made anew
        lock = filelock.FileLock(root / ".locks" / name, fallback_to_soft=False)
        try:
            lock.acquire(timeout=-1 if blocking else 0)
        except filelock.Timeout:
            return None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            _warn(key, root)
    return lock


@contextmanager
def locked(key: str, root: Path, name: str, blocking: bool = True) -> Iterator[bool]:
    """Hold a lock; yield False where another process has it and `blocking` is false."""
    lock = take_lock(key, root, name, blocking)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.release()


@cache
def _warn(key: str, root: Path) -> None:
    line = f"convtl: {key}: no file locks in '{root}': processes may do the same work twice"
    print(line, file=sys.stderr, flush=True)
