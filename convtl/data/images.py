"""Pools of labelled pictures to the decoded splits of a domain, in bounded memory.

Threads decode (Pillow releases the interpreter's lock while it does); an image depends on its picture alone,
never on how many threads there are.
"""

import hashlib
import json
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from math import prod
from pathlib import Path
from threading import Condition
from typing import BinaryIO, Literal

import numpy as np
from jaxtyping import Int32, Int64, UInt8
from PIL import Image, UnidentifiedImageError

from convtl.config.domains import Caps
from convtl.data.pictures import NO_PICTURE, UNREAD, Fit, Levels
from convtl.data.splits import (
    LEVELS,
    SPLITS,
    Domain,
    ImageWriter,
    Store,
    images_file,
    save_labels,
    stratified_parts,
)
from convtl.errors import UserError
from convtl.runtime.cores import core_count
from convtl.storage.cache import refuse_without_room

_BLOCK = 256
"""Pictures handed to the threads together, at most."""
_NAMED = 3
"""Files that are named in a line."""
_SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True)
class Pool:
    """Labelled pictures that are not decoded yet.

    Attributes:
      names: of each, for messages and draws; the same wherever the data lie.
      labels: class of each.
      contents: digest of the file of each, by which copies are known; None where it is not known.
      open: returns the picture at an index, opened but not decoded; called by several threads.
      unread: what to say of a file, by its name, in a format that Pillow does not read.
    """

    names: Sequence[str]
    labels: Int32[np.ndarray, " n"]
    contents: Sequence[str | None]
    open: Callable[[int], Image.Image]
    unread: Callable[[str], str] = lambda name: UNREAD

    def duplicates(self, pictures: Sequence[int]) -> Int64[np.ndarray, " n"]:
        """Return, for each picture, the position of the first with the same content in its class."""
        firsts: dict[tuple[int, str], int] = {}
        return np.array(
            [
                at
                if (content := self.contents[picture]) is None
                else firsts.setdefault((int(self.labels[picture]), content), at)
                for at, picture in enumerate(pictures)
            ],
            np.int64,
        )


@dataclass(frozen=True)
class Recipe:
    """How pools become splits.

    Attributes:
      key, value: where the data come from, as in the config (`path` or `name`), for messages.
      fit: how a picture becomes an image.
      shape: of every image (height, width, channels).
      shares: split -> its share of each class of the first pool, where it has no pool of its own.
      rng: draws the members of the splits.
      caps: most pictures a class in each split.
      broken: what becomes of pictures that cannot be read.
    """

    key: str
    value: str
    fit: Fit
    shape: tuple[int, int, int]
    shares: Mapping[str, float]
    rng: np.random.Generator
    caps: Caps
    broken: Literal["skip", "error"]

    def cap(self, split: str) -> int | None:
        most: int | None = getattr(self.caps, split)
        return most

    @property
    def capped(self) -> bool:
        return any(self.cap(split) is not None for split in SPLITS)


def load_pictures(
    store: Store, class_names: tuple[str, ...], build: Callable[[Path], None]
) -> Domain:
    """Return a domain of pictures, decoded now where they are not in the cache, and say what it holds."""
    domain = store.decoded(class_names, build)
    sizes = ", ".join(f"{len(domain.split(split).labels)} {split}" for split in SPLITS)
    store.say(
        f"{store.name}: {len(class_names)} classes ({listed(class_names)}), pictures: {sizes}"
    )
    for split in SPLITS:
        present = set(domain.split(split).labels.tolist())
        lacking = [name for label, name in enumerate(class_names) if label not in present]
        if lacking:
            store.say(
                f"{store.name}: no {split} pictures of {len(lacking)} of {len(class_names)} classes "
                f"({listed(lacking)})"
            )
    return domain


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


