"""Dials on a target: off is off, each does what it says, an image does not depend on its company."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convtl.config.training import ShiftConfig
from convtl.data.shift import shifted
from convtl.data.splits import Split

STREAM = ("a target", "train")


def split_of(count: int, seed: int, channels: int = 1, side: int = 12) -> Split:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    return Split(images, np.zeros(count, np.int32))


TARGET = split_of(20, 0)
ALL = np.arange(20)

amounts = st.builds(
    ShiftConfig,
    rotation=st.sampled_from([0.0, -33.0, 90.0]),
    blur=st.sampled_from([0.0, 1.2]),
    inversion=st.booleans(),
    noise=st.sampled_from([0.0, 0.2]),
)


@settings(max_examples=40)
@given(shift=amounts, indices=st.lists(st.integers(0, 19), max_size=8))
def test_an_image_does_not_depend_on_its_company(shift: ShiftConfig, indices: list[int]) -> None:
    whole = shifted(TARGET, ALL, shift, STREAM)
    some = shifted(TARGET, np.array(indices, np.int64), shift, STREAM)
    assert some.dtype == np.uint8
    assert some.shape == (len(indices), 12, 12, 1)
    np.testing.assert_array_equal(some, whole[indices])


@pytest.mark.parametrize("channels", [1, 3])
def test_off_is_off_bit_for_bit(channels: int) -> None:
    target = split_of(5, 2, channels)
    images = shifted(target, np.array([3, 1]), ShiftConfig(), STREAM)
    np.testing.assert_array_equal(images, target.images[[3, 1]])
    images[:] = 0  # a copy: the cache's own images are read-only


def test_inversion_and_quarter_turns_are_exact() -> None:
    inverted = shifted(TARGET, ALL, ShiftConfig(inversion=True), STREAM)
    np.testing.assert_array_equal(inverted, 255 - TARGET.images)
    for degrees, quarters in ((90.0, 1), (180.0, 2), (-90.0, -1)):
        turned = shifted(TARGET, ALL, ShiftConfig(rotation=degrees), STREAM)
        np.testing.assert_array_equal(turned, np.rot90(TARGET.images, quarters, axes=(1, 2)))


@given(rotation=st.floats(-180, 180), blur=st.floats(0, 5))
def test_turning_and_blurring_leave_no_dark_corners(rotation: float, blur: float) -> None:
    flat = Split(np.full((2, 9, 9, 3), 200, np.uint8), np.zeros(2, np.int32))
    images = shifted(flat, np.arange(2), ShiftConfig(rotation=rotation, blur=blur), STREAM)
    np.testing.assert_array_equal(images, flat.images)


def test_noise_has_its_strength_and_streams_of_its_own() -> None:
    grey = Split(np.full((50, 28, 28, 1), 128, np.uint8), np.zeros(50, np.int32))
    noisy = shifted(grey, np.arange(50), ShiftConfig(noise=0.1), STREAM)
    assert (noisy / 255.0).std() == pytest.approx(0.1, rel=0.03)
    assert len({image.tobytes() for image in noisy}) == 50
    other = shifted(grey, np.arange(50), ShiftConfig(noise=0.1), ("a target", "test"))
    assert not (noisy == other).all(axis=(1, 2, 3)).any()
    # a dial does not change another's draws
    inverted = shifted(grey, np.arange(50), ShiftConfig(noise=0.1, inversion=True), STREAM)
    assert abs(inverted.astype(int) - noisy).max() <= 2


def test_blur_takes_contrast_away() -> None:
    spreads = [
        shifted(TARGET, ALL, ShiftConfig(blur=width), STREAM).std()
        for width in (0.0, 0.5, 1.0, 3.0)
    ]
    assert spreads == sorted(spreads, reverse=True)
