"""Convolution in the form that is fast on the platform (`models.lowering`).

On CPU, XLA hands a convolution to Eigen only if its axes are in one order (images NHWC, kernel HWIO). The two of a
backward pass have other orders; inside a scan, where all training is, they fall back to plain loops.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from convtl.models.forms import Sides, row_product
from convtl.models.forms.winograd import winograd
from convtl.models.lowering import band_tile, convolution_form, on_cpu

_NONE: Sides = ((0, 0), (0, 0))


def conv2d(
    x: Float[Array, "batch height width in"],
    kernel: Float[Array, "kh kw in out"],
    *,
    stride: int = 1,
    padding: Sides = _NONE,
) -> Float[Array, "batch height2 width2 out"]:
    """Cross-correlation with zero padding, as PyTorch's `conv2d`.

    A kernel without overlap and padding is a matrix product on every platform: under `vmap` over kernels XLA's
    convolution takes several times as long. On CPU only reverse-mode differentiation is possible.

    Args:
      padding: rows and columns of zeros, ((top, bottom), (left, right)), fewer than the kernel has.
    """
    if padding == _NONE and kernel.shape[0] in (1, stride) and kernel.shape[1] == kernel.shape[0]:
        return _without_overlap(x, kernel, stride)
    padded = (x.shape[0], x.shape[1] + sum(padding[0]), x.shape[2] + sum(padding[1]))
    form = convolution_form(padded, kernel.shape, stride)
    return FORMS[form](x, kernel, stride, padding)


def _without_overlap(x: Array, kernel: Array, stride: int) -> Array:
    """Convolve by one 2-D matrix product (fast gradient), a row per output pixel."""
    size, _, channels, out = kernel.shape
    if size == 1:
        x = x[:, ::stride, ::stride]
    batch, rows, columns = x.shape[0], x.shape[1] // size, x.shape[2] // size
    x = x[:, : rows * size, : columns * size].reshape(batch, rows, size, columns, size, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, size * size * channels)
    multiply = row_product if on_cpu() else jnp.matmul
    return multiply(x, kernel.reshape(-1, out)).reshape(batch, rows, columns, out)


def lax_conv2d(x: Array, kernel: Array, stride: int, sides: Sides, **settings: Any) -> Array:
    """XLA's own convolution, of images NHWC by a kernel HWIO."""
    layout, strides = ("NHWC", "HWIO", "NHWC"), (stride, stride)
    return jax.lax.conv_general_dilated(
        x, kernel, strides, sides, dimension_numbers=layout, **settings
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _canonical(x: Array, kernel: Array, stride: int, sides: Sides) -> Array:
    """XLA's convolution, with gradients too in the order of axes that Eigen takes.

    With y[i] = sum_u k[u] x[s i + u - p] in each direction: the cotangent of x[m] sums those of y[i] times
    k[m - s i + p], a convolution of y's with s - 1 zeros between its values and the flipped kernel; that of k[u]
    sums those of y[i] times x[s i + u - p], a convolution of the images with y's, its values s apart, as kernel.
    """
    return lax_conv2d(x, kernel, stride, sides)


def _forward(
    x: Array, kernel: Array, stride: int, sides: Sides
) -> tuple[Array, tuple[Array, Array]]:
    return _canonical(x, kernel, stride, sides), (x, kernel)


def _backward(
    stride: int, sides: Sides, saved: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    (above, before), (left, right) = (
        _edges(x.shape[axis], kernel.shape[axis - 1], cotangent.shape[axis], stride, low)
        for axis, (low, _) in enumerate(sides, 1)
    )
    y, to_images, dilation = _cut(cotangent, (above, left), stride)
    images = lax_conv2d(y, flipped, 1, to_images, lhs_dilation=(dilation, dilation))
    x, to_kernel, _ = _cut(x, (before, right), 1)
    y = cotangent.transpose(1, 2, 0, 3)
    weights = lax_conv2d(x.transpose(3, 1, 2, 0), y, 1, to_kernel, rhs_dilation=(stride, stride))
    return images, weights.transpose(1, 2, 0, 3)


_canonical.defvjp(_forward, _backward)


def _edges(
    size: int, span: int, outputs: int, stride: int, low: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros around y for the images' cotangent, and x for the kernel's, on one axis."""
    reach = (outputs - 1) * stride + 1
    before = span - 1 - low
    return (before, size + span - 1 - reach - before), (low, reach + span - 1 - size - low)


def _cut(x: Array, sides: Sides, dilation: int) -> tuple[Array, Sides, int]:
    """Return images, padding and dilation for XLA; negative sides are applied here.

    XLA on CPU is wrong about padding of -1 before and 1 after (JAX 0.10).
    """
    if min(map(min, sides)) >= 0:
        return x, sides, dilation
    edges = [(0, 0, 0), *((low, high, dilation - 1) for low, high in sides), (0, 0, 0)]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), edges), _NONE, 1


def _patches(x: Array, kernel: Array, stride: int, sides: Sides) -> Array:
    """One matrix product of all patches that the kernel sees.

    Patches are the images several times over: made anew for the backward pass, not kept.
    """
    product = jax.checkpoint(partial(_product_of_patches, stride=stride), prevent_cse=False)
    return product(jnp.pad(x, ((0, 0), *sides, (0, 0))), kernel)


def _product_of_patches(x: Array, kernel: Array, stride: int) -> Array:
    batch, height, width, channels = x.shape
    kh, kw, _, out = kernel.shape
    down, across = (height - kh) // stride, (width - kw) // stride
    patches = jnp.concatenate(
        [
            x[:, i : i + down * stride + 1 : stride, j : j + across * stride + 1 : stride]
            for i in range(kh)
            for j in range(kw)
        ],
        axis=-1,
    )
    product = row_product(patches.reshape(-1, kh * kw * channels), kernel.reshape(-1, out))
    return product.reshape(batch, down + 1, across + 1, out)


def _banded(x: Array, kernel: Array, stride: int, sides: Sides) -> Array:
    """One matrix product of all tiles, some output pixels of a row; stride 1.

    A tile is a linear map of a patch of kh input rows and as many columns as its pixels see: its (kh * columns *
    in) values times a matrix in which the kernel is shifted along the tile.
    """
    x = jnp.pad(x, ((0, 0), *sides, (0, 0)))
    batch, height, width, channels = x.shape
    kh, kw, _, out = kernel.shape
    rows_out, width_out = height - kh + 1, width - kw + 1
    tile = band_tile(width_out, out)
    tiles, columns = -(-width_out // tile), tile + kw - 1
    shift = np.zeros((kw, columns, tile), kernel.dtype)
    for offset in range(kw):
        shift[offset, np.arange(tile) + offset, np.arange(tile)] = 1
    band = jnp.einsum("yxio,xwp->ywipo", kernel, shift).reshape(kh * columns * channels, tile * out)
    x = jnp.pad(x, ((0, 0), (0, 0), (0, tiles * tile - width_out), (0, 0)))
    strips = jnp.stack([x[:, :, at * tile : at * tile + columns] for at in range(tiles)], 2)
    strips = strips.reshape(batch, height, tiles, columns * channels)
    patches = jnp.concatenate([strips[:, i : i + rows_out] for i in range(kh)], axis=-1)
    product = row_product(patches.reshape(-1, kh * columns * channels), band)
    return product.reshape(batch, rows_out, tiles * tile, out)[:, :, :width_out]


FORMS: dict[str, Callable[[Array, Array, int, Sides], Array]] = {
    "lax": lax_conv2d,
    "canonical": _canonical,
    "winograd": lambda x, kernel, _, sides: winograd(x, kernel, sides),
    "patches": _patches,
    "banded": _banded,
}