class _Memory:
    """Bytes that threads reserve before they decode."""

    def __init__(self, size: float) -> None:
        self.size = self._free = size
        self._changed = Condition()

    @contextmanager
    def reserve(self, needed: float) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._free >= needed)
            self._free -= needed
        try:
            yield
        finally:
            with self._changed:
                self._free += needed
                self._changed.notify_all()


def decode(
    pool: Pool, pictures: Sequence[int], recipe: Recipe, file: BinaryIO, store: Store, split: str
) -> dict[int, str]:
    """Append the images of pictures to a file (uint8, raw), in order.

    Returns:
      Index of a picture -> why it was left out.

    Raises:
      UserError: decoding a picture needs more memory than `data.memory_gb`, or an image has another shape.
    """
    most = store.data.memory_gb * 1e9
    at_once = int(max(1, min(_BLOCK, most / 4 / prod(recipe.shape))))
    memory = _Memory(most - at_once * prod(recipe.shape))
    title = f"decoding pictures of {store.name} ({split})"
    faults: dict[int, str] = {}
    began = last = time.monotonic()
    store.say(f"{title}: 0 of {len(pictures)}")
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(store.data.workers or core_count()) as threads,
    ):
        warnings.simplefilter("ignore")  # of Pillow: odd tags, sizes just below what it refuses
        for start in range(0, len(pictures), at_once):
            block = pictures[start : start + at_once]
            results = threads.map(lambda index: _image(pool, index, recipe, memory), block)
            for index, result in zip(block, results, strict=True):
                if isinstance(result, str):
                    faults[index] = result
                else:
                    file.write(result.data)
            done, now = start + len(block), time.monotonic()
            if now - last > _SECONDS_BETWEEN_LINES:
                last = now
                store.say(
                    f"{title}: {done} of {len(pictures)}, {done / (now - began):.0f} a second"
                )
    return faults


def _image(
    pool: Pool, index: int, recipe: Recipe, memory: _Memory
) -> UInt8[np.ndarray, "height width channels"] | str:
    """Decode a picture; return why it cannot be read as text."""
    name = pool.names[index]
    try:
        with pool.open(index) as picture:
            needed = recipe.fit.memory(picture)
            if needed > memory.size:
                raise UserError(
                    f"{recipe.key}: got '{recipe.value}' with '{name}' of {picture.width}x{picture.height} "
                    f"pixels, which needs {needed / 1e9:.3g} GB to decode; accepted: smaller pictures, or a "
                    "larger data.memory_gb"
                )
            with memory.reserve(needed):
                image = recipe.fit(picture)
    except (MemoryError, UserError):  # say nothing about the picture
        raise
    except Image.DecompressionBombError:
        return "too large"
    except UnidentifiedImageError:
        return pool.unread(name)
    except Exception as error:  # decoders of damaged files raise nearly anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return f"broken ({' '.join(reason.partition('(')[0].split())[:80]})"
    if image.shape != recipe.shape:
        raise UserError(
            f"size: the images of '{recipe.value}' are of at least 2 different shapes, such as {image.shape} "
            f"and {recipe.shape}; give a size to resize them to"
        )
    return np.ascontiguousarray(image)


