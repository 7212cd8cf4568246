"""Depthwise convolution; on CPU a sum of shifted products (`models.lowering`)."""

from functools import partial, reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from convtl.models.forms import Sides
from convtl.models.forms.convolution import lax_conv2d
from convtl.models.lowering import on_cpu

# Terms of a kernel's gradient that are added up in one loop. Measured (1 core, 8 to 32 images): 8 and 14 are
# slower by up to a half, longer sums take longer to compile.
_COLUMNS_AT_ONCE = 28


def depthwise_conv2d(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kh kw 1 channels"],
    *,
    stride: int = 1,
    padding: Sides = ((0, 0), (0, 0)),
) -> Float[Array, "batch height2 width2 channels"]:
    """Cross-correlate each map with its own kernel, at least as large as the stride."""
    if on_cpu():
        return shifted(stride, padding, x, kernel)
    return lax_conv2d(x, kernel, stride, padding, feature_group_count=x.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def shifted(stride: int, padding: Sides, x: Array, kernel: Array) -> Array:
    """y[h, w] = sum over i, j of x[h s + i, w s + j] k[i, j], in one loop over y."""
    kh, kw = kernel.shape[:2]
    x = _padded(x, padding)
    rows, columns = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    weights = kernel.reshape(kh, kw, 1, 1, 1, -1)
    terms = (
        _every(x, i, rows, j, columns, stride) * weights[i, j] for i in range(kh) for j in range(kw)
    )
    return reduce(add, terms)


def _forward(stride: int, padding: Sides, x: Array, kernel: Array) -> tuple[Array, Any]:
    return shifted(stride, padding, x, kernel), (x, kernel)


def _backward(stride: int, padding: Sides, saved: Any, cotangent: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return (
        _image_gradient(stride, padding, x.shape, kernel, cotangent),
        _kernel_gradient(stride, padding, x, kernel, cotangent),
    )


shifted.defvjp(_forward, _backward)


def _image_gradient(
    stride: int, padding: Sides, shape: tuple[int, ...], kernel: Array, cotangent: Array
) -> Array:
    """Image cotangent: per phase of the stride, the kernel's entries there, flipped."""
    kh, kw = kernel.shape[:2]
    batch, height, width, channels = shape
    (top, bottom), (left, right) = padding
    rows, columns = -(-(height + top + bottom) // stride), -(-(width + left + right) // stride)
    above, before = -(-kh // stride) - 1, -(-kw // stride) - 1
    sides = (above, rows - cotangent.shape[1]), (before, columns - cotangent.shape[2])
    cotangent = _padded(cotangent, sides)
    weights = kernel.reshape(kh, kw, 1, 1, 1, channels)

    def phase(row: int, column: int) -> Array:
        terms = (
            _every(cotangent, above - i // stride, rows, before - j // stride, columns)
            * weights[i, j]
            for i in range(row, kh, stride)
            for j in range(column, kw, stride)
        )
        return reduce(add, terms)

    lines = [jnp.stack([phase(r, c) for c in range(stride)], 3) for r in range(stride)]
    whole = jnp.stack(lines, 2).reshape(batch, rows * stride, columns * stride, channels)
    return whole[:, top : top + height, left : left + width]


def _kernel_gradient(
    stride: int, padding: Sides, x: Array, kernel: Array, cotangent: Array
) -> Array:
    """Cotangent of the kernel, row by row: sums over columns, then over image rows.

    The second sum is a product with ones: XLA's own reduction of shifted products is 2 to 8 times slower on CPU.
    """
    kh, kw = kernel.shape[:2]
    x = _padded(x, padding)
    _, rows, columns, channels = cotangent.shape
    ones = jnp.ones((1, x.shape[0] * rows), cotangent.dtype)

    def kernel_row(i: int) -> Array:
        down = jax.lax.slice_in_dim(x, i, i + (rows - 1) * stride + 1, stride, axis=1)
        sums = []
        for first in range(0, columns, _COLUMNS_AT_ONCE):
            terms = (
                down[:, :, w * stride : w * stride + kw] * cotangent[:, :, w, None]
                for w in range(first, min(first + _COLUMNS_AT_ONCE, columns))
            )
            partial_sums = jax.lax.optimization_barrier(reduce(add, terms)).reshape(
                -1, kw * channels
            )
            sums.append(jnp.matmul(ones, partial_sums, preferred_element_type=jnp.float32)[0])
        return reduce(add, sums)

    return jnp.stack([kernel_row(i) for i in range(kh)]).reshape(kernel.shape).astype(kernel.dtype)


def _padded(x: Array, padding: Sides) -> Array:
    """Zero padding behind a barrier, without which XLA tests every element."""
    return jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), *padding, (0, 0))))


def _every(x: Array, row: int, rows: int, column: int, columns: int, stride: int = 1) -> Array:
    """`rows` and `columns` pixels from a place on, `stride` apart."""
    down, right = row + (rows - 1) * stride + 1, column + (columns - 1) * stride + 1
    return x[:, row:down:stride, column:right:stride]
