"""Subsets are balanced, nested, disjoint and reproducible, whatever the domain looks like."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convtl.config.domains import DigitsConfig
from convtl.data.domains import Domain
from convtl.data.splits import Split, stratified_parts
from convtl.data.subsets import (
    SOURCE_VALIDATION,
    assign_folds,
    draw_classes,
    draw_source,
    draw_target,
    relabel,
    subset_digest,
)
from convtl.errors import UserError


def _domain(classes: int, per_class: dict[str, int], digest: str = "made up") -> Domain:
    """Every image holds its own split, number and class, in an order that is not that of the classes."""

    def split(name: str) -> Split:
        count = per_class[name]
        rng = np.random.default_rng(classes * 100 + count)
        order = rng.permutation(classes * count)
        labels = (order // count).astype(np.int32)
        images = np.zeros((len(order), 2, 2, 1), np.uint8)
        images[:, 0, 0, 0], images[:, 0, 1, 0] = order % 256, order // 256
        images[:, 1, 0, 0], images[:, 1, 1, 0] = list(per_class).index(name), labels
        return Split(images, labels)

    splits = {name: split(name) for name in per_class}
    names = tuple(f"class {index}" for index in range(classes))
    return Domain("made_up", DigitsConfig(), names, (2, 2, 1), digest, per_class, lambda *_: splits)


COUNTS = {"train": 40, "validation": 100, "test": 30}
DOMAIN = _domain(9, COUNTS)
HOLLOW = _domain(9, {**COUNTS, "validation": 0})


@settings(max_examples=25)
@given(
    classes=st.one_of(st.none(), st.integers(2, 12)),
    n_validation=st.integers(1, 100),
    n_test=st.integers(1, 30),
    seed=st.integers(0, 3),
    replicate=st.integers(0, 3),
)
def test_a_target_draw_is_balanced_disjoint_and_of_the_drawn_classes(
    classes: int | None, n_validation: int, n_test: int, seed: int, replicate: int
) -> None:
    def draw(n_validation: int = n_validation, n_test: int = n_test) -> object:
        return draw_target(
            DOMAIN,
            seed=seed,
            replicate=replicate,
            classes=classes,
            n_validation=n_validation,
            n_test=n_test,
        )

    drawn = draw()
    count = min(classes or 9, 9)
    assert len(drawn.classes) == count
    assert list(drawn.classes) == sorted(set(drawn.classes))
    assert drawn.train.shape == (count, 40)
    assert drawn.train.dtype == drawn.test.dtype == np.int64
    for name, indices in (
        ("train", drawn.train),
        ("validation", drawn.validation),
        ("test", drawn.test),
    ):
        per_class = indices.reshape(count, -1)
        assert len(np.unique(indices)) == indices.size
        labels = DOMAIN.splits(0, 0)[name].labels[per_class]
        assert (labels == np.array(drawn.classes)[:, None]).all()
    # Other sizes of validation and test change neither classes nor training images, and are nested.
    other = draw(1, 1)
    assert other.classes == drawn.classes
    np.testing.assert_array_equal(other.train, drawn.train)
    np.testing.assert_array_equal(other.test, drawn.test.reshape(count, -1)[:, 0])


def test_draws_differ_between_replicates_seeds_and_domains_and_repeat() -> None:
    def draw(domain: Domain = DOMAIN, seed: int = 0, replicate: int = 0) -> bytes:
        drawn = draw_target(
            domain, seed=seed, replicate=replicate, classes=None, n_validation=5, n_test=5
        )
        return drawn.train.tobytes()

    assert draw() == draw()
    other = _domain(9, COUNTS, digest="another")
    assert len({draw(), draw(seed=1), draw(replicate=1), draw(other)}) == 4


def test_a_source_draw_keeps_to_the_eligible_classes_and_to_itself() -> None:
    eligible = (1, 2, 5, 6, 8)
    draws = [
        draw_source(DOMAIN, eligible, seed=0, replicate=replicate, classes=3, images_per_class=7)
        for replicate in range(20)
    ]
    for drawn in draws:
        assert set(drawn.classes) <= set(eligible)
        assert len(drawn.train) == 21
        np.testing.assert_array_equal(
            np.bincount(DOMAIN.splits(0, 0)["train"].labels[drawn.train])[list(drawn.classes)], 7
        )
        assert len(drawn.validation) == 3 * SOURCE_VALIDATION
    assert {index for drawn in draws for index in drawn.classes} == set(eligible)
    again = draw_source(DOMAIN, eligible, seed=0, replicate=0, classes=3, images_per_class=9)
    assert again.classes == draws[0].classes
    np.testing.assert_array_equal(again.train.reshape(3, 9)[:, :7].ravel(), draws[0].train)
    target = draw_target(DOMAIN, seed=0, replicate=0, classes=None, n_validation=5, n_test=5)
    source = draw_source(DOMAIN, range(9), seed=0, replicate=0, classes=None, images_per_class=40)
    assert not np.array_equal(target.train.ravel(), source.train)


@given(st.integers(2, 30), st.one_of(st.none(), st.integers(1, 40)))
def test_classes_are_drawn_without_replacement(pool: int, count: int | None) -> None:
    members = [3 * index for index in range(pool)]
    drawn = draw_classes(members, count, np.random.default_rng(0))
    assert set(drawn) <= set(members)
    assert list(drawn) == sorted(set(drawn))
    assert len(drawn) == min(count or pool, pool)


def test_the_digest_is_of_indices_pixels_and_labels() -> None:
    split = DOMAIN.splits(0, 0)["train"]
    brighter = Split(split.images + np.uint8(1), split.labels)
    renamed = Split(split.images, split.labels + np.int32(1))
    digests = [
        subset_digest(split, [1, 2]),
        subset_digest(split, [2, 1]),
        subset_digest(split, [1]),
        subset_digest(brighter, [1, 2]),
        subset_digest(renamed, [1, 2]),
    ]
    assert len(set(digests)) == 5
    assert subset_digest(split, np.array([1, 2], np.int32)) == digests[0]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda: draw_target(DOMAIN, seed=0, replicate=0, classes=3, n_validation=101, n_test=5),
            "^domains.made_up: got 100 validation images .*; accepted: at least 101 for validation_per_class$",
        ),
        (
            lambda: draw_target(DOMAIN, seed=0, replicate=0, classes=3, n_validation=5, n_test=31),
            "^domains.made_up: got 30 test images .*; accepted: at least 31 for test_per_class$",
        ),
        (
            lambda: draw_source(
                DOMAIN, range(9), seed=0, replicate=0, classes=3, images_per_class=41
            ),
            "^domains.made_up: got 40 train .*; accepted: at least 41 for pretrain.images_per_class$",
        ),
        (
            lambda: draw_source(DOMAIN, (4,), seed=0, replicate=0, classes=3, images_per_class=4),
            "^source: got 'made_up', of which 1 classes .*; accepted: .* at least 2$",
        ),
        (
            lambda: draw_source(
                HOLLOW, range(9), seed=0, replicate=0, classes=3, images_per_class=4
            ),
            "^domains.made_up: got 0 validation images of class 'class .'; accepted: at least 1 for ",
        ),
    ],
)
def test_too_few_images_or_classes_is_one_plain_line(
    draw: Callable[[], object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        draw()


@given(
    sizes=st.lists(st.integers(5, 30), min_size=2, max_size=5),
    share=st.floats(0.1, 0.4),
    fixed=st.integers(1, 2),
)
def test_parts_divide_every_class(sizes: list[int], share: float, fixed: int) -> None:
    labels = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    shares: dict[str, float | int] = {"train": 0, "validation": fixed, "test": share}
    parts = stratified_parts(labels, shares, np.random.default_rng(0))
    assert sorted(itertools.chain.from_iterable(parts.values())) == list(range(len(labels)))
    for label, size in enumerate(sizes):
        assert np.sum(labels[parts["validation"]] == label) == fixed
        assert np.sum(labels[parts["test"]] == label) == max(1, round(share * size))


def _uneven(sizes: list[int]) -> Domain:
    """One split three times: class i has sizes[i] images."""
    labels = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    own = Split(np.zeros((len(labels), 2, 2, 1), np.uint8), labels)
    splits = {"train": own, "validation": own, "test": own}
    names = tuple(f"class {index}" for index in range(len(sizes)))
    counts = dict.fromkeys(splits, min(sizes))
    return Domain("uneven", DigitsConfig(), names, (2, 2, 1), "uneven", counts, lambda *_: splits)


@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=5),
    n=st.integers(1, 14),
    seed=st.integers(0, 9),
)
def test_of_a_ragged_domain_each_class_gives_what_it_has(
    sizes: list[int], n: int, seed: int
) -> None:
    domain = _uneven(sizes)
    draw = draw_target(
        domain, seed=seed, replicate=0, classes=None, n_validation=n, n_test=3, ragged=True
    )
    chosen = draw.subset(n)
    labels = domain.splits(0, 0)["train"].labels[chosen]
    np.testing.assert_array_equal(np.bincount(labels, minlength=len(sizes)), np.minimum(sizes, n))
    assert len(set(chosen)) == len(chosen)
    more = draw.subset(n + 1)
    np.testing.assert_array_equal(more[: len(chosen)], chosen)  # nested
    held = domain.splits(0, 0)["validation"].labels[draw.validation]
    np.testing.assert_array_equal(np.bincount(held, minlength=len(sizes)), np.minimum(sizes, n))


@given(n=st.integers(1, 40), replicate=st.integers(0, 3))
def test_where_classes_are_equal_ragged_is_balanced(n: int, replicate: int) -> None:
    draws = [
        draw_target(
            DOMAIN, seed=0, replicate=replicate, classes=4, n_validation=9, n_test=7, ragged=ragged
        )
        for ragged in (False, True)
    ]
    even, ragged = draws
    np.testing.assert_array_equal(even.train, ragged.train)
    np.testing.assert_array_equal(even.test, ragged.test)
    np.testing.assert_array_equal(even.subset(n), even.train.T.reshape(-1)[: 4 * n])
    labels = relabel(DOMAIN.splits(0, 0)["train"].labels[even.subset(n)], even.classes)
    np.testing.assert_array_equal(labels, np.tile(np.arange(4), n))


@given(sizes=st.lists(st.integers(1, 12), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_folds_spread_every_class_evenly_and_leave_some_of_it(sizes: list[int], seed: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    folds = assign_folds(labels, 5, np.random.default_rng(seed))
    count = min(5, max(sizes))
    assert set(folds) - {-1} == (set(range(count)) if count > 1 else set())
    for label, size in enumerate(sizes):
        each = np.bincount(folds[labels == label] + 1, minlength=count + 1)
        assert each[0] == (size if size == 1 else 0)
        assert max(each[1:]) - min(each[1:]) <= 1
        assert max(each[1:]) < size or size == 1
