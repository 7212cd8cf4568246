from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convtl.models import layers
from convtl.models.lowering import Lowering, band_tile


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


SHAPES = st.tuples(
    st.integers(1, 3),  # batch
    st.integers(5, 11),  # height
    st.integers(5, 17),  # width
    st.integers(1, 3),  # channels
    st.integers(1, 5),  # kernel height
    st.integers(1, 5),  # kernel width
    st.sampled_from(
        [1, 4, 6, 10, 16, 33]
    ),  # maps: of one tile a row, of several, of as many as pixels
    st.integers(0, 3),  # padding
)


@settings(max_examples=12, deadline=None)
@given(SHAPES, st.sampled_from(["float32", "bfloat16"]))
def test_banded_convolution_is_the_convolution(shape: tuple[int, ...], dtype: str) -> None:
    """Values, and gradients with respect to image and kernel."""
    batch, height, width, channels, kh, kw, maps, padding = shape
    x, kernel = (
        jnp.asarray(values, dtype)
        for values in (
            _normal(1, batch, height, width, channels),
            _normal(2, kh, kw, channels, maps),
        )
    )
    out = (batch, height + 2 * padding - kh + 1, width + 2 * padding - kw + 1, maps)

    def outcome(lowering: Lowering, x: Any, kernel: Any, pull: Any) -> Any:
        value, back = jax.vjp(
            lambda x, k: layers.conv2d(x, k, padding=padding, lowering=lowering), x, kernel
        )
        return value, *back(pull)

    pull = jnp.asarray(_normal(3, *out), dtype)
    both = jax.jit(lambda *given: (outcome("banded", *given), outcome("lax", *given)))(
        x, kernel, pull
    )
    off = 1e-4 if dtype == "float32" else 0.03
    for banded, plain in zip(*both, strict=True):
        assert banded.dtype == plain.dtype == dtype
        exact = np.asarray(plain, np.float32)
        np.testing.assert_allclose(
            np.asarray(banded, np.float32), exact, rtol=off, atol=off * max(1, np.abs(exact).max())
        )


@pytest.mark.parametrize(
    ("width", "maps", "tile"),
    [(28, 6, 4), (10, 16, 2), (11, 16, 1), (9, 6, 3), (3, 1, 3), (24, 8, 4), (7, 64, 1)],
)
def test_tiles_are_as_wide_as_a_band_allows_and_waste_least(
    width: int, maps: int, tile: int
) -> None:
    assert band_tile(width, maps) == tile


@pytest.mark.parametrize(
    ("x", "kernel", "banded"),
    [
        ((2, 28, 28, 1), (5, 5, 1, 6), True),
        ((2, 14, 14, 6), (5, 5, 6, 16), True),
        ((2, 14, 14, 16), (3, 3, 16, 32), False),
        ((2, 64, 64, 1), (5, 5, 1, 6), False),
    ],
)
def test_lowering_is_chosen_by_platform_and_shape(
    x: tuple[int, ...], kernel: tuple[int, ...], banded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def uses_lax() -> bool:
        given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (x, kernel)]
        return "conv_general_dilated" in str(
            jax.make_jaxpr(lambda x, k: layers.conv2d(x, k))(*given)
        )

    assert uses_lax() != banded
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert uses_lax()
    assert "custom_vjp" not in str(  # XLA's own gradients there
        jax.make_jaxpr(layers.conv2d)(
            *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (x, kernel))
        )
    )


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from(["average", "max"]),
    st.tuples(st.integers(1, 3), st.integers(2, 9), st.integers(2, 9), st.integers(1, 3)),
)
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
@pytest.mark.parametrize("shape", [(2, 9, 8, 3), (1, 6, 11, 2)])
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
    found = layers.adaptive_average_pool2d(jnp.asarray(x), 6, 6)
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
    assert layers.group_norm("norm", channels).num_groups == groups


def test_convolution_layer_without_bias() -> None:
    conv = layers.Conv(4, 3, padding=1, stride=2, groups=2, use_bias=False)
    shapes = jax.eval_shape(conv.init, jax.random.key(0), np.zeros((1, 7, 6, 2), np.float32))
    assert jax.tree.map(lambda leaf: leaf.shape, shapes["params"]) == {"kernel": (3, 3, 1, 4)}


def test_convolution_layer_has_a_bias_for_each_map() -> None:
    conv = layers.Conv(4, 3, padding=1)
    x = _normal(5, 2, 6, 6, 2)
    variables = conv.init(jax.random.key(0), x)
    params = variables["params"]
    assert {name: leaf.shape for name, leaf in params.items()} == {
        "kernel": (3, 3, 2, 4),
        "bias": (4,),
    }
    bias = jnp.arange(4.0)
    shifted = conv.apply({"params": params | {"bias": bias}}, x)
    np.testing.assert_allclose(shifted, conv.apply(variables, x) + bias, rtol=1e-6, atol=1e-6)
