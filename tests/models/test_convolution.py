"""The forms that a convolution takes on CPU: the same sums as XLA's own, forward and backward, alone and in runs."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convtl.models.forms.convolution import FORMS, Sides, conv2d
from convtl.models.lowering import ConvolutionForm, convolution_form, plain_forms


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _both_ways(convolution: Callable[..., Any], x: Any, kernel: Any) -> Any:
    """Output, and cotangents of images and kernel for a cotangent that is nowhere 0."""
    value, back = jax.vjp(convolution, x, kernel)
    cotangent = jnp.cos(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape)
    return value, *back(cotangent.astype(value.dtype))


def _close(outcomes: Any, expected: Any) -> None:
    for one, other in zip(jax.tree.leaves(outcomes), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def _form(form: str, stride: int = 1, sides: Sides = ((0, 0), (0, 0))) -> Callable[..., Any]:
    return lambda x, kernel: FORMS[form](x, kernel, stride, sides)


def _plain(stride: int = 1, sides: Sides = ((0, 0), (0, 0))) -> Callable[..., Any]:
    """XLA's convolution of images that are padded before: its backward pass has no rows below 0 to add."""
    return lambda x, kernel: FORMS["lax"](
        jnp.pad(x, ((0, 0), *sides, (0, 0))), kernel, stride, ((0, 0), (0, 0))
    )


EDGE = st.integers(0, 3)
SIDES = st.tuples(st.tuples(EDGE, EDGE), st.tuples(EDGE, EDGE))


@settings(max_examples=4, deadline=None)
@example((1, 3, 3, 1), (3, 3, 1), 1, ((2, 2), (3, 1)), "canonical")  # XLA alone is wrong here
@example((1, 1, 1, 1), (1, 1, 1), 2, ((1, 1), (1, 1)), "canonical")  # no output sees the image
@given(
    st.tuples(st.integers(1, 2), st.integers(4, 9), st.integers(4, 9), st.integers(1, 3)),
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)),
    st.integers(1, 3),
    SIDES,
    st.sampled_from(["canonical", "patches", "banded"]),
)
def test_forms_equal_plain_convolution(
    images: tuple[int, ...], kernel: tuple[int, ...], stride: int, sides: Sides, form: str
) -> None:
    """Values and both gradients, whatever stride, kernel and padding; more padding than kernel, too."""
    stride = 1 if form == "banded" else stride
    x, weights = _normal(1, *images), _normal(2, *kernel[:2], images[-1], kernel[2])
    both = jax.jit(
        lambda x, w: [
            _both_ways(one, x, w) for one in (_form(form, stride, sides), _plain(stride, sides))
        ]
    )
    _close(*both(x, weights))


@settings(max_examples=2, deadline=None)
@given(
    st.tuples(st.integers(1, 2), st.integers(4, 9), st.integers(4, 9), st.integers(1, 3)),
    st.sampled_from([(1, 1), (1, 2), (2, 2), (3, 3)]),
)
def test_kernels_without_overlap_equal_plain_convolution(
    images: tuple[int, ...], kernel: tuple[int, int]
) -> None:
    size, stride = kernel
    x, weights = _normal(1, *images), _normal(2, size, size, images[-1], 3)
    both = jax.jit(
        lambda x, w: [
            _both_ways(one, x, w) for one in (partial(conv2d, stride=stride), _plain(stride))
        ]
    )
    _close(*both(x, weights))


@settings(max_examples=2, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(3, 9), st.integers(3, 9), st.integers(1, 4)),
    st.integers(1, 4),
    SIDES,
)
def test_winograd_equals_plain_convolution(images: tuple[int, ...], out: int, sides: Sides) -> None:
    """Values and both gradients, of odd sizes and even ones, whatever the padding."""
    x, weights = _normal(1, *images), _normal(2, 3, 3, images[-1], out)
    both = jax.jit(
        lambda x, w: [
            _both_ways(one, x, w) for one in (_form("winograd", 1, sides), _plain(1, sides))
        ]
    )
    _close(*both(x, weights))


ONE = ((1, 1), (1, 1))


@pytest.mark.parametrize("form", ["canonical", "patches", "winograd"])
def test_errors_of_many_maps_are_those_of_float32(form: str) -> None:
    """Against sums in float64: at most three times as far from them as XLA's own convolution is."""
    x, kernel = _normal(9, 4, 14, 14, 128), _normal(10, 3, 3, 128, 128)
    both_ways = {one: jax.jit(partial(_both_ways, _form(one, 1, ONE))) for one in (form, "lax")}
    outcome, plain = both_ways[form](x, kernel), both_ways["lax"](x, kernel)
    with jax.enable_x64(True):
        exact = both_ways["lax"](x.astype(float), kernel.astype(float))
    for value, usual, expected in zip(outcome, plain, exact, strict=True):
        off, normal = (
            np.sqrt(np.mean((np.asarray(y, float) - np.asarray(expected)) ** 2))
            for y in (value, usual)
        )
        assert off <= 3 * normal


