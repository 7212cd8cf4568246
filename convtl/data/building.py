"""Pools of labelled pictures -> the decoded splits of a domain, as files."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int32, Int64

from convtl.config.domains import Caps
from convtl.data.decoding import Fault, Means, Source, decode
from convtl.data.formats import unread_files, unread_format
from convtl.data.rows import Rows
from convtl.data.splits import SPLITS, Domain, Store, images_file, save_labels, stratified_parts
from convtl.data.twins import Member, listed, told_twins
from convtl.errors import UserError
from convtl.storage.cache import refuse_without_room


@dataclass(frozen=True)
class Pool:
    """Labelled pictures that nobody has decoded yet.

    Attributes:
      source: the pictures.
      labels: class of each.
      names: name of each, by which it is told and drawn; the same wherever the data lies.
      contents: digest of the file of each, by which copies are known; None where it is not known.
    """

    source: Source
    labels: Int32[np.ndarray, " n"]
    names: Sequence[str]
    contents: Sequence[str | None]

    def members(self, pictures: Iterable[int]) -> list[Member]:
        return [Member(self.names[i], int(self.labels[i]), self.contents[i]) for i in pictures]

    def twins(self, pictures: Sequence[int]) -> Int64[np.ndarray, " n"]:
        """For each of these pictures, the position of the first with the same content in its class."""
        firsts: dict[tuple[int, str], int] = {}
        return np.array(
            [
                at if m.content is None else firsts.setdefault((m.label, m.content), at)
                for at, m in enumerate(self.members(pictures))
            ],
            np.int64,
        )


@dataclass(frozen=True)
class Recipe:
    """How pools become splits.

    Attributes:
      name, where: of the domain and of its data, for messages.
      shape: of every image (height, width, channels).
      shares: split -> its share of each class of the first pool, where it has no pool of its own.
      rng: draws who goes where.
      caps: most pictures a class in each split.
      broken: what becomes of pictures that cannot be read.
    """

    name: str
    where: str
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


@dataclass(frozen=True)
class _Decoded:
    """Rows of a file, and which picture of a pool each holds."""

    rows: Rows
    kept: Sequence[tuple[int, int]]
    """(picture, row), sorted"""
    left: Sequence[int] = ()
    """pictures that a cap left untouched, none of which is a copy of one that was kept"""

    @property
    def pictures(self) -> list[int]:
        return [picture for picture, _ in self.kept]

    def write(self, folder: Path, split: str, pool: Pool, part: np.ndarray) -> None:
        chosen = [self.kept[index] for index in part]
        save_labels(folder, split, pool.labels[[picture for picture, _ in chosen]])
        self.rows.take([row for _, row in chosen], images_file(folder, split))


def build_splits(folder: Path, pools: Mapping[str, Pool], recipe: Recipe, means: Means) -> None:
    """Decodes pools into a folder of the cache, as `convtl.data.stored` reads it.

    Splits without a pool are drawn from the first pool, class by class: from its readable pictures, or with
    caps from all that are listed, so that only pictures that are used need to be read. Copies of a file in a
    class stay in one split. A cap takes the pictures of a class in the order of the digests of their names; a
    larger cap takes the same and more. What the caps of drawn splits leave is for training, after the
    pictures that are drawn for it.

    Args:
      folder: exists, on the file system of the cache.
      pools: split -> its pictures.
      recipe: how splits are made of them.
      means: memory, processes, progress.

    Raises:
      UserError: no room on the disk, or a picture cannot be used.
    """
    first = next(split for split in SPLITS if split in pools)
    drawn = {
        "train": 0,
        **{s: share for s, share in recipe.shares.items() if s not in pools or s == first},
    }
    splits_of = {split: tuple(drawn) if split == first else (split,) for split in pools}
    _check_room(
        folder, pools, splits_of, recipe, copied=None if recipe.capped or len(drawn) == 1 else first
    )
    faults: dict[str, Fault] = {}
    members: dict[str, list[Member]] = {}
    for split, pool in pools.items():
        everything = np.arange(len(pool.labels))
        if split == first and not recipe.capped:
            decoded = _decode(folder, split, pool, everything, (), None, recipe, means, faults)
            kept = decoded.pictures
            parts = stratified_parts(pool.labels[kept], drawn, recipe.rng, pool.twins(kept))
            for name, part in parts.items():
                decoded.write(folder, name, pool, part)
                members[name] = pool.members(kept[index] for index in part)
            decoded.rows.path.unlink(missing_ok=True)
            continue
        parts = {split: everything}
        if split == first:
            parts = stratified_parts(
                pool.labels, drawn, recipe.rng, pool.twins(everything.tolist())
            )
        left: list[int] = []
        for name in sorted(parts, key="train".__eq__):  # last, since it takes what the others leave
            spare = left if name == "train" else []
            decoded = _decode(
                folder, name, pool, parts[name], spare, recipe.cap(name), recipe, means, faults
            )
            decoded.write(folder, name, pool, np.arange(len(decoded.kept)))
            decoded.rows.path.unlink(missing_ok=True)
            members[name] = pool.members(decoded.pictures)
            left += decoded.left
    _report(faults, sum(len(pool.labels) for pool in pools.values()), recipe, means)
    if twins := told_twins(members):
        means.tell(f"{recipe.name}: identical pictures in {recipe.where}: {twins}")


def load_pictures(
    store: Store, class_names: tuple[str, ...], build: Callable[[Path, str, Means], None]
) -> Domain:
    """Return a domain of pictures, and tell which splits lack classes."""
    means = Means(store.data, store.say)
    domain = store.decoded(class_names, lambda folder: build(folder, store.name, means))
    for split in SPLITS:
        present = set(domain.split(split).labels.tolist())
        lacking = [name for label, name in enumerate(class_names) if label not in present]
        if lacking:
            named = ", ".join(lacking[:5]) + ", ..." * (len(lacking) > 5)
            means.tell(
                f"{store.name}: no {split} pictures of {len(lacking)} of {len(class_names)} classes ({named})"
            )
    return domain


def _decode(
    folder: Path,
    split: str,
    pool: Pool,
    candidates: np.ndarray,
    spare: Sequence[int],
    cap: int | None,
    recipe: Recipe,
    means: Means,
    faults: dict[str, Fault],
) -> _Decoded:
    """Decodes candidates, then spare ones, at most `cap` a class; for one that cannot be read comes the next."""
    chosen, waiting = _first_of_each_class(pool, candidates, spare, cap)
    rows = Rows(folder / f"decoding_{split}.npy", len(chosen), recipe.shape).create()
    kept: list[tuple[int, int]] = []
    jobs = list(enumerate(chosen))
    while jobs:
        failed = decode(
            pool.source, jobs, rows, means, f"decoding pictures of {recipe.name} ({split})"
        )
        _refuse_other_shapes(pool, failed, recipe)
        faults.update((pool.names[index], fault) for index, fault in failed.items())
        kept += [(index, row) for row, index in jobs if index not in failed]
        jobs = [
            (row, waiting[label].pop(0))
            for row, index in jobs
            if index in failed and waiting[label := int(pool.labels[index])]
        ]
    used = {pool.contents[index] for index, _ in kept} - {None}
    left = [index for own in waiting.values() for index in own if pool.contents[index] not in used]
    return _Decoded(rows, sorted(kept), left)


def _first_of_each_class(
    pool: Pool, candidates: np.ndarray, spare: Sequence[int], cap: int | None
) -> tuple[list[int], Mapping[int, list[int]]]:
    """At most `cap` candidates of each class, then spare ones, and by class those that come after them."""
    waiting: defaultdict[int, list[int]] = defaultdict(list)
    everything = [*map(int, candidates), *spare]
    if cap is None:
        return sorted(everything), waiting
    later = set(spare)
    digests = {
        i: hashlib.sha256(pool.names[i].encode("utf-8", "surrogatepass")) for i in everything
    }
    for index in sorted(digests, key=lambda i: (i in later, digests[i].digest(), i)):
        waiting[int(pool.labels[index])].append(index)
    chosen = []
    for label, members in waiting.items():
        chosen += members[:cap]
        waiting[label] = members[cap:]
    return sorted(chosen), waiting


def _refuse_other_shapes(pool: Pool, faults: Mapping[int, Fault], recipe: Recipe) -> None:
    for index, fault in faults.items():
        if fault == "of another shape":
            with pool.source.open(index) as picture:
                other = pool.source.fit(picture).shape
            raise UserError(
                f"size: the images of '{recipe.where}' are of at least 2 different shapes, such as {other} and "
                f"{recipe.shape}; give a size to resize them to"
            )


def _check_room(
    folder: Path,
    pools: Mapping[str, Pool],
    splits_of: Mapping[str, Sequence[str]],
    recipe: Recipe,
    copied: str | None,
) -> None:
    """A pool that is divided is there twice for a while."""
    count = 0
    for split, pool in pools.items():
        caps = [recipe.cap(name) for name in splits_of[split]]
        most = len(np.unique(pool.labels)) * sum(
            len(pool.labels) if cap is None else cap for cap in caps
        )
        count += min(len(pool.labels), most) * (2 if split == copied else 1)
    refuse_without_room(
        folder,
        count * prod(recipe.shape),
        f"the decoded pictures of '{recipe.where}'",
        folder.parent.parent,
        f"choose another folder with cache=..., a smaller domains.{recipe.name}.size or "
        f"domains.{recipe.name}.per_class",
    )


def _report(faults: Mapping[str, Fault], total: int, recipe: Recipe, means: Means) -> None:
    """One line about what was left out.

    Raises:
      UserError: pictures could not be read, and this is to be an error.
    """
    if not faults:
        return
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    formats: defaultdict[str, list[str]] = defaultdict(list)
    for name, fault in sorted(faults.items()):
        unread = unread_format(name) if fault == "broken" else None
        (formats[unread] if unread else kinds[fault]).append(name)
    lost = [f"{kind}: {listed(kinds[kind])}" for kind in ("too large", "broken") if kind in kinds]
    lost += [
        f"{unread_files(suffix, len(own))}: {listed(own)}"
        for suffix, own in sorted(formats.items())
    ]
    if recipe.broken == "error" and lost:
        raise UserError(
            f"broken: got 'error', and pictures of '{recipe.where}' cannot be read ({'; '.join(lost)}); "
            "accepted: readable pictures only, or broken=skip"
        )
    if "no picture" in kinds:
        lost.append(f"no pictures: {len(kinds['no picture'])}")
    files = f"{len(faults)} of {total} files"
    means.tell(f"{recipe.name}: {files} in {recipe.where} left out ({'; '.join(lost)})")
