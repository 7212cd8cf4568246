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
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from convtl.config.domains import ImageFolderConfig, TfdsConfig
from convtl.data.pictures import NO_PICTURE, UNREAD, Fit
from convtl.data.splits import (
    LEVELS,
    SPLITS,
    Domain,
    Indices,
    Labels,
    Store,
    save_split,
    stratified_parts,
)
from convtl.errors import UserError
from convtl.runtime.cores import core_count
from convtl.storage.cache import refuse_without_room

_BLOCK = 256
"""Pictures handed to the threads, or images copied, together."""
_THREAD_BYTES = 125e6
"""Memory of a thread at least, where their number is not given."""
_NAMED = 3
"""Files that are named in a line."""
_SECONDS_BETWEEN_LINES = 5.0
_KEYS = {"image_folder": "path", "tfds": "name"}
"""Kind -> key of the config that says where its data lie."""


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


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
            counted = f"{len(lacking)} of {len(class_names)} classes ({listed(lacking)})"
            store.say(f"{store.name}: no {split} pictures of {counted}")
    return domain


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
    labels: Labels
    contents: Sequence[str | None]
    open: Callable[[int], Image.Image]
    unread: Callable[[str], str] = lambda name: UNREAD

    def first_copies(self, pictures: Sequence[int]) -> Indices:
        """Return, for each picture, the position of the first with the same content in its class."""
        firsts: dict[tuple[int, str | int], int] = {}
        keys = ((int(self.labels[index]), self.contents[index] or index) for index in pictures)
        return np.array([firsts.setdefault(key, at) for at, key in enumerate(keys)], np.int64)