@pytest.mark.parametrize("form", ["canonical", "patches", "winograd"])
def test_bfloat16_is_as_near_as_its_digits_allow(form: str) -> None:
    """Values and both gradients are bfloat16."""
    x, kernel = (
        jnp.asarray(y, jnp.bfloat16) for y in (_normal(11, 2, 7, 6, 16), _normal(12, 3, 3, 16, 16))
    )
    outcome = jax.jit(partial(_both_ways, _form(form, 1, ONE)))(x, kernel)
    plain = jax.jit(partial(_both_ways, _plain(1, ONE)))
    expected = plain(x.astype(jnp.float32), kernel.astype(jnp.float32))
    for low, exact in zip(outcome, expected, strict=True):
        assert low.dtype == jnp.bfloat16
        largest = float(jnp.abs(exact).max())
        np.testing.assert_allclose(low.astype(jnp.float32), exact, rtol=2**-6, atol=2**-6 * largest)


@pytest.mark.parametrize(
    ("images", "kernel", "stride", "form"),
    [
        ((8, 30, 30), (5, 5, 6, 16), 1, "banded"),
        ((4, 16, 16), (3, 3, 256, 256), 1, "winograd"),
        ((4, 9, 9), (3, 3, 512, 512), 1, "patches"),  # 64 tiles are too few
        ((4, 16, 16), (3, 3, 256, 512), 2, "patches"),
        ((32, 4, 4), (3, 3, 32, 32), 1, "patches"),  # a kernel larger than the maps
        ((4, 58, 58), (3, 3, 64, 64), 1, "canonical"),  # so many tiles leave the cache
        ((32, 10, 10), (3, 3, 32, 32), 1, "canonical"),
    ],
)
def test_form_is_chosen_by_shape_and_platform(
    images: tuple[int, int, int], kernel: tuple[int, ...], stride: int, form: ConvolutionForm
) -> None:
    assert convolution_form(images, kernel, stride) == form
    with plain_forms():
        assert convolution_form(images, kernel, stride) == "lax"


@pytest.mark.parametrize(
    ("stride", "form", "axes"),
    [
        *product([2], ["canonical", "patches"], [(0, 0), (0, None), (None, 0)]),
        pytest.param(1, "winograd", (0, 0), marks=pytest.mark.slow),
        (1, "winograd", (0, None)),
        pytest.param(1, "winograd", (None, 0), marks=pytest.mark.slow),
    ],
)
def test_runs_compute_what_each_computes_alone(
    stride: int, form: str, axes: tuple[Any, Any]
) -> None:
    runs = 3
    x = _normal(3, *([runs] if axes[0] == 0 else []), 2, 8, 8, 4)
    kernel = _normal(4, *([runs] if axes[1] == 0 else []), 3, 3, 4, 5)
    outcome = partial(_both_ways, _form(form, stride, ONE))
    together = jax.jit(jax.vmap(outcome, axes))(x, kernel)
    for run in range(runs):
        alone = [
            value[run] if axis == 0 else value
            for value, axis in zip((x, kernel), axes, strict=True)
        ]
        _close([value[run] for value in together], jax.jit(outcome)(*alone))


def _orders(jaxpr: Any) -> list[Any]:
    """Order of axes of every convolution of a program, those of programs inside it too."""
    orders = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            orders.append(equation.params["dimension_numbers"])
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            orders += _orders(inner) if hasattr(inner, "eqns") else []
    return orders


def test_inside_a_loop_every_convolution_has_the_order_of_axes_that_is_fast_there() -> None:
    """Images NHWC, kernel HWIO: what XLA hands to Eigen on CPU without having to transpose it."""
    x, kernel = np.zeros((2, 8, 8, 32), np.float32), np.zeros((3, 3, 32, 32), np.float32)

    def step(kernel: Any, x: Any) -> Any:
        return jax.grad(
            lambda k, x: jnp.sum(conv2d(x, k, stride=2, padding=ONE) ** 2), argnums=(0, 1)
        )(kernel, x)

    jaxpr = jax.make_jaxpr(
        lambda k, x: jax.lax.scan(lambda k, _: (step(k, x)[0], step(k, x)[1]), k, None, 2)
    )(kernel, x)
    orders = _orders(jaxpr.jaxpr)
    assert len(orders) >= 3
    for order in orders:
        assert (order.lhs_spec, order.rhs_spec, order.out_spec) == (
            (0, 3, 1, 2),
            (3, 2, 0, 1),
            (0, 3, 1, 2),
        )