@dataclass
class _Builder:
    """Decodes pools and writes splits into a folder of the cache."""

    folder: Path
    recipe: Recipe
    store: Store
    faults: dict[str, str] = field(default_factory=dict)
    """name of a picture -> why it was left out"""
    members: dict[str, list[tuple[Pool, int]]] = field(default_factory=dict)
    """split -> its pictures"""

    def decode(
        self,
        split: str,
        pool: Pool,
        candidates: Sequence[int],
        spare: Sequence[int] = (),
        cap: int | None = None,
    ) -> tuple[dict[int, int], list[int]]:
        """Decode candidates, then spare ones, at most `cap` a class; the next replaces one that cannot be read.

        Returns:
          Picture -> its row in the decoded file, sorted by picture; and the pictures that the cap leaves
          over, without copies of those that were decoded.
        """
        chosen, waiting = _first_of_each_class(pool, candidates, spare, cap)
        rows: dict[int, int] = {}
        with self._decoded.open("wb") as file:
            while chosen:
                failed = decode(pool, chosen, self.recipe, file, self.store, split)
                self.faults.update((pool.names[index], fault) for index, fault in failed.items())
                for index in chosen:
                    if index not in failed:
                        rows[index] = len(rows)
                classes = [waiting[int(pool.labels[index])] for index in failed]
                chosen = [members.pop(0) for members in classes if members]
        used = {pool.contents[index] for index in rows} - {None}
        rest = (index for members in waiting.values() for index in members)
        return dict(sorted(rows.items())), [i for i in rest if pool.contents[i] not in used]

    def write(self, split: str, pool: Pool, rows: Mapping[int, int], pictures: list[int]) -> None:
        """Write decoded pictures, in this order, as a split."""
        shape = self.recipe.shape
        size = prod(shape)
        path = images_file(self.folder, split)
        with self._decoded.open("rb") as decoded, ImageWriter(path, len(pictures), shape) as images:
            for picture in pictures:
                decoded.seek(rows[picture] * size)
                images.append(np.frombuffer(decoded.read(size), np.uint8))
        save_labels(self.folder, split, pool.labels[pictures])
        self.members[split] = [(pool, picture) for picture in pictures]

    @property
    def _decoded(self) -> Path:
        return self.folder / "decoded.raw"

    def build(self, pools: Mapping[str, Pool]) -> None:
        """Decode and divide; see `build_splits`."""
        recipe, first = self.recipe, _first(pools)
        shares = {s: share for s, share in recipe.shares.items() if s not in pools or s == first}
        drawn = {"train": 0, **shares}
        for split, pool in pools.items():
            everything = list(range(len(pool.labels)))
            if split == first and not recipe.capped:
                rows, _ = self.decode(split, pool, everything)
                pictures = list(rows)
                copies = pool.duplicates(pictures)
                parts = stratified_parts(pool.labels[pictures], drawn, recipe.rng, copies)
                for name, part in parts.items():
                    self.write(name, pool, rows, [pictures[at] for at in part])
                continue
            parts = {split: np.array(everything, np.int64)}
            if split == first:
                copies = pool.duplicates(everything)
                parts = stratified_parts(pool.labels, drawn, recipe.rng, copies)
            rest: list[int] = []
            for name in sorted(parts, key="train".__eq__):  # last: it takes what the others leave
                spare = rest if name == "train" else []
                rows, left = self.decode(name, pool, parts[name].tolist(), spare, recipe.cap(name))
                self.write(name, pool, rows, list(rows))
                rest += left
        self._decoded.unlink()


def build_splits(
    folder: Path,
    pools: Mapping[str, Pool],
    recipe: Recipe,
    store: Store,
    levels: Levels | None = None,
) -> None:
    """Decode pools into a folder of the cache, as `Store.splits` reads it.

    Splits without a pool are drawn from the first pool, class by class: from its readable pictures, or with
    caps from all that are listed, so that only pictures that are used need to be read. Copies of a file in a
    class stay in one split. A cap takes the pictures of a class in the order of the digests of their names; a
    larger cap takes the same and more. What the caps of drawn splits leave is for training, after the
    pictures that are drawn for it.

    Args:
      folder: exists, on the file system of the cache.
      pools: split -> its pictures.
      levels: of deep grey pictures, kept beside the images.

    Raises:
      UserError: no room on the disk, or a picture cannot be used.
    """
    _check_room(folder, pools, recipe, store)
    builder = _Builder(folder, recipe, store)
    builder.build(pools)
    if levels is not None:
        (folder / LEVELS).write_text(json.dumps(levels))
    _report(builder.faults, sum(len(pool.labels) for pool in pools.values()), recipe, store)
    if copies := _copies(builder.members):
        store.say(f"{store.name}: identical pictures in {recipe.value}: {copies}")


