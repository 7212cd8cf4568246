"""The forms that a convolution takes on CPU: the same sums as XLA's own, forward and backward, alone and in lanes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convtl.models.convolution import Padding, conv2d
from convtl.models.lowering import Lowering, convolution_form


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _both_ways(convolution: Callable[..., Any], x: Any, kernel: Any) -> Any:
    """Output, and cotangents of images and kernel for a pull that is nowhere 0."""
    value, back = jax.vjp(convolution, x, kernel)
    pull = jnp.cos(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape)
    return value, *back(pull.astype(value.dtype))


def _close(found: Any, expected: Any) -> None:
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-4)


def _plain(x: Any, kernel: Any, padding: Padding, stride: int = 1) -> Any:
    """XLA's convolution of images that are padded before: it has no rows below 0 to add in its backward pass."""
    sides = ((padding, padding), (padding, padding)) if isinstance(padding, int) else padding
    return conv2d(jnp.pad(x, ((0, 0), *sides, (0, 0))), kernel, stride=stride, lowering="lax")


EDGE = st.integers(0, 3)


@settings(max_examples=12, deadline=None)
@example(
    (1, 3, 3, 1), (3, 3, 1), 1, ((2, 2), (3, 1)), "canonical"
)  # XLA alone pulls images wrongly here
@example((1, 3, 3, 1), (3, 3, 1), 1, ((2, 2), (3, 1)), "lax")
@example((1, 1, 1, 1), (1, 1, 1), 2, 1, "canonical")  # no output sees the image
@given(
    st.tuples(st.integers(1, 2), st.integers(4, 9), st.integers(4, 9), st.integers(1, 3)),
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)),
    st.integers(1, 3),
    st.one_of(EDGE, st.tuples(st.tuples(EDGE, EDGE), st.tuples(EDGE, EDGE))),
    st.sampled_from(["canonical", "patches"]),
)
def test_the_form_is_the_convolution(
    images: tuple[int, ...], kernel: tuple[int, ...], stride: int, padding: Padding, form: Lowering
) -> None:
    """Values and both gradients, whatever stride, kernel and padding; more padding than kernel, too."""
    x, weights = _normal(1, *images), _normal(2, *kernel[:2], images[-1], kernel[2])

    def both(x: Any, weights: Any) -> Any:
        own = partial(conv2d, stride=stride, padding=padding, lowering=form)
        return [
            _both_ways(convolution, x, weights)
            for convolution in (own, partial(_plain, padding=padding, stride=stride))
        ]

    _close(*jax.jit(both)(x, weights))


@settings(max_examples=12, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(3, 9), st.integers(3, 9), st.integers(1, 4)),
    st.integers(1, 4),
    st.one_of(EDGE, st.tuples(st.tuples(EDGE, EDGE), st.tuples(EDGE, EDGE))),
)
def test_winograd_is_the_convolution(images: tuple[int, ...], out: int, padding: Padding) -> None:
    """Values and both gradients, of odd sizes and even ones, whatever the padding."""
    x, weights = _normal(1, *images), _normal(2, 3, 3, images[-1], out)

    def both(x: Any, weights: Any) -> Any:
        own = partial(conv2d, padding=padding, lowering="winograd")
        return [_both_ways(form, x, weights) for form in (own, partial(_plain, padding=padding))]

    _close(*jax.jit(both)(x, weights))


@pytest.mark.parametrize("form", ["canonical", "patches", "winograd"])
def test_errors_of_many_maps_are_those_of_float32(form: Lowering) -> None:
    """Against sums in float64: at most three times as far from them as XLA's own convolution is."""
    x, kernel = _normal(9, 4, 14, 14, 128), _normal(10, 3, 3, 128, 128)
    forward = partial(conv2d, padding=1)
    own = _both_ways(partial(forward, lowering=form), x, kernel)
    plain = _both_ways(partial(forward, lowering="lax"), x, kernel)
    with jax.enable_x64(True):
        exact = _both_ways(partial(forward, lowering="lax"), x.astype(float), kernel.astype(float))
    for found, usual, wanted in zip(own, plain, exact, strict=True):
        off, normal = (
            np.sqrt(np.mean((np.asarray(y, float) - np.asarray(wanted)) ** 2))
            for y in (found, usual)
        )
        assert off <= 3 * normal


