"""Layers, and the only place that knows platforms: each picks its lowering by platform and shape.

On CPU, XLA's own convolution loses its threads inside loops and is slow under `vmap` over weights;
for few channels the same sums as one matrix product per image row (the kernel laid out as a banded
matrix) are several times faster. GPU and TPU keep `lax.conv_general_dilated`.
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Lowering = Literal["auto", "lax", "banded"]

# Measured with LeNet-5 (batch 32, inside scan and vmap, 2 cores): banded 2.0-2.5 ms an update, lax 11.7 ms.
# The band multiplies the arithmetic by about width / kernel width, which pays while both factors are small.
_BANDED_MAX_CHANNEL_PRODUCT = 256
_BANDED_MAX_WIDTH = 40


def conv2d(
    x: Float[Array, "batch height width in"],
    kernel: Float[Array, "kh kw in out"],
    *,
    padding: int = 0,
    lowering: Lowering = "auto",
) -> Float[Array, "batch height2 width2 out"]:
    """Stride-1 cross-correlation with `padding` zeros on every side."""
    if padding:
        x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    if lowering == "auto":
        lowering = "banded" if _banded_pays(x.shape[2], kernel.shape) else "lax"
    if lowering == "banded":
        return _conv2d_banded(x, kernel)
    return jax.lax.conv_general_dilated(
        x, kernel, window_strides=(1, 1), padding="VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _banded_pays(width: int, kernel_shape: tuple[int, ...]) -> bool:
    small = kernel_shape[2] * kernel_shape[3] <= _BANDED_MAX_CHANNEL_PRODUCT and width <= _BANDED_MAX_WIDTH
    return jax.default_backend() == "cpu" and small


def _conv2d_banded(
    x: Float[Array, "batch height width in"], kernel: Float[Array, "kh kw in out"]
) -> Float[Array, "batch height2 width2 out"]:
    """One matrix product for every output row of every image.

    An output row is a linear map of `kh` input rows: (kh*width*in) values times a matrix in which the
    kernel's rows are shifted along the width.
    """
    batch, height, width, channels = x.shape
    kh, kw, _, out = kernel.shape
    rows_out, width_out = height - kh + 1, width - kw + 1
    shift = np.zeros((kw, width, width_out), np.float32)
    for offset in range(kw):
        shift[offset, np.arange(width_out) + offset, np.arange(width_out)] = 1
    band = jnp.einsum("yxio,xwp->ywipo", kernel, shift).reshape(kh * width * channels, width_out * out)
    rows = x.reshape(batch, height, width * channels)
    windows = jnp.concatenate([rows[:, i : i + rows_out] for i in range(kh)], axis=-1)
    product = windows.reshape(batch * rows_out, kh * width * channels) @ band
    return product.reshape(batch, rows_out, width_out, out)


def pool2d(
    x: Float[Array, "batch height width channels"], kind: Literal["average", "max"]
) -> Float[Array, "batch height2 width2 channels"]:
    """2x2 pooling with stride 2; an odd last row or column is left out, as in `VALID` padding.

    Written as a reduction over a reshaped array, because XLA's windowed reduction is slow on CPU.
    """
    batch, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    blocks = x[:, : 2 * rows, : 2 * columns].reshape(batch, rows, 2, columns, 2, channels)
    return blocks.mean((2, 4)) if kind == "average" else blocks.max((2, 4))


class Conv(nn.Module):
    """Stride-1 convolution with bias: `kernel` (kh, kw, in, out), `bias` (out,)."""

    features: int
    kernel_size: int
    padding: int = 0
    kernel_init: Callable[..., Any] = nn.initializers.lecun_normal()
    lowering: Lowering = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width in"]) -> Float[Array, "batch height2 width2 out"]:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return conv2d(x, kernel, padding=self.padding, lowering=self.lowering) + bias
