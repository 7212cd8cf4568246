"""Decoding of labelled pictures to the splits of a domain, in bounded memory.

Threads decode, as Pillow releases the interpreter's lock; an image does not depend on their number.
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
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from convtl.config.domains import Caps
from convtl.data.pictures import NO_PICTURE, Fit
from convtl.data.splits import LEVELS, SPLITS, Labels, Store, listed, save_split, stratified_parts
from convtl.errors import UserError
from convtl.runtime.backend import core_count

_BLOCK = 256
"""Pictures handed to the threads together."""
_THREAD_BYTES = 125e6
"""Least memory of a thread."""
_RAW = "decoded.raw"
"""File of the decoded images of a pool, one after the other."""


@dataclass(frozen=True)
class Pool:
    """Labelled pictures that are not decoded yet.

    Attributes:
      names: for messages and draws; they do not depend on where the data lie.
      contents: digest of each file, by which copies are known, or None.
      open: returns the picture at an index, opened but not decoded; called by several threads.
    """

    names: Sequence[str]
    labels: Labels
    contents: Sequence[str | None]
    open: Callable[[int], Image.Image]


@dataclass
class SplitBuilder:
    """Builder of splits: decodes pools of pictures into a folder of the cache.

    Splits without a pool are drawn from the first pool, class by class: from its readable pictures, or with
    caps from all that are listed, so that only pictures in use are read. Copies in a class stay in one split. A cap
    takes pictures in the order of digests of names, so that a larger one adds to them; what it leaves of drawn
    splits is for training.

    Attributes:
      origin: config key and value of the data's place, for messages.
      shares: split -> its share of each class of the first pool, if it has no pool.
      rng: draws the members of the splits.
    """

    folder: Path
    store: Store
    caps: Caps
    origin: tuple[str, str]
    pools: Mapping[str, Pool]
    fit: Fit
    shares: Mapping[str, float]
    rng: np.random.Generator
    _faults: dict[str, str] = field(default_factory=dict)
    """name of a picture -> why it was left out"""
    _members: list[tuple[str, Pool, int]] = field(default_factory=list)
    """split, pool and index of every picture that is used"""

    def build(self) -> None:
        """Decode and write all splits; UserError if a picture needs too much memory."""
        first = next(split for split in SPLITS if split in self.pools)
        for split, pool in self.pools.items():
            every = list(range(len(pool.labels)))
            if split == first and self.caps == Caps():
                rows, _ = self._decode(split, pool, every)
                for name, part in self._divided(pool, list(rows)).items():
                    self._write(name, pool, rows, part)
                continue
            parts = self._divided(pool, every) if split == first else {split: every}
            rest: list[int] = []
            for name in sorted(parts, key="train".__eq__):  # last: it takes what the others leave
                spare = rest if name == "train" else []
                rows, left = self._decode(name, pool, parts[name], spare)
                self._write(name, pool, rows, list(rows))
                rest += left
        (self.folder / _RAW).unlink()
        if self.fit.levels is not None:
            (self.folder / LEVELS).write_text(json.dumps(self.fit.levels))
        self._report()

    def _divided(self, pool: Pool, pictures: list[int]) -> dict[str, list[int]]:
        """Divide pictures among the splits without a pool; train takes the rest."""
        shares = {"train": 0.0, **self.shares}
        drawn = {name: shares[name] for name in shares if self.pools.get(name, pool) is pool}
        firsts: dict[tuple[int, str | int], int] = {}  # label and content -> position
        names = [(int(pool.labels[index]), pool.contents[index] or index) for index in pictures]
        copies = np.array([firsts.setdefault(name, at) for at, name in enumerate(names)], np.int64)
        parts = stratified_parts(pool.labels[pictures], drawn, self.rng, copies)
        return {name: [pictures[at] for at in part] for name, part in parts.items()}

    def _decode(
        self, split: str, pool: Pool, candidates: Sequence[int], spare: Sequence[int] = ()
    ) -> tuple[dict[int, int], list[int]]:
        """Decode readable candidates, then spares, up to the split's cap per class.

        Returns:
          Picture -> its row in the decoded file, sorted by picture; and the pictures that the cap leaves
          over, without copies of those that were decoded.
        """
        cap: int = getattr(self.caps, split) or len(pool.labels)
        later, by_class = set(spare), defaultdict[int, list[int]](list)

        def order(index: int) -> tuple[bool, bytes, int]:
            name = pool.names[index].encode("utf-8", "surrogatepass")
            return index in later, hashlib.sha256(name).digest(), index

        for index in sorted([*candidates, *spare], key=order):
            by_class[int(pool.labels[index])].append(index)
        chosen = sorted(index for members in by_class.values() for index in members[:cap])
        waiting = {label: members[cap:] for label, members in by_class.items()}
        rows: dict[int, int] = {}
        with (self.folder / _RAW).open("wb") as file:
            while chosen:
                faults = self._decode_all(split, pool, chosen, file)
                self._faults.update((pool.names[index], fault) for index, fault in faults.items())
                for index in chosen:
                    if index not in faults:
                        rows[index] = len(rows)
                classes = [waiting[int(pool.labels[index])] for index in faults]
                chosen = [members.pop(0) for members in classes if members]
        used = {pool.contents[index] for index in rows} - {None}
        rest = (index for members in waiting.values() for index in members)
        return dict(sorted(rows.items())), [i for i in rest if pool.contents[i] not in used]

    def _decode_all(
        self, split: str, pool: Pool, pictures: Sequence[int], file: BinaryIO
    ) -> dict[int, str]:
        """Append pictures' images to a file in order; return faults of the others."""
        quarter, last = self.store.memory / 4, time.monotonic()
        workers = max(1, min(core_count(), int(quarter / _THREAD_BYTES)))
        at_once = int(max(1, min(_BLOCK, quarter / prod(self.fit.shape))))
        decode = partial(self._image, pool, quarter / workers)
        faults: dict[int, str] = {}
        with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(workers) as threads:
            for start in range(0, len(pictures), at_once):
                block = pictures[start : start + at_once]
                for index, result in zip(block, threads.map(decode, block), strict=True):
                    if result is None:  # larger than a thread's share
                        result = self._image(pool, 2 * quarter, index)
                    if isinstance(result, np.ndarray):
                        file.write(result.data)
                    else:
                        faults[index] = str(result)
                if time.monotonic() - last > 5:
                    last, done = time.monotonic(), f"{start + len(block)} of {len(pictures)}"
                    self.store.say(f"decoding pictures of {self.store.name} ({split}): {done}")
        return faults

    def _image(
        self, pool: Pool, memory: float, index: int
    ) -> UInt8[np.ndarray, "height width channels"] | str | None:
        """Decode a picture; return its fault as text, or None if it needs more memory."""
        name, (key, origin) = pool.names[index], self.origin
        try:
            with pool.open(index) as picture:
                needed = self.fit.memory(picture)
                if needed > self.store.memory / 2:
                    raise UserError(
                        f"{key}: got '{origin}' with '{name}' of {picture.width}x{picture.height} pixels; "
                        f"accepted: smaller pictures, or data.memory_gb of at least {needed / 5e8:.3g}"
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
            return NO_PICTURE
        except Exception as error:  # decoders of damaged files raise nearly anything
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            return f"broken ({' '.join(reason.partition('(')[0].split())[:80]})"
        return np.ascontiguousarray(image)

    def _write(self, split: str, pool: Pool, rows: Mapping[int, int], pictures: list[int]) -> None:
        """Write decoded pictures, in this order, as a split."""
        size = prod(self.fit.shape)

        def images() -> Iterator[np.ndarray]:
            with (self.folder / _RAW).open("rb") as decoded:
                for picture in pictures:
                    decoded.seek(rows[picture] * size)
                    yield np.frombuffer(decoded.read(size), np.uint8)

        save_split(self.folder, split, images(), self.fit.shape, pool.labels[pictures])
        self._members += [(split, pool, picture) for picture in pictures]

    def _report(self) -> None:
        """Report pictures left out, and copies in several splits or classes."""
        name, origin = self.store.name, self.origin[1]
        faults: defaultdict[str, list[str]] = defaultdict(list)
        for picture, fault in sorted(self._faults.items()):
            faults[fault].append(picture)
        if faults:
            counted = f"{len(self._faults)} of {sum(len(p.labels) for p in self.pools.values())}"
            reasons = "; ".join(f"{fault}: {listed(faults[fault])}" for fault in sorted(faults))
            self.store.say(f"{name}: {counted} files in {origin} left out ({reasons})")
        copies: defaultdict[str, dict[tuple[str, int], str]] = defaultdict(dict)
        for split, pool, index in self._members:
            if content := pool.contents[index]:
                place = (split, int(pool.labels[index]))
                copies[content].setdefault(place, pool.names[index])
        if several := [" = ".join(c.values()) for c in copies.values() if len(c) > 1]:
            counted = f"{len(several)} pictures of {origin} are in several splits or classes"
            self.store.say(f"{name}: {counted} ({listed(sorted(several))})")
