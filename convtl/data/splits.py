"""Splits of a domain: labelled images, stratified division, storage as arrays in the cache."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from convtl.config.domains import DomainConfig, PerClass
from convtl.config.roles import dump
from convtl.config.schema import DataConfig
from convtl.storage.cache import Cache

SPLITS = ("train", "validation", "test")
LEVELS = "levels.json"
"""File of grey levels beside the images of a domain with deep grey pictures."""


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images, in a fixed order."""

    images: UInt8[np.ndarray, "n height width channels"]
    labels: Int32[np.ndarray, " n"]
    """index into the domain's class names"""
    strata: Int32[np.ndarray, " n"]
    """face or sub-region that an image was made from; 0 where there is none"""

    def smallest_class(self, classes: int) -> int:
        """Return the smallest number of images of any of `classes` classes."""
        return int(np.min(np.bincount(self.labels, minlength=classes)))


@dataclass(frozen=True, eq=False)
class Domain:
    """A labelled image data set that can be a source or a target."""

    name: str
    config: DomainConfig
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    """height, width, channels"""
    digest: str
    """of all that determines the images"""
    counts: Mapping[str, int]
    """split -> smallest number of images of any class"""
    load: Callable[[], Mapping[str, Split]] = field(repr=False)
    """all splits; drawn on the first call where they are not in the cache"""
    levels: tuple[float, float] | None = None
    """black and white of its pictures with more than 8 bits, where it has such"""

    def split(self, name: str) -> Split:
        """Return images and labels of "train", "validation" or "test"."""
        return self.load()[name]


def stratified_parts(
    labels: Int32[np.ndarray, " n"],
    shares: Mapping[str, float | int],
    rng: np.random.Generator,
    duplicates: Int64[np.ndarray, " n"] | None = None,
) -> dict[str, np.ndarray]:
    """Divide examples into named parts, class by class.

    Args:
      labels: class of each example.
      shares: part -> its number of images a class (int) or its share of each class (float, rounded, at
        least 1). The first part takes what the others leave, so its own value is not read.
      rng: draws the members of each part.
      duplicates: for each example the first one of the same content, itself where it is that; all of them
        go to one part, and shares count the first ones. None divides every example by itself.

    Returns:
      Part -> sorted int64 indices into the examples; the parts are disjoint and cover all.
    """
    if duplicates is not None:
        firsts = np.flatnonzero(duplicates == np.arange(len(labels)))
        drawn = stratified_parts(labels[firsts], shares, rng)
        return {
            name: np.flatnonzero(np.isin(duplicates, firsts[part])) for name, part in drawn.items()
        }
    parts: dict[str, list[np.ndarray]] = {name: [np.empty(0, np.int64)] for name in shares}
    first, *others = shares
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        size = len(members)
        for name in others:
            share = shares[name]
            count = share if isinstance(share, int) else max(1, round(share * size))
            parts[name].append(members[:count])
            members = members[count:]
        parts[first].append(members)
    return {name: np.sort(np.concatenate(part)).astype(np.int64) for name, part in parts.items()}


class ImageWriter:
    """A `.npy` file of `count` images (uint8), written one after the other.

    It is written as a file, not through a memory map: a full disk is then an OSError, not a signal.
    """

    def __init__(self, path: Path, count: int, shape: tuple[int, ...]) -> None:
        self._file: BinaryIO = path.open("wb")
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> "ImageWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, images: UInt8[np.ndarray, "..."]) -> None:
        """Write one image or several."""
        self._file.write(np.ascontiguousarray(images, np.uint8).data)


def images_file(folder: Path, split: str) -> Path:
    """Path of the images of a split: a `.npy` file, uint8 [n, height, width, channels]."""
    return folder / f"{split}_images.npy"


