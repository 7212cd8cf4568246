"""Splits of a domain: labelled images, stratified division, storage as arrays in the cache."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from convtl.config.domains import DomainConfig, NoiseConfig, PatchesConfig, TypedScriptConfig
from convtl.config.roles import dump
from convtl.config.schema import DataConfig
from convtl.storage.cache import Cache

Images = UInt8[np.ndarray, "n height width channels"]
Labels = Int32[np.ndarray, " n"]
Indices = Int64[np.ndarray, " n"]

SPLITS = ("train", "validation", "test")
LEVELS = "levels.json"
"""File beside the images of a domain with deep grey pictures: their black and white."""


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images, in a fixed order.

    Attributes:
      labels: index into the domain's class names.
      strata: face or sub-region that an image was made from; 0 where there is none.
    """

    images: Images
    labels: Labels
    strata: Labels

    def smallest_class(self, classes: int) -> int:
        """Return the smallest number of images of any of `classes` classes."""
        return int(np.min(np.bincount(self.labels, minlength=classes)))


@dataclass(frozen=True, eq=False)
class Domain:
    """A labelled image data set that can be a source or a target.

    Attributes:
      image_shape: height, width, channels.
      digest: of all that determines the images.
      counts: split -> smallest number of images of any class.
      load: returns all splits; draws them on the first call where they are not in the cache.
      levels: black and white of its pictures with more than 8 bits, where it has such.
    """

    name: str
    config: DomainConfig
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    digest: str
    counts: Mapping[str, int]
    load: Callable[[], Mapping[str, Split]] = field(repr=False)
    levels: tuple[float, float] | None = None

    def split(self, name: str) -> Split:
        """Return images and labels of "train", "validation" or "test"."""
        return self.load()[name]


def stratified_parts(
    labels: Labels,
    shares: Mapping[str, float],
    rng: np.random.Generator,
    first_copies: Indices | None = None,
) -> dict[str, Indices]:
    """Divide examples into named parts, class by class.

    Args:
      labels: class of each example.
      shares: part -> its number of images a class (int) or its share of each class (float, rounded, at
        least 1). The first part takes what the others leave, so its own value is not read.
      rng: draws the members of each part.
      first_copies: for each example the first one of the same content, itself where it is that; all of them
        go to one part, and shares count the first ones. None divides every example by itself.

    Returns:
      Part -> sorted int64 indices into the examples; the parts are disjoint and cover all.
    """
    if first_copies is not None:
        firsts = np.flatnonzero(first_copies == np.arange(len(labels)))
        drawn = stratified_parts(labels[firsts], shares, rng).items()
        return {name: np.flatnonzero(np.isin(first_copies, firsts[part])) for name, part in drawn}
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


def save_split(
    folder: Path,
    split: str,
    images: Iterable[UInt8[np.ndarray, "..."]],
    shape: tuple[int, ...],
    labels: Labels,
    strata: Labels | None = None,
) -> None:
    """Write a split as `.npy` files.

    Images are written as a file, not through a memory map: a full disk is then an OSError, not a signal.

    Args:
      images: one or several at a time, as many in all as there are labels; only these are in memory.
      shape: of an image.
      strata: zeros without any.
    """
    strata = np.zeros(len(labels)) if strata is None else strata
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(labels), *shape)}
    with (folder / f"{split}_images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for image in images:
            file.write(np.ascontiguousarray(image, np.uint8).data)
    np.save(folder / f"{split}_labels.npy", np.asarray(labels, np.int32))
    np.save(folder / f"{split}_strata.npy", np.asarray(strata, np.int32))


Drawn = tuple[UInt8[np.ndarray, "n size size"], Labels]
"""Images of one class in one split, and their strata."""


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
          build: writes every split into a folder (`save_split`).
        """
        folder = self.cache.get_or_build("images", self.digest, build)
        return {
            name: Split(
                np.load(folder / f"{name}_images.npy", mmap_mode="r"),
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
        levels = self.cache.path("images", self.digest) / LEVELS
        return Domain(
            self.name,
            self.config,
            class_names,
            (int(height), int(width), int(channels)),
            self.digest,
            counts,
            lambda: splits,
            tuple(json.loads(levels.read_text())) if levels.exists() else None,
        )

    def synthetic(
        self,
        config: TypedScriptConfig | PatchesConfig | NoiseConfig,
        class_names: Sequence[str],
        draw: Callable[[int, str, int], Drawn],
    ) -> Domain:
        """Return a domain of grey images that are drawn when a split is first asked for.

        Args:
          draw: index of a class, split and number of images -> these.
        """
        counts, size, channels = dump(config.per_class), config.size, config.channels

        def build(folder: Path) -> None:
            drawn: dict[str, list[Drawn]] = {split: [] for split in SPLITS}
            for index in range(len(class_names)):
                if index % 8 == 0:
                    self.say(f"drawing {self.name}: class {index + 1} of {len(class_names)}")
                for split in SPLITS:
                    drawn[split].append(draw(index, split, counts[split]))
            for split in SPLITS:
                images, strata = zip(*drawn[split], strict=True)
                labels = np.repeat(np.arange(len(class_names)), counts[split])
                save_split(folder, split, images, (size, size, 1), labels, np.concatenate(strata))

        def load() -> dict[str, Split]:
            return {
                name: replace(  # equal channels are a view: no memory is taken
                    split, images=np.broadcast_to(split.images, (len(split.images), *shape))
                )
                for name, split in self.splits(build).items()
            }

        shape = (size, size, channels)
        return Domain(self.name, self.config, tuple(class_names), shape, self.digest, counts, load)
