"""Which classes and which images a replicate uses: balanced, nested, disjoint, reproducible."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64

from convtl import keys
from convtl.data.domains import Domain
from convtl.data.splits import Split
from convtl.errors import UserError

SOURCE_VALIDATION = 80
"""Largest number of validation images a class that a source net is judged on."""


@dataclass(frozen=True, eq=False)
class TargetDraw:
    """What one replicate draws from a target."""

    classes: tuple[int, ...]
    """indices into the domain's class names; the label of a class is its position here"""
    train: Int64[np.ndarray, "classes pool"]
    """indices into the train split; the first n columns are the subset of n images a class; -1 where a class
    has no more"""
    validation: Int64[np.ndarray, " n_validation"]
    """indices into the validation split, class by class"""
    test: Int64[np.ndarray, " n_test"]
    """indices into the test split, class by class"""

    def subset(self, n_per_class: int) -> Int64[np.ndarray, " n"]:
        """The first `n_per_class` images of every class, as far as it has them: one of each, then a second, ..."""
        rows = self.train[:, :n_per_class].T.reshape(-1)
        return rows[rows >= 0]

    def subset_labels(self, n_per_class: int) -> Int32[np.ndarray, " n"]:
        """Classes of the subset, 0 to classes - 1."""
        there = self.train[:, :n_per_class].T >= 0
        classes = np.arange(len(self.classes), dtype=np.int32)
        return np.broadcast_to(classes, there.shape)[there]


@dataclass(frozen=True, eq=False)
class SourceDraw:
    """What one replicate draws from a source; as `TargetDraw`, with one flat training set."""

    classes: tuple[int, ...]
    train: Int64[np.ndarray, " n_train"]
    validation: Int64[np.ndarray, " n_validation"]


def draw_classes(
    pool: Sequence[int], count: int | None, rng: np.random.Generator
) -> tuple[int, ...]:
    """`count` members of the pool, sorted; all of them if there are no more, or `count` is None."""
    if count is None or count >= len(pool):
        return tuple(sorted(int(index) for index in pool))
    return tuple(sorted(int(index) for index in rng.choice(np.asarray(pool), count, replace=False)))


