"""Decoded images on disk: made once, published whole, mapped into memory by every later process."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from convtl.data.split import SPLITS, Split

Progress = Callable[[str], None]
_ARRAYS = ("images", "labels", "strata")


@contextmanager
def locked(path: Path, progress: Progress | None = None) -> Iterator[None]:
    """Holds `path`.lock; the kernel lets go of it when a process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress:
            progress(f"waiting for another process that prepares {path.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def stored(
    directory: Path, build: Callable[[], Mapping[str, Split]], progress: Progress | None = None
) -> dict[str, Split]:
    """The splits kept in `directory`; built and published there if they are missing or damaged.

    Images are memory-mapped and read-only. Safe for many processes: one builds, the others wait.
    """
    found = _read(directory)
    if found is not None:
        return found
    with locked(directory, progress):
        found = _read(directory)
        if found is None:
            _publish(directory, build())
            found = _read(directory)
    if found is None:
        raise OSError(f"{directory}: cannot be read right after it was written")
    return found


def _read(directory: Path) -> dict[str, Split] | None:
    """What is stored, or None if it is missing or not what its description says."""
    try:
        described = json.loads((directory / "arrays.json").read_text())
        splits = {name: _read_split(directory, name) for name in SPLITS}
    except (OSError, ValueError):
        return None
    return splits if _describe(splits) == described else None


def _read_split(directory: Path, name: str) -> Split:
    images = np.load(directory / f"{name}_images.npy", mmap_mode="r")
    return Split(images, *(np.load(directory / f"{name}_{array}.npy") for array in _ARRAYS[1:]))


def _publish(directory: Path, splits: Mapping[str, Split]) -> None:
    """Writes beside the place and renames: nobody ever sees half of it."""
    temporary = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f"{directory.name}.incomplete."))
    try:
        for name, split in splits.items():
            for array in _ARRAYS:
                np.save(temporary / f"{name}_{array}.npy", getattr(split, array))
        (temporary / "arrays.json").write_text(json.dumps(_describe(splits)))
        if directory.exists():  # damaged: only the holder of the lock comes here
            shutil.rmtree(directory)
        temporary.rename(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _describe(splits: Mapping[str, Split]) -> dict[str, list[list[int]]]:
    return {name: [list(getattr(splits[name], array).shape) for array in _ARRAYS] for name in SPLITS}