@settings(max_examples=4, deadline=None)
@given(st.tuples(st.integers(1, 3), st.integers(4, 9), st.integers(4, 9)), st.integers(0, 2))
@pytest.mark.parametrize("form", ["canonical", "patches", "winograd"])
def test_in_bfloat16_a_form_is_the_convolution_of_those_numbers(
    form: Lowering, images: tuple[int, ...], padding: int
) -> None:
    """Values and both gradients are bfloat16, as near to float32's as its digits allow."""
    x, kernel = (
        jnp.asarray(y, jnp.bfloat16) for y in (_normal(11, *images, 16), _normal(12, 3, 3, 16, 16))
    )
    found = _both_ways(partial(conv2d, padding=padding, lowering=form), x, kernel)
    wanted = _both_ways(
        partial(_plain, padding=padding), x.astype(jnp.float32), kernel.astype(jnp.float32)
    )
    for low, exact in zip(found, wanted, strict=True):
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
        ((4, 7, 7), (1, 1, 512, 512), 1, "canonical"),
    ],
)
def test_what_is_fast_is_chosen(
    images: tuple[int, int, int], kernel: tuple[int, ...], stride: int, form: Lowering
) -> None:
    assert convolution_form("auto", images, kernel, stride, 1) == form
    assert convolution_form("lax", images, kernel, stride, 1) == "lax"


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
@pytest.mark.parametrize(
    ("size", "stride", "form"),
    [(3, 2, "canonical"), (1, 2, "canonical"), (3, 2, "patches"), (3, 1, "winograd")],
)
def test_lanes_compute_what_each_computes_alone(
    axes: tuple[Any, Any], size: int, stride: int, form: Lowering
) -> None:
    lanes = 3
    x = _normal(3, *([lanes] if axes[0] == 0 else []), 2, 8, 8, 4)
    kernel = _normal(4, *([lanes] if axes[1] == 0 else []), size, size, 4, 5)

    def outcome(x: Any, kernel: Any) -> Any:
        padding = size // 2
        return _both_ways(partial(conv2d, stride=stride, padding=padding, lowering=form), x, kernel)

    together = jax.jit(jax.vmap(outcome, axes))(x, kernel)
    for lane in range(lanes):
        own = [
            value[lane] if axis == 0 else value
            for value, axis in zip((x, kernel), axes, strict=True)
        ]
        _close([value[lane] for value in together], jax.jit(outcome)(*own))


def _dimensions(jaxpr: Any) -> list[tuple[Any, int]]:
    """(order of axes, groups) of every convolution of a program, those of programs inside it too."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            found.append(
                (equation.params["dimension_numbers"], equation.params["feature_group_count"])
            )
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            found += _dimensions(inner) if hasattr(inner, "eqns") else []
    return found


@pytest.mark.parametrize("lanes", [None, 2])
def test_inside_a_loop_every_convolution_has_the_order_of_axes_that_is_fast_there(
    lanes: int | None,
) -> None:
    """Images NHWC, kernel HWIO, no groups: what XLA hands to Eigen on CPU without having to turn it round."""
    x, kernel = np.zeros((2, 8, 8, 32), np.float32), np.zeros((3, 3, 32, 32), np.float32)

    def step(kernel: Any, x: Any) -> Any:
        return jax.grad(
            lambda k, x: jnp.sum(conv2d(x, k, stride=2, padding=1) ** 2), argnums=(0, 1)
        )(kernel, x)

    if lanes:
        x, kernel = np.stack([x] * lanes), np.stack([kernel] * lanes)
        step = jax.vmap(step)
    jaxpr = jax.make_jaxpr(
        lambda k, x: jax.lax.scan(lambda k, _: (step(k, x)[0], step(k, x)[1]), k, None, 2)
    )(kernel, x)
    found = _dimensions(jaxpr.jaxpr)
    assert len(found) >= 3 * (lanes or 1)
    for dimensions, groups in found:
        assert (dimensions.lhs_spec, dimensions.out_spec) == ((0, 3, 1, 2), (0, 3, 1, 2))
        assert dimensions.rhs_spec == (3, 2, 0, 1)
        assert groups == 1


def test_groups_see_their_own_maps_only() -> None:
    x, kernel = _normal(5, 2, 6, 6, 6), _normal(6, 3, 3, 2, 9)
    whole = conv2d(x, kernel, padding=1, groups=3)
    parts = [
        conv2d(x[..., 2 * g : 2 * g + 2], kernel[..., 3 * g : 3 * g + 3], padding=1, lowering="lax")
        for g in range(3)
    ]
    np.testing.assert_allclose(whole, jnp.concatenate(parts, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("lowering", "given"),
    [
        ("banded", {"stride": 2}),
        ("winograd", {"stride": 2}),
        *((form, {"groups": 2}) for form in ("banded", "canonical", "patches", "winograd")),
    ],
)
def test_forms_that_there_are_not(lowering: Lowering, given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{lowering} convolution has no"):
        conv2d(_normal(7, 1, 6, 6, 4), _normal(8, 3, 3, 2, 4), lowering=lowering, **given)
