from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convtl.models import layers
from convtl.models.lowering import band_tile


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("width", "maps", "tile"),
    [(28, 6, 4), (10, 16, 2), (11, 16, 1), (9, 6, 3), (3, 1, 3), (24, 8, 4), (7, 64, 1)],
)
def test_tiles_are_as_wide_as_a_band_allows_and_waste_least(
    width: int, maps: int, tile: int
) -> None:
    assert band_tile(width, maps) == tile


@pytest.mark.usefixtures("flax_promotes")
@pytest.mark.parametrize(("kind", "shape"), [("average", (2, 5, 6, 3)), ("max", (1, 8, 7, 2))])
def test_pooling_is_flax_pooling(kind: Literal["average", "max"], shape: tuple[int, ...]) -> None:
    reference = nn.avg_pool if kind == "average" else nn.max_pool

    def outcome(x: Any, pool: Any) -> Any:
        value, back = jax.vjp(pool, x)
        return value, back(jnp.cos(jnp.arange(value.size)).reshape(value.shape))[0]

    def both(x: Any) -> Any:
        ours = outcome(x, lambda x: layers.pool2d(x, kind))
        return ours, outcome(x, lambda x: reference(x, (2, 2), strides=(2, 2)))

    for own, other in zip(*jax.jit(both)(_normal(4, *shape)), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-6, atol=1e-6)


def test_an_odd_last_row_and_column_are_left_out() -> None:
    x = np.arange(15, dtype=np.float32).reshape(1, 3, 5, 1)
    assert np.asarray(layers.pool2d(x, "max")).ravel().tolist() == [6, 8]
    assert np.asarray(layers.pool2d(x, "average")).ravel().tolist() == [3, 5]


@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(3, 2, 1), (3, 2, 0), (2, 2, 0), (3, 1, 1)]
)
@pytest.mark.parametrize(
    "shape", [(2, 9, 8, 3), pytest.param((1, 6, 11, 2), marks=pytest.mark.slow)]
)
def test_max_pooling_is_flax_pooling(
    shape: tuple[int, ...], size: int, stride: int, padding: int
) -> None:
    """Of negative values too: padding never wins."""
    x = _normal(6, *shape) - 5
    edges = ((padding, padding), (padding, padding))

    def outcome(x: Any, pool: Any) -> Any:
        value, back = jax.vjp(pool, x)
        return value, back(jnp.cos(jnp.arange(value.size)).reshape(value.shape))[0]

    own = jax.jit(lambda x: outcome(x, lambda x: layers.max_pool2d(x, size, stride, padding)))(x)
    other = jax.jit(
        lambda x: outcome(
            x, lambda x: nn.max_pool(x, (size, size), (stride, stride), padding=edges)
        )
    )(x)
    jax.tree.map(np.testing.assert_array_equal, own[0], other[0])
    np.testing.assert_allclose(own[1], other[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(6, 6), (7, 13), (3, 1), (12, 5)])
def test_adaptive_pooling_averages_windows_that_tile(height: int, width: int) -> None:
    """As PyTorch documents it: window i of n is from floor(i s / n) to ceil((i + 1) s / n)."""
    x = _normal(7, 2, height, width, 3)
    found = layers.adaptive_average_pool2d(jnp.asarray(x), 6)
    assert found.shape == (2, 6, 6, 3)
    for i in range(6):
        rows = slice(int(np.floor(i * height / 6)), int(np.ceil((i + 1) * height / 6)))
        for j in range(6):
            columns = slice(int(np.floor(j * width / 6)), int(np.ceil((j + 1) * width / 6)))
            np.testing.assert_allclose(
                found[:, i, j], x[:, rows, columns].mean((1, 2)), rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize(
    ("channels", "groups"), [(64, 32), (256, 32), (32, 16), (16, 8), (8, 4), (2, 1), (1, 1)]
)
def test_groups_of_a_normalisation_have_two_channels_or_more(channels: int, groups: int) -> None:
    norm = layers.norm_layer("group", "norm", channels, train=False)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == groups


def test_convolution_layer_without_bias() -> None:
    conv = layers.Conv(4, 3, padding=1, stride=2, use_bias=False)
    shapes = jax.eval_shape(conv.init, jax.random.key(0), np.zeros((1, 7, 6, 2), np.float32))
    assert jax.tree.map(lambda leaf: leaf.shape, shapes["params"]) == {"kernel": (3, 3, 2, 4)}


def test_convolution_layer_has_a_bias_for_each_map() -> None:
    conv = layers.Conv(4, 3, padding=1)
    x = _normal(5, 2, 6, 6, 2)
    variables = conv.init(jax.random.key(0), x)
    params = variables["params"]
    assert {name: leaf.shape for name, leaf in params.items()} == {
        "kernel": (3, 3, 2, 4),
        "bias": (4,),
    }
    bias = np.arange(4.0, dtype=np.float32)
    shifted = conv.apply({"params": params | {"bias": bias}}, x)
    np.testing.assert_allclose(
        shifted, np.asarray(conv.apply(variables, x)) + bias, rtol=1e-6, atol=1e-6
    )