def draw_target(
    domain: Domain,
    *,
    seed: int,
    replicate: int,
    classes: int | None,
    n_validation: int,
    n_test: int,
    disjoint: bool = False,
    ragged: bool = False,
) -> TargetDraw:
    """Classes and images of a replicate; depends on nothing but its arguments.

    Args:
      domain: the target.
      seed: the study's.
      replicate: number of the replicate.
      classes: how many to draw; None takes all.
      n_validation: validation images a class.
      n_test: test images a class.
      disjoint: whether replicates share no class, until the pool is used up and begins again.
      ragged: whether a class with fewer images than are wanted gives all it has.

    Raises:
      UserError: a class has too few images.
    """
    stream = ("target", domain.digest, replicate)
    pool = range(len(domain.class_names))
    drawn = draw_classes(pool, classes, keys.generator(seed, *stream, "classes"))
    if disjoint and classes is not None and classes < len(pool):
        order = keys.generator(seed, "target", domain.digest, "disjoint classes").permutation(
            len(pool)
        )
        first = replicate % (len(pool) // classes) * classes
        drawn = tuple(sorted(int(index) for index in order[first : first + classes]))
    orders = {
        split: _ordered(
            domain, split, drawn, wanted, key, keys.generator(seed, *stream, split), ragged
        )
        for split, wanted, key in (
            ("train", None, "n_per_class"),
            ("validation", n_validation, "validation.per_class"),
            ("test", n_test, "test_per_class"),
        )
    }
    held_out = {split: orders[split][orders[split] >= 0] for split in ("validation", "test")}
    return TargetDraw(drawn, orders["train"], held_out["validation"], held_out["test"])


def draw_source(
    domain: Domain,
    eligible: Sequence[int],
    *,
    seed: int,
    replicate: int,
    classes: int | None,
    images_per_class: int,
) -> SourceDraw:
    """Classes (of the eligible ones) and images that a replicate's source net is trained on.

    Raises:
      UserError: fewer than two classes are eligible, or a class has too few images.
    """
    if len(eligible) < 2:
        raise UserError(
            f"source: got '{domain.name}' with {len(eligible)} class{'es' * (len(eligible) != 1)} unlike all of "
            "the target's; accepted: a source with at least 2"
        )
    stream = ("source", domain.digest, replicate)
    drawn = draw_classes(eligible, classes, keys.generator(seed, *stream, "classes"))
    key = "pretrain.images_per_class"
    train = _ordered(
        domain, "train", drawn, images_per_class, key, keys.generator(seed, *stream, "train")
    )
    capped = min(SOURCE_VALIDATION, domain.counts["validation"])
    validation = _ordered(
        domain, "validation", drawn, capped, key, keys.generator(seed, *stream, "validation")
    )
    return SourceDraw(drawn, train.ravel(), validation.ravel())


def relabel(labels: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Labels of a pool -> positions in the drawn `classes` (which are sorted), int32."""
    return np.searchsorted(np.asarray(classes), labels).astype(np.int32)


def subset_digest(split: Split, indices: np.ndarray) -> str:
    """Hex digest of a subset: its indices, pixels and labels."""
    indices = np.asarray(indices, np.int64)
    return keys.digest_arrays(indices, split.images[indices], split.labels[indices])


def _ordered(
    domain: Domain,
    name: str,
    classes: tuple[int, ...],
    wanted: int | None,
    key: str,
    rng: np.random.Generator,
    ragged: bool = False,
) -> Int64[np.ndarray, "classes images"]:
    """For every class a random order of its images, cut to `wanted` (None: to the smallest class).

    `ragged`: cut to `wanted` (None: to the largest class), with -1 where a class has fewer.
    """
    split = domain.split(name)
    members = [np.flatnonzero(split.labels == label) for label in classes]
    if ragged:
        return _padded(split, members, wanted, rng)
    fewest = min(range(len(classes)), key=lambda index: len(members[index]))
    there = len(members[fewest])
    smallest = f"class '{domain.class_names[classes[fewest]]}'"
    if not there:
        raise UserError(
            f"domains.{domain.name}: got no {name} images of {smallest}; accepted: at least 1 a class"
        )
    if wanted is not None and there < wanted:
        raise UserError(
            f"{key}: got {wanted}; accepted: 1 to {there}, the {name} images of {smallest} of '{domain.name}'"
        )
    orders = [
        stratified_order(own, split.strata[own], stream)
        for own, stream in zip(members, rng.spawn(len(classes)), strict=True)
    ]
    length = wanted or there
    return np.stack([order[:length] for order in orders])


def _padded(
    split: Split, members: Sequence[np.ndarray], wanted: int | None, rng: np.random.Generator
) -> Int64[np.ndarray, "classes images"]:
    length = min(wanted or max(map(len, members)), max(map(len, members)))
    orders = np.full((len(members), length), -1, np.int64)
    for row, own, stream in zip(orders, members, rng.spawn(len(members)), strict=True):
        order = stratified_order(own, split.strata[own], stream)[:length]
        row[: len(order)] = order
    return orders


def stratified_order(
    members: Int64[np.ndarray, " n"], strata: Int32[np.ndarray, " n"], rng: np.random.Generator
) -> Int64[np.ndarray, " n"]:
    """A random order of which every prefix is as balanced over the strata as it can be.

    One image of each stratum a round, the strata in an order that is drawn once, random inside a stratum.
    """
    shuffled = rng.permutation(len(members))
    found, compact = np.unique(strata[shuffled], return_inverse=True)
    rank = rng.permutation(len(found))[compact]
    by_stratum = np.argsort(rank, kind="stable")
    ordered = rank[by_stratum]
    first = np.searchsorted(ordered, ordered)
    rounds = np.empty(len(members), np.int64)
    rounds[by_stratum] = np.arange(len(members)) - first
    return np.asarray(members, np.int64)[shuffled[np.lexsort((rank, rounds))]]
