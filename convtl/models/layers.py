"""Layers and units that several networks share: convolution, pooling, normalisation, dense layers.

Forms that differ between platforms are chosen in `lowering.py`.
"""

from collections.abc import Callable
from functools import reduce
from math import gcd
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from convtl.errors import UserError
from convtl.models.forms.convolution import conv2d
from convtl.models.forms.depthwise import depthwise_conv2d

Activation = Callable[[Array], Array]
Initializer = Callable[..., Any]
Norm = Literal["batch", "group", "layer"]
Padding = int | Literal["same"]
"""Zeros on every side; or, as in TensorFlow, for ceil(size / stride) outputs, an odd one at the bottom and right."""

HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He et al. (2015), by the backward pass: of convolutions, as torchvision draws them."""
HE_FAN_IN = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
"""He et al. (2015), by the forward pass: of hidden dense layers and depthwise convolutions."""
TORCH_DENSE = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Of dense layers, as PyTorch draws them by default."""


def pool2d(
    x: Float[Array, "batch height width channels"], kind: Literal["average", "max"]
) -> Float[Array, "batch height2 width2 channels"]:
    """2x2 pooling with stride 2; an odd last row or column is left out, as in `VALID` padding.

    Averages are of pairs of rows, then of columns, side by side in memory: on CPU faster than a reduction over
    reshaped axes, and than XLA's windowed reduction.
    """
    batch, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    x = x[:, : 2 * rows, : 2 * columns]
    if kind == "max":
        return x.reshape(batch, rows, 2, columns, 2, channels).max((2, 4))
    pairs = x.reshape(batch, rows, 2, 2 * columns * channels)
    pairs = (pairs[:, :, 0] + pairs[:, :, 1]).reshape(batch, rows, columns, 2 * channels)
    return (pairs[..., :channels] + pairs[..., channels:]) / 4


def max_pool2d(
    x: Float[Array, "batch height width channels"], size: int = 3, stride: int = 2, padding: int = 0
) -> Float[Array, "batch height2 width2 channels"]:
    """Largest value of each window, as PyTorch's `max_pool2d`: padding is -inf.

    The maximum of shifted slices, rows first: XLA's windowed reduction is slow on CPU, and its gradient more so.
    Equal largest values of a window share the gradient.
    """
    if (size, stride, padding) == (2, 2, 0):
        return pool2d(x, "max")
    if padding:
        edges = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        x = jnp.pad(x, edges, constant_values=-jnp.inf)
    for axis in (1, 2):
        count = (x.shape[axis] - size) // stride + 1
        last = (count - 1) * stride + 1
        shifted = (
            jax.lax.slice_in_dim(x, first, first + last, stride=stride, axis=axis)
            for first in range(size)
        )
        x = reduce(jnp.maximum, shifted)
    return x


