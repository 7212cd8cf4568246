"""Atomic files and folders, and locks between processes.

A file is written under a temporary name beside its path, with machine and process in it, and then renamed. A lock is a
file (`filelock`), released when its process dies; locks only save work: no result depends on them.
"""

import errno
import hashlib
import os
import re
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import psutil

from convtl.errors import StorageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_PART = re.compile(
    r"\..+\.(?P<machine>[0-9a-f]{8})\.(?P<process>\d+)\.[0-9a-f]{8}\.part(\.old)?", re.DOTALL
)


@contextmanager
def storage_errors(key: str, folder: Path, doing: str = "write in") -> Iterator[None]:
    """Raise an OSError as StorageError: `key: cannot write in 'folder': reason`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or (os.strerror(errno.ENOSPC) if is_full(error) else error)
        raise StorageError(f"{key}: cannot {doing} '{folder}': {reason}") from None


def is_full(error: OSError) -> bool:
    """Return whether an error is a full disk; NumPy reports it without errno."""
    return error.errno in _FULL or (error.errno is None and "requested and" in str(error))


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` atomically at the end, if no error occurs."""
    part = _part_of(path)
    try:
        with part.open("xb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Make a folder beside `path` to fill and rename; remove it if it is left."""
    part = _part_of(path)
    path.parent.mkdir(exist_ok=True)  # none above it: an `out` that went away is not made anew
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def replace_folder(folder: Path, path: Path) -> None:
    """Rename a temporary folder to `path` and remove an earlier folder there."""
    earlier = folder.with_name(f"{folder.name}.old")
    with suppress(FileNotFoundError):
        path.rename(earlier)
    folder.rename(path)
    shutil.rmtree(earlier, ignore_errors=True)


def sweep(folders: Iterable[Path]) -> None:
    """Remove temporary files and folders of dead processes."""
    for folder in folders:
        with suppress(OSError):  # it does not exist, or belongs to another user
            for path in list(folder.iterdir()):
                if (part := _PART.fullmatch(path.name)) and _is_abandoned(path, part):
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def contents(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of all plain files below a folder, else ValueError."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path.name} is not a plain file")
        if path.is_file():
            with path.open("rb") as file:
                checksum = hashlib.file_digest(file, "sha256").hexdigest()
            facts = {"size": path.stat().st_size, "sha256": checksum}
            files[path.relative_to(folder).as_posix()] = facts
    return files


def _part_of(path: Path) -> Path:
    """Return a new temporary name beside `path`."""
    unique = uuid.uuid4().hex[:8]
    return path.with_name(f".{path.name}.{_machine()}.{os.getpid()}.{unique}.part")


def _is_abandoned(path: Path, part: re.Match[str]) -> bool:
    if part["machine"] == _machine() and not psutil.pid_exists(int(part["process"])):
        return True
    return time.time() - path.stat().st_mtime > 24 * 3600.0  # of another machine


@cache
def _machine() -> str:
    """Return a digest of host and container, in which process ids are unique."""
    scope = socket.gethostname()
    with suppress(OSError):  # other systems than Linux have no process namespaces
        scope += str(Path("/proc/self/ns/pid").stat().st_ino)
    return hashlib.sha256(scope.encode()).hexdigest()[:8]


def take_lock(
    key: str, root: Path, name: str, blocking: bool = False
) -> filelock.BaseFileLock | None:
    """Acquire a lock of a folder; None if another process holds it."""
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
            _warn(key, root)  # every process acquires every lock there
    return lock


@contextmanager
def locked(key: str, root: Path, name: str, blocking: bool = True) -> Iterator[bool]:
    """Hold a lock; yield False if another process has it and `blocking` is false."""
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
