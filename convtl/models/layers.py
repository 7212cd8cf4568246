"""Layers and units that several networks share.

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

from convtl.models.forms.convolution import conv2d
from convtl.models.forms.depthwise import depthwise_conv2d

Maps = Float[Array, "batch _ _ _"]  # Feature maps: (batch, height, width, channels).
Vectors = Float[Array, "batch _"]  # Feature vectors: (batch, features).
Activation = Callable[[Array], Array]
Initializer = Callable[..., Any]
Norm = Literal["batch", "group", "layer"]
Padding = int | Literal["same", "symmetric"]
"""Zeros on every side; symmetric: half the kernel; same: as TensorFlow, an odd one below and right"""

HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He et al. (2015) by the backward pass: torchvision's for convolutions."""
HE_FAN_IN = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
"""He et al. (2015) by the forward pass: of hidden dense and depthwise layers."""
TORCH_DENSE = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""PyTorch's default for dense layers."""


def pool2d(x: Maps, kind: Literal["average", "max"]) -> Maps:
    """2x2 pooling of stride 2, without an odd last row or column; fast on a CPU."""
    batch, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    x = x[:, : 2 * rows, : 2 * columns]
    if kind == "max":
        return x.reshape(batch, rows, 2, columns, 2, channels).max((2, 4))
    pairs = x.reshape(batch, rows, 2, 2 * columns * channels)
    pairs = (pairs[:, :, 0] + pairs[:, :, 1]).reshape(batch, rows, columns, 2 * channels)
    return (pairs[..., :channels] + pairs[..., channels:]) / 4


def max_pool2d(x: Maps, size: int = 3, stride: int = 2, padding: int = 0) -> Maps:
    """Maximum of each window, as PyTorch's; equal maxima share the gradient.

    The maximum of shifted slices, rows first: XLA's windowed reduction is slow on CPU, and its gradient more so.
    """
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


def adaptive_average_pool2d(x: Maps, count: int) -> Maps:
    """Means over count x count windows, as PyTorch's `adaptive_avg_pool2d`.

    Window i of n covers pixels floor(i s / n) up to, not including, ceil((i + 1) s / n) of s.
    """
    for axis in (1, 2):
        side = x.shape[axis]
        if side != count:
            windows = [(i * side // count, -(-(i + 1) * side // count)) for i in range(count)]
            means = [jax.lax.slice_in_dim(x, *window, axis=axis).mean(axis) for window in windows]
            x = jnp.stack(means, axis)
    return x


class Conv(nn.Module):
    """Convolution: `kernel` (size, size, in, out) and, with `use_bias`, `bias` (out,).

    Depthwise: `kernel` (size, size, 1, features), one for each of as many maps.
    """

    features: int
    kernel_size: int
    padding: Padding = 0
    kernel_init: Initializer = HE_FAN_OUT
    stride: int = 1
    use_bias: bool = True
    depthwise: bool = False

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        size, stride = (self.kernel_size,) * 2, self.stride
        shape = (*size, 1 if self.depthwise else x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        if self.padding == "same":
            rows, columns = jax.lax.padtype_to_pads(x.shape[1:3], size, (stride, stride), "SAME")
        else:
            margin = self.kernel_size // 2 if self.padding == "symmetric" else self.padding
            rows = columns = (margin, margin)
        convolve = depthwise_conv2d if self.depthwise else conv2d
        y = convolve(x, kernel, stride=stride, padding=(rows, columns))
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, y.shape[-1:]).reshape(1, 1, 1, -1)
        return y


def norm_layer(
    kind: Norm, name: str, channels: int, *, train: bool, epsilon: float = 1e-5
) -> nn.Module:
    """Normalisation with `scale` and `bias`, over `channels` maps.

    - `batch` (Ioffe & Szegedy 2015): momentum 0.1 in PyTorch's sense; the running variance is that of the batch
      itself, PyTorch's the unbiased estimate.
    - `group` (Wu & He 2018): 32 groups, fewer in narrow layers, of two channels or more.
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
    def __call__(self, x: Maps, train: bool) -> Maps:
        settings = (self.padding, self.kernel_init, self.stride, self.use_bias)
        x = Conv(self.features, self.kernel_size, *settings, name="conv")(x)
        if self.norm is not None:
            norm = norm_layer(self.norm, "norm", self.features, train=train, epsilon=self.epsilon)
            x = norm(x)
        return x if self.activation is None else self.activation(x)


class PoolUnit(nn.Module):
    """2x2 average or max pooling, then adaptive averaging to `adapt_to` pixels a side."""

    kind: Literal["average", "max"]
    size: int = 2
    padding: int = 0
    adapt_to: int | None = None

    def __call__(self, x: Maps, train: bool) -> Maps:
        x = (
            pool2d(x, self.kind)
            if self.size == 2
            else max_pool2d(x, self.size, padding=self.padding)
        )
        return x if self.adapt_to is None else adaptive_average_pool2d(x, self.adapt_to)


class GlobalAveragePool(nn.Module):
    """Mean of each map, a feature vector; no weights."""

    def __call__(self, x: Maps, train: bool) -> Vectors:
        return x.mean((1, 2))


class DenseUnit(nn.Module):
    """Flattening, dense layer `dense`, activation; dropout of its input or output."""

    features: int
    activation: Activation | None = None
    kernel_init: Initializer = TORCH_DENSE
    dropout: float = 0.0
    dropped: Literal["input", "output"] = "input"

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."], train: bool) -> Vectors:
        drop = nn.Dropout(self.dropout, deterministic=not train)
        x = x.reshape(x.shape[0], -1)
        x = drop(x) if self.dropped == "input" else x
        x = nn.Dense(self.features, kernel_init=self.kernel_init, name="dense")(x)
        x = x if self.activation is None else self.activation(x)
        return drop(x) if self.dropped == "output" else x
