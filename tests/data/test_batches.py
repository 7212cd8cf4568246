"""Batches are a function of (stream, update) that visits every image once an epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convtl.data.inputs import batch_indices, standardise

SIZES = {"n": st.integers(1, 50), "batch_size": st.integers(1, 40)}


@settings(max_examples=50)
@given(**SIZES, cuts=st.lists(st.integers(0, 20), min_size=3, max_size=3).map(sorted))
def test_batches_do_not_depend_on_where_a_run_is_cut(
    n: int, batch_size: int, cuts: list[int]
) -> None:
    first, middle, last = cuts
    whole = batch_indices(3, ("order", 1), n, batch_size, first, last)
    pieces = [
        batch_indices(3, ("order", 1), n, batch_size, first, middle),
        batch_indices(3, ("order", 1), n, batch_size, middle, last),
    ]
    assert whole.shape == (last - first, batch_size)
    assert whole.dtype == np.int32
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


@settings(max_examples=50)
@given(**SIZES)
def test_every_epoch_visits_every_image_once(n: int, batch_size: int) -> None:
    epochs = 3
    visited = batch_indices(0, ("order",), n, batch_size, 0, -(-epochs * n // batch_size)).ravel()
    for epoch in range(epochs):
        assert sorted(visited[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_streams_seeds_and_epochs_differ() -> None:
    orders = {
        batch_indices(seed, stream, 30, 30, update, update + 1).tobytes()
        for seed in (0, 1)
        for stream in (("order", "a"), ("order", "b"))
        for update in (0, 1)
    }
    assert len(orders) == 8


@given(
    images=st.integers(0, 2**32 - 1).map(
        lambda seed: np.random.default_rng(seed).integers(0, 256, (3, 6, 5, 2), dtype=np.uint8)
    ),
    scale=st.integers(1, 3),
)
def test_standardised_images_have_mean_zero_and_spread_one(images: np.ndarray, scale: int) -> None:
    ours = standardise(images // scale)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(ours.std(axis=(1, 2, 3)), 1, rtol=1e-5)


def test_contrast_polarity_and_brightness_fall_away() -> None:
    image = np.random.default_rng(0).integers(0, 100, (1, 28, 28, 1), dtype=np.uint8)
    np.testing.assert_allclose(standardise(image * 2 + 10), standardise(image), atol=1e-5)
    np.testing.assert_allclose(standardise(255 - image), -standardise(image), atol=1e-5)


@pytest.mark.parametrize("level", [0, 77, 255])
def test_a_constant_image_becomes_zeros(level: int) -> None:
    np.testing.assert_array_equal(standardise(np.full((2, 300, 301, 3), level, np.uint8)), 0)


def test_one_odd_pixel_is_enough_for_spread_one() -> None:
    image = np.full((1, 64, 64, 1), 200, np.uint8)
    image[0, 3, 5] = 201
    assert standardise(image).std() == pytest.approx(1, rel=1e-3)
