"""Depthwise convolution: both forms are the convolution, under everything that training does to them."""

from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convtl.models.forms.depthwise import depthwise_conv2d
from convtl.models.forms.winograd import Sides
from convtl.models.layers import Conv
from convtl.models.lowering import plain_forms


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _outcome(x: Any, kernel: Any, *, plain: bool = False, **given: Any) -> Any:
    """Output, and cotangents of image and kernel for a made-up one of it."""
    with plain_forms() if plain else nullcontext():
        value, back = jax.vjp(lambda x, kernel: depthwise_conv2d(x, kernel, **given), x, kernel)
        cotangent = jnp.cos(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape)
        return value, *back(cotangent.astype(value.dtype))


@settings(max_examples=6, deadline=None)
@given(
    kernel_size=st.sampled_from([1, 2, 3, 5, 7]),
    stride=st.integers(1, 3),
    size=st.tuples(st.integers(1, 3), st.integers(7, 12), st.integers(7, 34), st.integers(1, 3)),
    padding=st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2),
)
def test_shifted_products_are_the_convolution(
    kernel_size: int, stride: int, size: tuple[int, ...], padding: Sides
) -> None:
    x, kernel = _normal(1, *size), _normal(2, kernel_size, kernel_size, 1, size[-1])
    given: Any = {"stride": min(stride, kernel_size), "padding": padding}
    both = jax.jit(lambda *a: [_outcome(*a, **given, plain=plain) for plain in (False, True)])
    for shifted, plain in zip(*both(x, kernel), strict=True):
        np.testing.assert_allclose(shifted, plain, rtol=1e-4, atol=1e-4)


def test_lanes_and_scans_change_nothing() -> None:
    """Weights of their own for each lane, inside a loop: how nets are trained."""
    x, kernel = _normal(1, 2, 3, 9, 8, 4), _normal(2, 2, 5, 5, 1, 4)
    given: Any = {"stride": 2, "padding": ((1, 2), (2, 2))}

    def looped(x: Any, kernel: Any) -> Any:
        return jax.lax.scan(lambda carry, _: (carry, _outcome(x, kernel, **given)), 0, length=1)[1]

    together = jax.jit(jax.vmap(looped))(x, kernel)
    for lane in range(2):
        alone = jax.jit(partial(_outcome, **given))(x[lane], kernel[lane])
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(other[lane, 0], one, rtol=1e-5, atol=1e-5)


def test_reduced_precision_stays_reduced_and_close() -> None:
    x, kernel = _normal(1, 2, 8, 8, 4), _normal(2, 3, 3, 1, 4)
    low = [jnp.asarray(part, jnp.bfloat16) for part in (x, kernel)]
    padding = ((1, 1), (1, 1))
    both = (
        jax.jit(partial(_outcome, padding=padding, plain=plain))(*parts)
        for plain, parts in ((False, low), (True, (x, kernel)))
    )
    for rounded, exact in zip(*both, strict=True):
        assert rounded.dtype == jnp.bfloat16
        scale = np.abs(exact).max()
        np.testing.assert_allclose(rounded.astype(np.float32) / scale, exact / scale, atol=0.03)


def test_form_is_chosen_by_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    def uses_lax() -> bool:
        given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 8, 8, 4), (3, 3, 1, 4))]
        return "conv_general_dilated" in str(
            jax.make_jaxpr(lambda *a: depthwise_conv2d(*a))(*given)
        )

    assert not uses_lax()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert uses_lax()


@pytest.mark.parametrize(
    ("padding", "size", "pads"),
    [(2, 5, (2, 2)), ("same", 5, (1, 2)), ("same", 2, (0, 0)), ("symmetric", 5, (2, 2))],
)
def test_padding_is_zeros_on_the_sides(padding: Any, size: int, pads: tuple[int, int]) -> None:
    """Of a stride of 2 on an even size; `same` has as many outputs as strides fit, as TensorFlow."""
    x = _normal(3, 1, 8, 8, 2)
    padded, plain = (Conv(3, size, padding, stride=2, use_bias=False) for padding in (padding, 0))
    variables = {"params": {"kernel": _normal(4, size, size, 2, 3)}}
    expected = jax.jit(plain.apply)(variables, np.pad(x, ((0, 0), pads, pads, (0, 0))))
    outcome = jax.jit(padded.apply)(variables, x)
    np.testing.assert_allclose(outcome, expected, rtol=1e-5, atol=1e-5)


def test_layers_have_the_kernels_of_convolutions() -> None:
    x = _normal(3, 2, 6, 5, 4)
    deep = Conv(4, 3, padding=1, depthwise=True)
    variables = jax.jit(deep.init)(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, variables["params"]) == {"kernel": (3, 3, 1, 4), "bias": (4,)}
    bias = np.arange(4.0, dtype=np.float32)
    biased = deep.apply({"params": variables["params"] | {"bias": bias}}, x)
    expected = np.asarray(deep.apply(variables, x)) + bias
    np.testing.assert_allclose(biased, expected, rtol=1e-6, atol=1e-6)
    point = Conv(3, 1, use_bias=False)
    variables = jax.jit(point.init)(jax.random.key(0), x)
    assert variables["params"]["kernel"].shape == (1, 1, 4, 3)
    expected = np.einsum("nhwc,cf->nhwf", x, variables["params"]["kernel"][0, 0])
    np.testing.assert_allclose(point.apply(variables, x), expected, rtol=1e-5, atol=1e-5)
