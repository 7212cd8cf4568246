"""Normalised images: the same numbers whether they are made at once or when they are asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convtl.data.inputs import LazyRows, Normalisation, normalised, standardise

POOL = np.random.default_rng(0).integers(0, 256, (30, 4, 5, 3), np.uint8)
IMAGENET = Normalisation((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))


def test_levels_are_shifted_and_scaled_channel_by_channel() -> None:
    image = np.full((1, 1, 1, 3), 200, np.uint8)
    found = Normalisation((100, 200, 0), (10, 5, 50))(image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.ravel(), [10, 0, 4])


def test_without_a_source_net_each_image_is_standardised() -> None:
    np.testing.assert_array_equal(normalised(POOL, None), standardise(POOL))


@pytest.mark.parametrize("how", [None, IMAGENET])
@given(places=st.lists(st.integers(0, 11), min_size=1, max_size=12), first=st.integers(0, 11))
def test_lazy_images_are_those_made_at_once(how, places, first) -> None:
    positions = np.arange(12)[::-1] * 2
    lazy = LazyRows(lambda chosen: normalised(POOL[chosen], how), positions, (4, 5, 3))
    whole = normalised(POOL[positions], how)
    assert lazy.shape == whole.shape
    np.testing.assert_array_equal(lazy[first:], whole[first:])
    np.testing.assert_array_equal(lazy[np.array(places)], whole[np.array(places)])
    square = np.resize(np.array(places), (2, 3))
    np.testing.assert_array_equal(lazy[square], whole[square])


def test_rows_are_gathered_from_where_they_lie() -> None:
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    found = LazyRows(rows.__getitem__, np.array([7, 1, 3]), (2,))
    assert found.shape == (3, 2)
    np.testing.assert_array_equal(found[1:], rows[[1, 3]])
    np.testing.assert_array_equal(found[np.array([[0, 2]])], rows[[7, 3]][None])