def _first_of_each_class(
    pool: Pool, candidates: Sequence[int], spare: Sequence[int], cap: int | None
) -> tuple[list[int], Mapping[int, list[int]]]:
    """Return at most `cap` candidates of each class, then spare ones, and by class those after them."""
    waiting: defaultdict[int, list[int]] = defaultdict(list)
    everything, later = [*candidates, *spare], set(spare)
    if cap is None:
        return sorted(everything), waiting

    def order(index: int) -> tuple[bool, bytes, int]:
        name = pool.names[index].encode("utf-8", "surrogatepass")
        return index in later, hashlib.sha256(name).digest(), index

    for index in sorted(everything, key=order):
        waiting[int(pool.labels[index])].append(index)
    chosen = [index for members in waiting.values() for index in members[:cap]]
    return sorted(chosen), defaultdict(list, {k: own[cap:] for k, own in waiting.items()})


def _first(pools: Mapping[str, Pool]) -> str:
    """Return the split from whose pool the missing ones are drawn."""
    return next(split for split in SPLITS if split in pools)


def _check_room(folder: Path, pools: Mapping[str, Pool], recipe: Recipe, store: Store) -> None:
    """Refuse what does not fit on the disk; the largest pool is there twice while it is divided."""
    counts: list[int] = []
    for split, pool in pools.items():
        drawn = {name for name in recipe.shares if name not in pools}
        caps = [recipe.cap(name) for name in {split} | (drawn if split == _first(pools) else set())]
        size, classes = len(pool.labels), len(np.unique(pool.labels))
        counts.append(size if None in caps else min(size, classes * sum(cap or 0 for cap in caps)))
    refuse_without_room(
        folder,
        (sum(counts) + max(counts)) * prod(recipe.shape),
        f"the decoded pictures of '{recipe.value}'",
        folder.parent.parent,
        f"choose another folder with cache=..., a smaller domains.{store.name}.size or "
        f"domains.{store.name}.per_class",
    )


def _report(faults: Mapping[str, str], total: int, recipe: Recipe, store: Store) -> None:
    """Say in one line what was left out.

    Raises:
      UserError: pictures could not be read, and this is to be an error.
    """
    if not faults:
        return
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for name, fault in sorted(faults.items()):
        kinds[fault].append(name)
    ignored = len(kinds.pop(NO_PICTURE, []))
    lost = [f"{fault}: {listed(names)}" for fault, names in sorted(kinds.items())]
    if recipe.broken == "error" and lost:
        raise UserError(
            f"broken: got 'error', and pictures of '{recipe.value}' cannot be read ({'; '.join(lost)}); "
            "accepted: readable pictures only, or broken=skip"
        )
    if ignored:
        lost.append(f"no pictures: {ignored}")
    files = f"{len(faults)} of {total} files"
    store.say(f"{store.name}: {files} in {recipe.value} left out ({'; '.join(lost)})")


def _copies(members: Mapping[str, Sequence[tuple[Pool, int]]]) -> str:
    """Describe files of the same content in two splits, which make a test too easy, or in two classes."""
    lines = []
    for earlier, later in combinations([split for split in SPLITS if split in members], 2):
        known = {pool.contents[index] for pool, index in members[earlier]} - {None}
        both = [pool.names[i] for pool, i in members[later] if pool.contents[i] in known]
        if both:
            lines.append(f"{_counted(both, f'{later} picture')} in {earlier}, too ({listed(both)})")
    classes: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for pool, index in (member for split in members.values() for member in split):
        if (content := pool.contents[index]) is not None:
            classes[content].setdefault(int(pool.labels[index]), pool.names[index])
    several = [" = ".join(names.values()) for names in classes.values() if len(names) > 1]
    if several:
        lines.append(f"{_counted(several, 'picture')} in more than one class ({listed(several)})")
    return "; ".join(lines)


def _counted(names: Sequence[str], noun: str) -> str:
    return f"{len(names)} {noun}{' is' if len(names) == 1 else 's are'}"