def adaptive_average_pool2d(
    x: Float[Array, "batch height width channels"], rows: int, columns: int
) -> Float[Array, "batch rows columns channels"]:
    """Means over windows that tile the image as evenly as whole pixels allow.

    As PyTorch's `adaptive_avg_pool2d`: window i of n covers pixels floor(i s / n) up to, not including,
    ceil((i + 1) s / n) of s; windows overlap where s is no multiple of n, and repeat pixels where s < n.
    """
    for axis, count in ((1, rows), (2, columns)):
        side = x.shape[axis]
        if side != count:
            windows = [(i * side // count, -(-(i + 1) * side // count)) for i in range(count)]
            means = [jax.lax.slice_in_dim(x, *window, axis=axis).mean(axis) for window in windows]
            x = jnp.stack(means, axis)
    return x


def padding_sides(
    padding: Padding, height: int, width: int, kernel_size: int, stride: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of zeros around an image: ((top, bottom), (left, right))."""
    if padding != "same":
        return (padding, padding), (padding, padding)
    missing = [
        max((-(-size // stride) - 1) * stride + kernel_size - size, 0) for size in (height, width)
    ]
    rows, columns = ((total // 2, total - total // 2) for total in missing)
    return rows, columns


class Conv(nn.Module):
    """Convolution: `kernel` (size, size, in, out) and, with `use_bias`, `bias` (out,)."""

    features: int
    kernel_size: int
    padding: Padding = 0
    kernel_init: Initializer = HE_FAN_OUT
    stride: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch height2 width2 out"]:
        size = self.kernel_size
        kernel = self.param("kernel", self.kernel_init, (size, size, x.shape[-1], self.features))
        sides = padding_sides(self.padding, x.shape[1], x.shape[2], size, self.stride)
        y = conv2d(x, kernel, stride=self.stride, padding=sides)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, y.shape[-1:]).reshape(1, 1, 1, -1)
        return y


class DepthwiseConv(nn.Module):
    """Depthwise convolution: `kernel` (size, size, 1, channels), `bias` (channels,) with `use_bias`."""

    kernel_size: int
    stride: int = 1
    padding: Padding = 0
    use_bias: bool = False
    kernel_init: Initializer = HE_FAN_IN

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height2 width2 channels"]:
        size, channels = self.kernel_size, x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (size, size, 1, channels))
        sides = padding_sides(self.padding, x.shape[1], x.shape[2], size, self.stride)
        y = depthwise_conv2d(x, kernel, stride=self.stride, padding=sides)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (channels,)).reshape(1, 1, 1, -1)
        return y


def norm_layer(
    kind: Norm, name: str, channels: int, *, train: bool, epsilon: float = 1e-5
) -> nn.Module:
    """Normalisation with `scale` and `bias`, over `channels` maps.

    - `batch` (Ioffe & Szegedy 2015): in training each batch is normalised by its own statistics, and the running
      ones, `mean` and `var`, move by a tenth towards them (PyTorch's momentum 0.1; but Flax's running variance is
      that of the batch itself, PyTorch's the unbiased estimate).
    - `group` (Wu & He 2018): no statistics, so images do not affect each other. 32 groups; fewer in narrow layers,
      so that a group has two channels or more.
    - `layer` (Ba et al. 2016): over the channels of each pixel.
    """
    if kind == "layer":
        return nn.LayerNorm(epsilon=epsilon, name=name)
    if kind == "group":
        groups = gcd(32, max(channels // 2, 1))
        return nn.GroupNorm(num_groups=groups, epsilon=epsilon, name=name)
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=epsilon, name=name)


class ConvUnit(nn.Module):
    """Convolution `conv`, normalisation `norm` if any, activation if any."""

    features: int
    kernel_size: int
    stride: int = 1
    padding: Padding = 0
    norm: Norm | None = None
    activation: Activation | None = nn.relu
    kernel_init: Initializer = HE_FAN_OUT
    use_bias: bool = True
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch height2 width2 features"]:
        x = Conv(
            self.features,
            self.kernel_size,
            self.padding,
            self.kernel_init,
            stride=self.stride,
            use_bias=self.use_bias,
            name="conv",
        )(x)
        if self.norm is not None:
            norm = norm_layer(self.norm, "norm", self.features, train=train, epsilon=self.epsilon)
            x = norm(x)
        return x if self.activation is None else self.activation(x)


class PoolUnit(nn.Module):
    """2x2 pooling; no weights."""

    kind: Literal["average", "max"]

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch height2 width2 channels"]:
        return pool2d(x, self.kind)


class MaxPoolUnit(nn.Module):
    """Max pooling; then, with `adapt_to` rows and columns, adaptive average pooling. No weights."""

    size: int
    stride: int = 2
    padding: int = 0
    adapt_to: int | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch height2 width2 channels"]:
        x = max_pool2d(x, self.size, self.stride, self.padding)
        if self.adapt_to is not None:
            x = adaptive_average_pool2d(x, self.adapt_to, self.adapt_to)
        return x


class GlobalAveragePool(nn.Module):
    """Mean of each map, a feature vector; no weights."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch channels"]:
        return x.mean((1, 2))


class DenseUnit(nn.Module):
    """Flatten (in the order height, width, channels), dense layer `dense`, activation if any.

    Dropout, in training only, acts on what enters or on the output.
    """

    features: int
    activation: Activation | None = None
    kernel_init: Initializer = TORCH_DENSE
    dropout: float = 0.0
    dropped: Literal["input", "output"] = "input"

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."], train: bool) -> Float[Array, "batch features"]:
        drop = nn.Dropout(self.dropout, deterministic=not train)
        x = x.reshape(x.shape[0], -1)
        x = drop(x) if self.dropped == "input" else x
        x = nn.Dense(self.features, kernel_init=self.kernel_init, name="dense")(x)
        x = x if self.activation is None else self.activation(x)
        return drop(x) if self.dropped == "output" else x


def check_images(kind: str, input_shape: tuple[int, ...], smallest: int) -> None:
    """Raise `UserError` for what is not height x width x channels, or too small for a net of a kind."""
    if len(input_shape) != 3 or min(input_shape[:2]) < smallest:
        raise UserError(
            f"model {kind}: got images of shape {tuple(input_shape)}; "
            f"accepted: height x width x channels of at least {smallest}x{smallest}"
        )
