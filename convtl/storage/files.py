"""Files and folders that appear whole or not at all, and the removal of what killed processes left of them.

Whoever writes holds an OS lock on the temporary file; the kernel releases it when the process dies. So a part
whose lock is free belongs to nobody.
"""

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # no POSIX locks on this platform: only what is old is removed
    fcntl = None  # type: ignore[assignment]

_PART = re.compile(r"\..+\.[0-9a-f]{12}\.part(\.old)?")
_OLD = 24 * 3600.0
"""Seconds after which a part is nobody's, where there are no locks to ask."""


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """A file to be filled, which takes the place of `path` at the end by one rename; the folder is made.

    Raises:
      OSError: it cannot be written; what was at `path` is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part, file = _begin(path)
    try:
        with file:
            yield file
            file.flush()
            part.replace(path)  # before it is closed: that gives the lock back
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def folder_for(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, to be filled and renamed; what is left of it at the end is removed.

    Raises:
      OSError: it cannot be made.
    """
    part, lock = _begin_folder(path)
    try:
        yield part
    finally:
        if lock is not None:
            os.close(lock)
        shutil.rmtree(part, ignore_errors=True)


def try_writing(folder: Path) -> None:
    """Proves that files can be written in a folder, and leaves none.

    Raises:
      OSError: they cannot.
    """
    part, file = _begin(folder / "probe")
    try:
        with file:
            file.write(b"convtl")
    finally:
        part.unlink(missing_ok=True)  # once it is closed, a sweep may take it for a dead process's


def sweep(folders: Iterable[Path]) -> None:
    """Removes the parts in these folders that no living process is writing."""
    for folder in folders:
        with suppress(OSError):  # it is not there, or not ours to clean
            for part in [path for path in folder.iterdir() if _PART.fullmatch(path.name)]:
                with suppress(OSError):
                    _remove_if_left(part)


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")


def _begin(path: Path) -> tuple[Path, BinaryIO]:
    """A new file and its lock; anew, should a sweep have taken it for a dead process's between the two."""
    while True:
        part = _part_of(path)
        file = part.open("xb")
        if not _lock(file.fileno(), wait=True) or os.fstat(file.fileno()).st_nlink:
            return part, file
        file.close()


def _begin_folder(path: Path) -> tuple[Path, int | None]:
    """As `_begin`; a platform without these locks does not open folders either."""
    while True:
        part = _part_of(path)
        part.mkdir(parents=True)
        if fcntl is None:
            return part, None
        with suppress(FileNotFoundError):
            lock = os.open(part, os.O_RDONLY)
            if not _lock(lock, wait=True) or os.fstat(lock).st_nlink:
                return part, lock
            os.close(lock)


def _remove_if_left(part: Path) -> None:
    # Some network file systems lock only what is open for writing; a folder cannot be.
    descriptor = os.open(part, os.O_RDONLY if part.is_dir() else os.O_RDWR)
    try:
        held = _lock(descriptor, wait=False)
        if held is None:  # no locks here
            held = time.time() - os.fstat(descriptor).st_mtime > _OLD
        if held:
            shutil.rmtree(part) if part.is_dir() else part.unlink()
    finally:
        os.close(descriptor)


def _lock(descriptor: int, wait: bool) -> bool | None:
    """True: held from now on; False: another process holds it; None: there are no locks here."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
