"""Decoded images in the cache: made once, mapped into memory by every later process."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from convtl.data.split import SPLITS, Split
from convtl.storage.cache import Cache

Progress = Callable[[str], None]
_ARRAYS = ("images", "labels", "strata")


def cache_at(root: Path, progress: Progress | None = None) -> Cache:
    """The cache below a folder; what it has to say goes the way of progress."""
    return Cache(root, progress) if progress else Cache(root)


def stored(cache: Cache, digest: str, build: Callable[[], Mapping[str, Split]]) -> dict[str, Split]:
    """The splits of the domain with this digest, built first if the cache does not hold them intact.

    Images are memory-mapped and read-only. Of several processes one builds and the others wait.
    """

    def fill(folder: Path) -> None:
        for name, split in build().items():
            for array in _ARRAYS:
                np.save(folder / f"{name}_{array}.npy", getattr(split, array))

    return stored_files(cache, digest, fill)


def stored_files(cache: Cache, digest: str, fill: Callable[[Path], None]) -> dict[str, Split]:
    """As `stored`, for images that need not fit into memory.

    Args:
      fill: writes `images_file` and `save_labels` of every split into a folder.
    """
    folder = cache.get_or_build("images", digest, fill)
    return {
        name: Split(
            np.load(images_file(folder, name), mmap_mode="r"),
            *(np.load(folder / f"{name}_{array}.npy") for array in _ARRAYS[1:]),
        )
        for name in SPLITS
    }


def images_file(folder: Path, split: str) -> Path:
    """Where the images of a split lie: a `.npy` file, uint8 [n, height, width, channels]."""
    return folder / f"{split}_images.npy"


def save_labels(folder: Path, split: str, labels: Int32[np.ndarray, " n"]) -> None:
    """Labels of a split whose images were not made from anything that has strata."""
    np.save(folder / f"{split}_labels.npy", np.asarray(labels, np.int32))
    np.save(folder / f"{split}_strata.npy", np.zeros(len(labels), np.int32))