def save_labels(
    folder: Path,
    split: str,
    labels: Int32[np.ndarray, " n"],
    strata: Int32[np.ndarray, " n"] | None = None,
) -> None:
    """Write labels and strata (without any: zeros) of a split beside its images."""
    strata = np.zeros(len(labels)) if strata is None else strata
    np.save(folder / f"{split}_labels.npy", np.asarray(labels, np.int32))
    np.save(folder / f"{split}_strata.npy", np.asarray(strata, np.int32))


Drawn = tuple[str, UInt8[np.ndarray, "n size size"], Int32[np.ndarray, " n"]]
"""split, images and strata of one class"""


@dataclass(frozen=True)
class Store:
    """The arrays of one domain in the cache, and what building them may cost.

    Attributes:
      name: of the domain.
      digest: of all that determines its images; its key in the cache.
      say: takes one line about progress, or about what was left out.
    """

    name: str
    config: DomainConfig
    digest: str
    cache: Cache
    say: Callable[[str], None]
    data: DataConfig

    def splits(self, build: Callable[[Path], None]) -> dict[str, Split]:
        """Return the splits, built first where the cache does not hold them intact.

        The cache checks the digest of every file whenever they are asked for. Images are memory-mapped and
        read-only. Of several processes one builds and the others wait.

        Args:
          build: writes `images_file` and `save_labels` of every split into a folder.
        """
        folder = self.cache.get_or_build("images", self.digest, build)
        return {
            name: Split(
                np.load(images_file(folder, name), mmap_mode="r"),
                np.load(folder / f"{name}_labels.npy"),
                np.load(folder / f"{name}_strata.npy"),
            )
            for name in SPLITS
        }

    def decoded(self, class_names: tuple[str, ...], build: Callable[[Path], None]) -> Domain:
        """Return a domain whose counts are known only when it is built, which is done now."""
        splits = self.splits(build)
        height, width, channels = splits["train"].images.shape[1:]
        counts = {split: splits[split].smallest_class(len(class_names)) for split in SPLITS}
        shape = (int(height), int(width), int(channels))
        levels = self.cache.path("images", self.digest) / LEVELS
        return Domain(
            self.name,
            self.config,
            class_names,
            shape,
            self.digest,
            counts,
            lambda: splits,
            tuple(json.loads(levels.read_text())) if levels.exists() else None,
        )

    def synthetic(
        self,
        class_names: Sequence[str],
        size: int,
        channels: int,
        per_class: PerClass,
        draw: Callable[[], Iterable[Drawn]],
    ) -> Domain:
        """Return a domain of grey images that are drawn when a split is first asked for.

        Args:
          draw: yields all splits of the first class, then of the second, and so on.
        """
        counts = dump(per_class)

        def build(folder: Path) -> None:
            labels = np.arange(len(class_names))
            strata: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
            with ExitStack() as stack:
                files = {
                    split: stack.enter_context(
                        ImageWriter(
                            images_file(folder, split),
                            len(labels) * counts[split],
                            (size, size, 1),
                        )
                    )
                    for split in SPLITS
                }
                for split, images, places in draw():
                    if split == SPLITS[0] and len(strata[split]) % 8 == 0:
                        place = f"{len(strata[split]) + 1} of {len(labels)}"
                        self.say(f"drawing {self.name}: class {place}")
                    files[split].append(images)
                    strata[split].append(places)
            for split in SPLITS:
                repeated = np.repeat(labels, counts[split])
                save_labels(folder, split, repeated, np.concatenate(strata[split]))

        return Domain(
            name=self.name,
            config=self.config,
            class_names=tuple(class_names),
            image_shape=(size, size, channels),
            digest=self.digest,
            counts=counts,
            load=lambda: _in_channels(self.splits(build), channels),
        )


def _in_channels(splits: Mapping[str, Split], channels: int) -> dict[str, Split]:
    """Repeat grey images as so many equal channels; views, so that no memory is taken."""
    return {
        name: replace(
            split, images=np.broadcast_to(split.images, (*split.images.shape[:-1], channels))
        )
        for name, split in splits.items()
    }
