"""Classes and images of a replicate: balanced, nested, disjoint, reproducible."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Integer

from convtl import keys
from convtl.data.splits import Domain, Indices, Split
from convtl.errors import UserError

SOURCE_VALIDATION = 80
"""Largest number of validation images a class that a source net is judged on."""


@dataclass(frozen=True, eq=False)
class TargetDraw:
    """Draw of a replicate from a target: indices into its class names and splits."""

    classes: tuple[int, ...]  # a class's label is its place here
    train: Int64[np.ndarray, "classes pool"]  # of n images a class the first n columns; -1: no more
    validation: Indices  # class by class
    test: Indices

    def subset(self, n_per_class: int) -> Indices:
        """Return up to `n_per_class` images of each class: one of each, then a second."""
        rows = self.train[:, :n_per_class].T.reshape(-1)
        return rows[rows >= 0]


@dataclass(frozen=True, eq=False)
class SourceDraw:
    """Draw of a replicate from a source; as `TargetDraw`, with a flat training set."""

    classes: tuple[int, ...]
    train: Indices
    validation: Indices


def draw_classes(
    pool: Sequence[int] | Indices, count: int | None, rng: np.random.Generator
) -> tuple[int, ...]:
    """Draw `count` members of a pool, sorted; all if it is None or too large."""
    every = count is None or count >= len(pool)
    drawn = pool if every else rng.choice(np.asarray(pool), count, replace=False)
    return tuple(sorted(map(int, drawn)))


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
    """Draw classes (None: all) and images; UserError if a class has too few.

    Args:
      disjoint: whether replicates share no class, until the pool is used up and begins again.
      ragged: whether a class with too few images gives all it has.
    """
    stream, pool = ("target", _stream(domain), replicate), range(len(domain.class_names))
    drawn = draw_classes(pool, classes, keys.generator(seed, *stream, "classes"))
    if disjoint and classes is not None and classes < len(pool):
        rng = keys.generator(seed, "target", _stream(domain), "disjoint classes")
        first = replicate % (len(pool) // classes) * classes
        drawn = draw_classes(rng.permutation(len(pool))[first : first + classes], None, rng)
    parts = (
        ("train", None, "n_per_class"),
        ("validation", n_validation, "validation_per_class"),
        ("test", n_test, "test_per_class"),
    )
    train, validation, test = (
        _ordered(domain, (seed, *stream), drawn, name, count, key, ragged)
        for name, count, key in parts
    )
    return TargetDraw(drawn, train, validation[validation >= 0], test[test >= 0])


def draw_source(
    domain: Domain,
    eligible: Sequence[int],
    *,
    seed: int,
    replicate: int,
    classes: int | None,
    images_per_class: int,
) -> SourceDraw:
    """Draw eligible classes and images for pretraining; as `draw_target`."""
    if len(eligible) < 2:
        given = f"'{domain.name}', of which {len(eligible)} classes are unlike all of the target's"
        raise UserError(f"source: got {given}; accepted: a source with at least 2")
    stream = ("source", _stream(domain), replicate)
    drawn = draw_classes(eligible, classes, keys.generator(seed, *stream, "classes"))
    held_out, key = min(SOURCE_VALIDATION, domain.counts["validation"]), "pretrain.images_per_class"
    train, validation = (
        _ordered(domain, (seed, *stream), drawn, name, count, key).ravel()
        for name, count in (("train", images_per_class), ("validation", held_out))
    )
    return SourceDraw(drawn, train, validation)


def relabel(labels: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Return labels as positions in the sorted drawn `classes`, int32."""
    return np.searchsorted(np.asarray(classes), labels).astype(np.int32)


def first_of_each(labels: np.ndarray, per_class: int, most: int | None = None) -> Indices:
    """Return places of the first `per_class` images per class in turn, up to `most`."""
    labels = np.asarray(labels)
    by_class = np.argsort(labels, kind="stable")
    ordered = labels[by_class]
    rank = np.empty(len(labels), int)
    rank[by_class] = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    turn = np.lexsort((labels, rank))
    return turn[rank[turn] < per_class][:most]


def assign_folds(
    labels: Integer[np.ndarray, " n"], most: int, rng: np.random.Generator
) -> Int64[np.ndarray, " n"]:
    """Return the fold that leaves each image out; classes are spread evenly.

    As many folds as the largest class has images, at most `most`. The only image of a class is in none, -1.
    """
    order, sizes = rng.permutation(len(labels)), np.bincount(labels)
    by_class = order[np.argsort(labels[order], kind="stable")]
    rank = np.arange(len(labels)) - (np.cumsum(sizes) - sizes)[labels[by_class]]
    folds = np.empty(len(labels), np.int64)
    folds[by_class] = np.where(sizes[labels[by_class]] > 1, rank % min(most, sizes.max()), -1)
    return folds


def subset_digest(split: Split, indices: np.ndarray) -> str:
    """Return the hex digest of a subset: its indices, pixels and labels."""
    indices = np.asarray(indices, np.int64)
    return keys.digest_arrays(indices, split.images[indices], split.labels[indices])


def _stream(domain: Domain) -> str:
    """Return the name of draws, the same for made domains of the same classes."""
    return keys.digest([domain.config.kind, *domain.class_names]) if domain.made else domain.digest


def _ordered(
    domain: Domain,
    stream: tuple[int, str, str, int],
    classes: tuple[int, ...],
    name: str,
    count: int | None,
    key: str,
    ragged: bool = False,
) -> Int64[np.ndarray, "classes images"]:
    """Return images of every class in random order, up to `count` or smallest class.

    `stream` ends with the replicate; `ragged` cuts to the largest class, with -1 where a class has fewer.
    """
    labels = domain.splits(stream[0], stream[-1])[name].labels
    members = [np.flatnonzero(labels == label) for label in classes]
    rng = keys.generator(*stream, name)
    sizes = list(map(len, members))
    if not ragged and min(sizes) < (count or 1):
        smallest = domain.class_names[classes[int(np.argmin(sizes))]]
        raise UserError(
            f"domains.{domain.name}: got {min(sizes)} {name} images of class '{smallest}'; accepted: at least "
            f"{count or 1} for {key}"
        )
    most = max(sizes) if ragged else min(sizes)
    orders = np.full((len(members), min(count or most, most)), -1, np.int64)
    for row, images, drawing in zip(orders, members, rng.spawn(len(members)), strict=True):
        order = images if domain.made else images[drawing.permutation(len(images))]
        row[: len(order)] = order[: len(row)]
    return orders
