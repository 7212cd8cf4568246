"""Winograd's F(2x2, 3x3): stride 1, 16 products for 4 outputs instead of 36.

Lavin & Gray (2016), "Fast Algorithms for Convolutional Neural Networks", equations 8 and 12: with d a tile of 4x4
inputs (neighbours share two rows or columns), g the kernel and y its 2x2 outputs, y = A' [(G g G') * (B' d B)] A. At
each of the 16 places the products of all tiles, summed over input maps, are one matrix product. Exact in real numbers;
in float32 its errors are of the size of XLA's own.

In the backward pass the images' cotangent is a convolution of the same kind, the kernel's the products of the same
tiles with A y A'; differentiated line by line, it would take longer than XLA's convolutions.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from convtl.models.forms import Sides, sum_of_outer_products


def tiles(rows_out: int, columns_out: int) -> tuple[int, int]:
    """Tiles of 2x2 outputs, downwards and across."""
    return -(-rows_out // 2), -(-columns_out // 2)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def winograd(
    x: Float[Array, "batch height width in"], kernel: Float[Array, "3 3 in out"], sides: Sides
) -> Float[Array, "batch height2 width2 out"]:
    """Cross-correlation with zero padding, ((top, bottom), (left, right))."""
    return _convolved(x, _places(kernel), sides, transposed=False)


def _convolved(x: Array, weights: Sequence[Array], sides: Sides, *, transposed: bool) -> Array:
    """Convolve by G g G' of 16 places, (in, out) or (out, in); negative sides crop."""
    rows, columns = x.shape[1] + sum(sides[0]) - 2, x.shape[2] + sum(sides[1]) - 2
    down, across = tiles(rows, columns)
    products = jax.lax.dot_general(
        _tiles_of(x, sides),
        jnp.stack(weights),
        dimension_numbers=(((2,), (2 if transposed else 1,)), ((0,), (0,))),
    ).reshape(4, 4, len(x), down, across, -1)
    y = jnp.stack([jnp.stack(_output(line), axis=3) for line in _output(products)], axis=2)
    return y.reshape(len(x), 2 * down, 2 * across, -1)[:, :rows, :columns].astype(x.dtype)


def _places(kernel: Float[Array, "3 3 in out"]) -> list[Float[Array, "in out"]]:
    """G g G'; flipping the kernel along an axis swaps its first and last place."""
    return [place for line in _kernel(_wide(kernel)) for place in _kernel(line)]


def _wide(x: Array) -> Array:
    return x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x


def _tiles_of(
    x: Float[Array, "batch height width in"], sides: Sides
) -> Float[Array, "16 tiles in"]:
    """B' d B of all tiles d, in float32 at least."""
    x = _wide(x)
    batch, height, width, channels = x.shape
    down, across = tiles(height + sum(sides[0]) - 2, width + sum(sides[1]) - 2)
    (top, _), (left, _) = sides
    # An odd last row or column of outputs is filled up to a tile; what is computed for it is cut off afterwards.
    below, right = 2 * down + 2 - height - top, 2 * across + 2 - width - left
    edges = ((0, 0, 0), (top, below, 0), (left, right, 0), (0, 0, 0))
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), edges)
    lines = _input([x[:, first : first + 2 * down - 1 : 2] for first in range(4)])
    columns = [slice(first, first + 2 * across - 1, 2) for first in range(4)]
    places = [place for line in lines for place in _input([line[:, :, at] for at in columns])]
    return jnp.stack(places).reshape(16, batch * down * across, channels)


def _forward(x: Array, kernel: Array, sides: Sides) -> tuple[Array, tuple[Array, Array]]:
    return winograd(x, kernel, sides), (x, kernel)


def _backward(sides: Sides, saved: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, kernel = saved
    back: Sides = tuple((2 - before, 2 - after) for before, after in sides)  # type: ignore[assignment]
    places = _places(kernel)
    flipped = [places[4 * i + j] for i in (3, 1, 2, 0) for j in (3, 1, 2, 0)]
    images = _convolved(cotangent, flipped, back, transposed=True)

    batch, rows, columns, out = cotangent.shape
    down, across = tiles(rows, columns)
    y = jnp.pad(_wide(cotangent), ((0, 0), (0, 2 * down - rows), (0, 2 * across - columns), (0, 0)))
    y = y.reshape(batch, down, 2, across, 2, out)
    lines = _output_back([y[:, :, 0], y[:, :, 1]])
    outputs = [
        place for line in lines for place in _output_back([line[..., 0, :], line[..., 1, :]])
    ]
    y = jnp.stack(outputs).reshape(16, batch * down * across, out)
    weights = sum_of_outer_products(_tiles_of(x, sides), y).reshape(4, 4, *kernel.shape[2:])
    weights = jnp.stack([jnp.stack(_kernel_back(line)) for line in _kernel_back(weights)])
    return images, weights.astype(kernel.dtype)


winograd.defvjp(_forward, _backward)


def _input(d: Sequence[Array]) -> list[Array]:
    """B' d."""
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _kernel(g: Array) -> list[Array]:
    """G g."""
    return [g[0], (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2, g[2]]


def _kernel_back(u: Array) -> list[Array]:
    """G' u."""
    return [u[0] + (u[1] + u[2]) / 2, (u[1] - u[2]) / 2, (u[1] + u[2]) / 2 + u[3]]


def _output(m: Array) -> list[Array]:
    """A' m."""
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _output_back(y: Sequence[Array]) -> list[Array]:
    """A y."""
    return [y[0], y[0] + y[1], y[0] - y[1], -y[1]]
