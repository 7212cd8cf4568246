"""Depthwise and 1x1 convolutions, of which mobile nets and ConvNeXt are made.

XLA's convolution for CPU takes about a hundred times as long for a depthwise convolution as the sum of its
products takes, and a 1x1 convolution under `vmap` over weights three to ten times as long as the matrix
product that it is.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from convtl.models.lowering import DepthwiseLowering, depthwise_form

Sides = tuple[tuple[int, int], tuple[int, int]]
"""Zeros around an image: ((top, bottom), (left, right))."""
PaddingRule = Literal["same", "symmetric"]

FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He et al. (2015), by the backward pass."""
FAN_IN = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
"""Of depthwise kernels, in which each map sees and is seen by one map only."""

# Terms of a kernel's gradient that are added up in one loop. Measured (1 core, 8 to 32 images): 8 and 14 are
# slower by up to a half, longer sums take longer to compile.
_COLUMNS_AT_ONCE = 28


def sides(rule: PaddingRule, height: int, width: int, kernel_size: int, stride: int) -> Sides:
    """Zeros that a padding rule puts around an image.

    - `symmetric`: (k - 1) / 2 on every side, as PyTorch's nets have.
    - `same`: as TensorFlow, what it takes for ceil(n / stride) outputs, the odd one at the bottom and right. With
      stride 1 and an odd kernel that is `symmetric`; with stride 2 and an even size it is not.
    """
    if rule == "symmetric":
        half = (kernel_size - 1) // 2
        return (half, half), (half, half)
    missing = [
        max((-(-size // stride) - 1) * stride + kernel_size - size, 0) for size in (height, width)
    ]
    rows, columns = ((total // 2, total - total // 2) for total in missing)
    return rows, columns


def depthwise_conv2d(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kh kw 1 channels"],
    *,
    stride: int = 1,
    padding: Sides = ((0, 0), (0, 0)),
    lowering: DepthwiseLowering = "auto",
) -> Float[Array, "batch height2 width2 channels"]:
    """Cross-correlates each map with a kernel of its own.

    Args:
      lowering: `shifted` adds up products of kernel entries and shifted images, `lax` is XLA's own; `auto` is
        `shifted` on CPU and `lax` elsewhere.
    """
    if depthwise_form(lowering) == "shifted":
        return _shifted(stride, padding, x, kernel)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _shifted(stride: int, padding: Sides, x: Array, kernel: Array) -> Array:
    """y[h, w] = sum over i, j of x[h s + i, w s + j] k[i, j], in one loop over y."""
    kh, kw = kernel.shape[:2]
    x = _padded(x, padding)
    rows, columns = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    terms = (
        _every(x, i, rows, j, columns, stride) * kernel[i, j, 0].astype(x.dtype)
        for i in range(kh)
        for j in range(kw)
    )
    return _added(terms)


def _shifted_forward(stride: int, padding: Sides, x: Array, kernel: Array) -> tuple[Array, Any]:
    return _shifted(stride, padding, x, kernel), (x, kernel)


def _shifted_backward(stride: int, padding: Sides, saved: Any, pull: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return (
        _image_gradient(stride, padding, x.shape, kernel.astype(pull.dtype), pull).astype(x.dtype),
        _kernel_gradient(stride, padding, x, kernel.shape, pull).astype(kernel.dtype),
    )


_shifted.defvjp(_shifted_forward, _shifted_backward)


def _image_gradient(
    stride: int, padding: Sides, shape: tuple[int, ...], kernel: Array, pull: Array
) -> Array:
    """With respect to the image: for each of the stride's phases the kernel's entries that meet it, flipped."""
    kh, kw = kernel.shape[:2]
    _, height, width, channels = shape
    rows, columns = (
        -(-(size + sum(pad)) // stride) for size, pad in zip((height, width), padding, strict=True)
    )
    above, before = -(-kh // stride) - 1, -(-kw // stride) - 1
    pull = _padded(pull, ((above, rows - pull.shape[1]), (before, columns - pull.shape[2])))

    def phase(row: int, column: int) -> Array:
        terms = [
            _every(pull, above - i // stride, rows, before - j // stride, columns) * kernel[i, j, 0]
            for i in range(row, kh, stride)
            for j in range(column, kw, stride)
        ]
        return (
            _added(terms) if terms else jnp.zeros((shape[0], rows, columns, channels), pull.dtype)
        )

    whole = jnp.stack(
        [jnp.stack([phase(r, c) for c in range(stride)], 3) for r in range(stride)], 2
    )
    whole = whole.reshape(shape[0], rows * stride, columns * stride, channels)
    (top, _), (left, _) = padding
    return whole[:, top : top + height, left : left + width]


def _kernel_gradient(
    stride: int, padding: Sides, x: Array, shape: tuple[int, ...], pull: Array
) -> Float[Array, "kh kw 1 channels"]:
    """With respect to the kernel: for each of its rows, sums over an image row's columns, then over all rows.

    The first sum is elementwise over (image, row, kernel column, channel), the second a product with ones: XLA's
    own reduction of shifted products is 2 to 8 times slower on CPU.
    """
    kh, kw = shape[:2]
    x = _padded(x, padding)
    _, rows, columns, channels = pull.shape
    ones = jnp.ones((1, x.shape[0] * rows), pull.dtype)

    def kernel_row(i: int) -> Array:
        down = jax.lax.slice_in_dim(x, i, i + (rows - 1) * stride + 1, stride, axis=1)
        sums = []
        for first in range(0, columns, _COLUMNS_AT_ONCE):
            terms = (
                down[:, :, w * stride : w * stride + kw] * pull[:, :, w, None]
                for w in range(first, min(first + _COLUMNS_AT_ONCE, columns))
            )
            partial_sums = jax.lax.optimization_barrier(_added(terms)).reshape(-1, kw * channels)
            sums.append(jnp.matmul(ones, partial_sums, preferred_element_type=jnp.float32)[0])
        return _added(sums)

    return jnp.stack([kernel_row(i) for i in range(kh)]).reshape(kh, kw, 1, channels)


def _padded(x: Array, padding: Sides) -> Array:
    """The barrier keeps XLA from asking of every element that it reads whether it lies in the padding."""
    return jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), *padding, (0, 0))))


def _every(x: Array, row: int, rows: int, column: int, columns: int, stride: int = 1) -> Array:
    """So many rows and columns from a place on, `stride` apart."""
    down, right = row + (rows - 1) * stride + 1, column + (columns - 1) * stride + 1
    return x[:, row:down:stride, column:right:stride]


def _added(terms: Any) -> Array:
    first, *others = terms
    for term in others:
        first = first + term
    return first


class DepthwiseConv(nn.Module):
    """Depthwise convolution: `kernel` (k, k, 1, channels) and, where asked for, `bias` (channels,)."""

    kernel_size: int
    stride: int = 1
    padding: PaddingRule = "symmetric"
    use_bias: bool = False
    kernel_init: Callable[..., Any] = FAN_IN

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w channels"]
    ) -> Float[Array, "batch h2 w2 channels"]:
        channels = x.shape[-1]
        kernel = self.param(
            "kernel", self.kernel_init, (self.kernel_size, self.kernel_size, 1, channels)
        )
        padding = sides(self.padding, x.shape[1], x.shape[2], self.kernel_size, self.stride)
        y = depthwise_conv2d(x, kernel, stride=self.stride, padding=padding)
        return y + self.param("bias", nn.initializers.zeros, (channels,)) if self.use_bias else y


class PointwiseConv(nn.Module):
    """1x1 convolution without bias, as a matrix product: `kernel` (1, 1, in, out)."""

    features: int
    kernel_init: Callable[..., Any] = FAN_OUT

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w in"]) -> Float[Array, "batch h w out"]:
        kernel = self.param("kernel", self.kernel_init, (1, 1, x.shape[-1], self.features))
        return per_pixel(x, kernel[0, 0])


def per_pixel(
    x: Float[Array, "batch h w in"], matrix: Float[Array, "in out"]
) -> Float[Array, "batch h w out"]:
    """Every pixel's vector times a matrix; in two dimensions, because the gradient is faster so."""
    return (x.reshape(-1, x.shape[-1]) @ matrix).reshape(*x.shape[:-1], -1)