@dataclass
class SplitBuilder:
    """Decodes pools of pictures and writes splits into a folder of the cache.

    Splits without a pool are drawn from the first pool, class by class: from its readable pictures, or with
    caps from all that are listed, so that only pictures that are used need to be read. Copies of a file in a
    class stay in one split. A cap takes the pictures of a class in the order of the digests of their names; a
    larger cap takes the same and more. What the caps of drawn splits leave is for training, after the
    pictures that are drawn for it.

    Attributes:
      origin: the data as the config names them, for messages.
      pools: split -> its pictures.
      fit: how a picture becomes an image.
      shape: of every image (height, width, channels).
      shares: split -> its share of each class of the first pool, where it has no pool of its own.
      rng: draws the members of the splits.
    """

    folder: Path
    store: Store
    config: ImageFolderConfig | TfdsConfig
    origin: str
    pools: Mapping[str, Pool]
    fit: Fit
    shape: tuple[int, int, int]
    shares: Mapping[str, float]
    rng: np.random.Generator
    _faults: dict[str, str] = field(default_factory=dict)
    """name of a picture -> why it was left out"""
    _members: dict[str, list[tuple[Pool, int]]] = field(default_factory=dict)
    """split -> its pictures"""

    def build(self) -> None:
        """Decode and divide.

        Raises:
          UserError: no room on the disk, or a picture cannot be used.
        """
        self._check_room()
        for split, pool in self.pools.items():
            every = list(range(len(pool.labels)))
            if split == self._first and not any(self._cap(name) for name in SPLITS):
                rows, _ = self._decode(split, pool, every)
                for name, part in self._divided(pool, list(rows)).items():
                    self._write(name, pool, rows, part)
                continue
            parts = self._divided(pool, every) if split == self._first else {split: every}
            rest: list[int] = []
            for name in sorted(parts, key="train".__eq__):  # last: it takes what the others leave
                spare = rest if name == "train" else []
                rows, left = self._decode(name, pool, parts[name], spare, self._cap(name))
                self._write(name, pool, rows, list(rows))
                rest += left
        self._raw.unlink()
        if self.fit.levels is not None:
            (self.folder / LEVELS).write_text(json.dumps(self.fit.levels))
        self._report_faults()
        if copies := _copies(self._members):
            self.store.say(f"{self.store.name}: identical pictures in {self.origin}: {copies}")

    @property
    def _raw(self) -> Path:
        """Decoded images of a pool, one after the other."""
        return self.folder / "decoded.raw"

    @property
    def _first(self) -> str:
        """The split from whose pool missing ones are drawn."""
        return next(split for split in SPLITS if split in self.pools)

    @property
    def _drawn(self) -> dict[str, float]:
        """Split -> share of the first pool; train takes the rest."""
        missing = {"train": 0.0, **self.shares}
        given = self.pools.keys() - {self._first, "train"}
        return {split: share for split, share in missing.items() if split not in given}

    def _cap(self, split: str) -> int | None:
        most: int | None = getattr(self.config.per_class, split)
        return most

    def _divided(self, pool: Pool, pictures: list[int]) -> dict[str, list[int]]:
        labels, copies = pool.labels[pictures], pool.first_copies(pictures)
        parts = stratified_parts(labels, self._drawn, self.rng, copies)
        return {name: [pictures[at] for at in part] for name, part in parts.items()}

    def _decode(
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
        with self._raw.open("wb") as file:
            while chosen:
                failed = self._decode_all(split, pool, chosen, file)
                self._faults.update((pool.names[index], fault) for index, fault in failed.items())
                for index in chosen:
                    if index not in failed:
                        rows[index] = len(rows)
                classes = [waiting[int(pool.labels[index])] for index in failed]
                chosen = [members.pop(0) for members in classes if members]
        used = {pool.contents[index] for index in rows} - {None}
        rest = (index for members in waiting.values() for index in members)
        return dict(sorted(rows.items())), [i for i in rest if pool.contents[i] not in used]

    def _decode_all(
        self, split: str, pool: Pool, pictures: Sequence[int], file: BinaryIO
    ) -> dict[int, str]:
        """Append the images of pictures to a file, in order; return why others were left out."""
        quarter, size = self.store.data.memory_gb * 1e9 / 4, prod(self.shape)
        workers = self.store.data.workers or max(1, min(core_count(), int(quarter / _THREAD_BYTES)))
        at_once = int(max(1, min(_BLOCK, quarter / size)))
        title = f"decoding pictures of {self.store.name} ({split})"
        faults: dict[int, str] = {}
        began = last = time.monotonic()
        self.store.say(f"{title}: 0 of {len(pictures)}")
        with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(workers) as threads:
            for start in range(0, len(pictures), at_once):
                block = pictures[start : start + at_once]
                share = partial(self._image, pool, quarter / workers)
                for index, result in zip(block, threads.map(share, block), strict=True):
                    if result is None:  # larger than a thread's share
                        result = self._image(pool, 2 * quarter, index)
                    if isinstance(result, np.ndarray):
                        file.write(result.data)
                    else:
                        faults[index] = str(result)
                done, now = start + len(block), time.monotonic()
                if now - last > _SECONDS_BETWEEN_LINES:
                    last, rate = now, f"{done / (now - began):.0f} a second"
                    self.store.say(f"{title}: {done} of {len(pictures)}, {rate}")
        return faults

    def _image(
        self, pool: Pool, memory: float, index: int
    ) -> UInt8[np.ndarray, "height width channels"] | str | None:
        """Decode a picture; return why it cannot be read as text, None where it needs more memory.

        Raises:
          UserError: it needs more than half of `data.memory_gb`, or its image has another shape.
        """
        name = pool.names[index]
        try:
            with pool.open(index) as picture:
                needed = self.fit.memory(picture)
                if needed > self.store.data.memory_gb * 1e9 / 2:
                    raise UserError(
                        f"{_KEYS[self.config.kind]}: got '{self.origin}' with '{name}' of {picture.width}x"
                        f"{picture.height} pixels; accepted: smaller pictures, or data.memory_gb of at least "
                        f"{2 * needed / 1e9:.3g}"
                    )
                if needed > memory:
                    return None
                image = self.fit(picture)
                picture.close()  # frees its pixels
        except (MemoryError, UserError):  # say nothing about the picture
            raise
        except Image.DecompressionBombError:
            return "too large"
        except UnidentifiedImageError:
            return pool.unread(name)
        except Exception as error:  # decoders of damaged files raise nearly anything
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            return f"broken ({' '.join(reason.partition('(')[0].split())[:80]})"
        if image.shape != self.shape:
            raise UserError(
                f"size: the images of '{self.origin}' are of at least 2 different shapes, such as {image.shape} "
                f"and {self.shape}; give a size to resize them to"
            )
        return np.ascontiguousarray(image)

    def _write(self, split: str, pool: Pool, rows: Mapping[int, int], pictures: list[int]) -> None:
        """Write decoded pictures, in this order, as a split."""

        def images() -> Iterator[np.ndarray]:
            with self._raw.open("rb") as decoded:
                for picture in pictures:
                    decoded.seek(rows[picture] * prod(self.shape))
                    yield np.frombuffer(decoded.read(prod(self.shape)), np.uint8)

        save_split(self.folder, split, images(), self.shape, pool.labels[pictures])
        self._members[split] = [(pool, picture) for picture in pictures]

    def _check_room(self) -> None:
        """Refuse what does not fit on the disk; the largest pool is there twice while it is divided."""
        counts: list[int] = []
        for split, pool in self.pools.items():
            names = {split, *(self._drawn if split == self._first else ())}
            caps = [self._cap(name) for name in names]
            size, classes = len(pool.labels), len(np.unique(pool.labels))
            most = size if None in caps else classes * sum(cap or 0 for cap in caps)
            counts.append(min(size, most))
        refuse_without_room(
            self.folder,
            (sum(counts) + max(counts)) * prod(self.shape),
            f"the decoded pictures of '{self.origin}'",
            self.store.cache.root,
            f"choose another folder with cache=..., a smaller domains.{self.store.name}.size or "
            f"domains.{self.store.name}.per_class",
        )

    def _report_faults(self) -> None:
        """Say in one line what was left out; an error where the config makes it one."""
        kinds: defaultdict[str, list[str]] = defaultdict(list)
        for name, fault in sorted(self._faults.items()):
            kinds[fault].append(name)
        ignored = len(kinds.pop(NO_PICTURE, []))
        lost = [f"{fault}: {listed(names)}" for fault, names in sorted(kinds.items())]
        if self.config.broken == "error" and lost:
            raise UserError(
                f"broken: got 'error', and pictures of '{self.origin}' cannot be read ({'; '.join(lost)}); "
                "accepted: readable pictures only, or broken=skip"
            )
        lost += [f"no pictures: {ignored}"] if ignored else []
        if lost:
            files = (
                f"{len(self._faults)} of {sum(len(p.labels) for p in self.pools.values())} files"
            )
            self.store.say(
                f"{self.store.name}: {files} in {self.origin} left out ({'; '.join(lost)})"
            )


def _first_of_each_class(
    pool: Pool, candidates: Sequence[int], spare: Sequence[int], cap: int | None
) -> tuple[list[int], Mapping[int, list[int]]]:
    """Return at most `cap` candidates of each class, then spare ones, and by class those after them."""
    everything, later = [*candidates, *spare], set(spare)
    waiting: defaultdict[int, list[int]] = defaultdict(list)
    if cap is None:
        return sorted(everything), waiting

    def order(index: int) -> tuple[bool, bytes, int]:
        name = pool.names[index].encode("utf-8", "surrogatepass")
        return index in later, hashlib.sha256(name).digest(), index

    for index in sorted(everything, key=order):
        waiting[int(pool.labels[index])].append(index)
    chosen = [index for members in waiting.values() for index in members[:cap]]
    for members in waiting.values():
        del members[:cap]
    return sorted(chosen), waiting


def _copies(members: Mapping[str, Sequence[tuple[Pool, int]]]) -> str:
    """Describe files of the same content in two splits, which make a test too easy, or in two classes."""
    lines = []

    def add(names: Sequence[str], noun: str, where: str) -> None:
        if names:
            verb = " is" if len(names) == 1 else "s are"
            lines.append(f"{len(names)} {noun}{verb} in {where} ({listed(names)})")

    for earlier, later in combinations([split for split in SPLITS if split in members], 2):
        known = {pool.contents[index] for pool, index in members[earlier]} - {None}
        both = [pool.names[i] for pool, i in members[later] if pool.contents[i] in known]
        add(both, f"{later} picture", f"{earlier}, too")
    classes: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for pool, index in (member for split in members.values() for member in split):
        if (content := pool.contents[index]) is not None:
            classes[content].setdefault(int(pool.labels[index]), pool.names[index])
    several = [" = ".join(names.values()) for names in classes.values() if len(names) > 1]
    add(several, "picture", "more than one class")
    return "; ".join(lines)
