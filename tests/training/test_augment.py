"""Augmentation against known answers; a pure function of its key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_nets import same_bits

from convtl.config.training import AugmentConfig
from convtl.training.augment import augment, blend

KEY = jax.random.key(3)
ALL = AugmentConfig(crop=(0.5, 1.0), flip=True, colour=0.4)


def images(count: int = 6, shape: tuple[int, ...] = (5, 6, 3), seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32))


def test_nothing_is_done_when_nothing_is_asked_for() -> None:
    assert same_bits(augment(KEY, images(), AugmentConfig()), images())


@pytest.mark.parametrize("config", [AugmentConfig(flip=True), ALL], ids=str)
def test_it_is_a_function_of_the_key(config: AugmentConfig) -> None:
    given = images(16)
    found = augment(KEY, given, config)
    assert found.shape == given.shape
    assert found.dtype == jnp.float32
    assert same_bits(augment(KEY, given, config), found)
    assert not same_bits(augment(jax.random.key(4), given, config), found)


def test_images_draw_for_themselves() -> None:
    one = jnp.repeat(images(1), 16, axis=0)
    found = np.asarray(augment(KEY, one, ALL))
    assert len({image.tobytes() for image in found}) == 16


def test_half_of_the_images_are_mirrored() -> None:
    given = images(400, (2, 3, 1))
    found = np.asarray(augment(KEY, given, AugmentConfig(flip=True)))
    same = (found == np.asarray(given)).all((1, 2, 3))
    mirrored = (found == np.asarray(given)[:, :, ::-1]).all((1, 2, 3))
    assert np.all(same ^ mirrored)
    assert 160 < mirrored.sum() < 240


def test_a_resized_crop_keeps_planes_planes() -> None:
    """A picture that rises evenly still does, by the share of the side that is kept, inside the picture."""
    rows, columns = np.meshgrid(np.arange(24.0), np.arange(32.0), indexing="ij")
    ramps = np.stack([rows, columns], -1)[None].repeat(300, 0).astype(np.float32)
    found = np.asarray(augment(KEY, jnp.asarray(ramps), AugmentConfig(crop=(0.25, 0.5))))
    down, across = (
        np.diff(found[..., 0], axis=1)[:, 4:-4],
        np.diff(found[..., 1], axis=2)[:, :, 4:-4],
    )
    heights, widths = down.mean((1, 2)), across.mean((1, 2))
    np.testing.assert_allclose(down, np.broadcast_to(heights[:, None, None], down.shape), atol=1e-4)
    np.testing.assert_allclose(
        across, np.broadcast_to(widths[:, None, None], across.shape), atol=1e-4
    )
    areas, aspects = heights * widths, widths / heights
    assert 0.25 - 1e-4 < areas.min() < 0.27
    assert 0.48 < areas.max() < 0.5 + 1e-4
    assert 0.75 - 1e-3 < aspects.min() < 0.78
    assert 1.3 < aspects.max() < 4 / 3 + 1e-3
    corners = found[:, 0, 0]
    assert corners.min() >= -1e-4
    assert np.all(corners.max(0) > [6, 8])


def test_the_whole_image_is_the_largest_crop() -> None:
    """Of which one side may be shorter, never longer than the image's."""
    given = images(20, (16, 16, 1))
    found = np.asarray(augment(KEY, given, AugmentConfig(crop=(1.0, 1.0))))
    assert found.max() <= np.asarray(given).max() + 1e-5
    assert found.min() >= np.asarray(given).min() - 1e-5


@given(st.floats(0.1, 10), st.floats(-5, 5))
def test_colour_goes_with_the_scale_of_grey_levels(factor: float, offset: float) -> None:
    given = images()
    config = AugmentConfig(colour=0.5)
    found = augment(KEY, factor * given + offset, config)
    np.testing.assert_allclose(
        found, factor * augment(KEY, given, config) + offset, atol=2e-4 * factor + 1e-5
    )


def test_colour_moves_mean_and_spread_by_its_strength() -> None:
    given = np.asarray(images(500, (4, 4, 1)))
    found = np.asarray(augment(KEY, jnp.asarray(given), AugmentConfig(colour=0.3)))
    axes = (1, 2, 3)
    moved = (found.mean(axes) - given.mean(axes)) / given.std(axes)
    spread = found.std(axes) / given.std(axes)
    for amounts in (moved, spread - 1):
        assert 0.28 < np.abs(amounts).max() <= 0.3 + 1e-4
        assert abs(amounts.mean()) < 0.03
    # An image of one colour has no spread to go by, and stays.
    flat = jnp.ones((3, 4, 4, 3))
    np.testing.assert_allclose(augment(KEY, flat, AugmentConfig(colour=1.0)), flat, atol=1e-6)


def test_saturation_leaves_grey_pictures_grey() -> None:
    grey = jnp.repeat(images(4, (5, 5, 1)), 3, axis=-1)
    found = np.asarray(augment(KEY, grey, AugmentConfig(colour=0.5)))
    np.testing.assert_allclose(found, found[..., :1].repeat(3, -1), atol=1e-6)
    one = augment(KEY, grey[..., :1], AugmentConfig(colour=0.5))
    np.testing.assert_allclose(found[..., :1], one, rtol=1e-5, atol=1e-5)


def test_blended_images_are_sums_of_two() -> None:
    given, labels = images(8), jnp.arange(8)
    shares = []
    for seed in range(40):
        mixed, partners, share = blend(jax.random.key(seed), given, labels, 0.2)
        expected = share * given + (1 - share) * given[partners]
        np.testing.assert_allclose(mixed, expected, rtol=1e-6)
        assert sorted(partners.tolist()) == list(range(8))
        shares.append(float(share))
    assert min(shares) >= 0
    assert max(shares) <= 1
    # Beta(0.2, 0.2) is near 0 or 1 most of the time.
    assert np.mean([min(share, 1 - share) < 0.1 for share in shares]) > 0.5
