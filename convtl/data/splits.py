"""Splits of a domain: labelled images, stratified division, cached arrays."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Integer, UInt8

from convtl.config.domains import DomainConfig
from convtl.data.inputs import LazyRows
from convtl.errors import StorageError, UserError
from convtl.storage.cache import Cache

Images = UInt8[np.ndarray, "n height width channels"]
Labels = Integer[np.ndarray, "_"]
Indices = Int64[np.ndarray, "_"]

SPLITS = ("train", "validation", "test")
LEVELS = "levels.json"
"""File beside the images of a domain with deep grey pictures: their black and white."""
_NAMED = 3
"""Files or classes that are named in a line."""


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their classes in a fixed order."""

    images: Images | LazyRows
    labels: Labels


@dataclass(frozen=True, eq=False)
class Domain:
    """A labelled image data set that can be a source or a target.

    Attributes:
      image_shape: height, width, channels.
      counts: split -> smallest number of images of any class.
      splits: (seed, replicate) -> all splits.
      made: whether each seed and replicate has pictures of its own, made on demand, in random order.
      levels: black and white of its pictures with more than 8 bits, where it has such.
    """

    name: str
    config: DomainConfig
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    digest: str
    counts: Mapping[str, int]
    splits: Callable[[int, int], Mapping[str, Split]] = field(repr=False)
    made: bool = False
    levels: tuple[float, float] | None = None


def stratified_parts(
    labels: Labels,
    shares: Mapping[str, float],
    rng: np.random.Generator,
    first_copies: Indices | None = None,
) -> dict[str, Indices]:
    """Divide examples into named parts, class by class.

    Args:
      shares: part -> its number of images a class (int) or its share of each class (float, rounded, at
        least 1); the first part takes what the others leave.
      first_copies: for each example the first of the same content; copies go to one part, and shares count
        the first ones.

    Returns:
      Part -> sorted indices into the examples; the parts are disjoint and cover all.
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
) -> None:
    """Write a split as `.npy` files; `images` yields one or more of `shape` at a time.

    A memory map would turn a full disk into a signal, not an OSError.
    """
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(labels), *shape)}
    with (folder / f"{split}_images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for image in images:
            file.write(np.ascontiguousarray(image, np.uint8).data)
    np.save(folder / f"{split}_labels.npy", np.asarray(labels, np.int32))


@dataclass(frozen=True)
class Store:
    """Store of a domain's arrays in the cache.

    Attributes:
      digest: of all that determines its images; its key in the cache.
      say: takes lines about progress and pictures left out.
      memory: bytes that decoding may take.
    """

    name: str
    config: DomainConfig
    digest: str
    cache: Cache
    say: Callable[[str], None]
    memory: float

    def decoded(self, names: tuple[str, ...], build: Callable[[Path], None]) -> Domain:
        """Return a domain of memory-mapped images, and report its contents.

        `build` writes every split into a folder (`save_split`) if the cache lacks them.
        """
        folder, counts, sizes = self.cache.get_or_build("images", self.digest, build), {}, []
        splits = {
            name: Split(
                np.load(folder / f"{name}_images.npy", mmap_mode="r"),
                np.load(folder / f"{name}_labels.npy"),
            )
            for name in SPLITS
        }
        for split, arrays in splits.items():
            of_class = np.bincount(arrays.labels, minlength=len(names))
            counts[split] = int(of_class.min())
            lacking = [names[label] for label in np.flatnonzero(of_class == 0)]
            none = f" (none of {listed(lacking)})" if lacking else ""
            sizes.append(f"{len(arrays.labels)} {split}{none}")
        self.say(f"{self.name}: {len(names)} classes ({listed(names)}), images: {', '.join(sizes)}")
        height, width, channels = map(int, splits["train"].images.shape[1:])
        path, shape = folder / LEVELS, (height, width, channels)
        levels = tuple(json.loads(path.read_text())) if path.exists() else None
        facts = (self.name, self.config, names, shape, self.digest, counts)
        return Domain(*facts, lambda seed, replicate: splits, levels=levels)


@contextmanager
def named(domain: str) -> Iterator[None]:
    """Put the key of a domain in front of an error about it."""
    try:
        yield
    except StorageError:  # about the cache
        raise
    except UserError as error:
        raise UserError(f"domains.{domain}.{error}") from None
