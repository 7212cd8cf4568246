"""Layers: convolution, pooling, normalisation. What platforms differ in is said in `lowering.py`."""

from collections.abc import Callable
from functools import reduce
from math import gcd
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from convtl.models.convolution import Padding, conv2d

Norm = Literal["batch", "group"]


def pool2d(
    x: Float[Array, "batch height width channels"], kind: Literal["average", "max"]
) -> Float[Array, "batch height2 width2 channels"]:
    """2x2 pooling with stride 2; an odd last row or column is left out, as in `VALID` padding.

    Averages by pairs of rows, then of columns, side by side in memory, since a reduction over reshaped axes takes
    longer (`convtl.models.lowering`), and XLA's windowed reduction longer still.
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
    """Largest value of each window, as PyTorch's `max_pool2d`: what is padded is -inf, so it never wins.

    The maximum of shifted slices, rows first: XLA's windowed reduction is slow on CPU, and its gradient more so.
    Where several values of a window are the largest they share the gradient.
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
            jax.lax.slice_in_dim(x, place, place + last, stride=stride, axis=axis)
            for place in range(size)
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


class Conv(nn.Module):
    """Convolution: `kernel` (kh, kw, in / groups, out) and, unless told otherwise, `bias` (out,)."""

    features: int
    kernel_size: int
    padding: Padding = 0
    kernel_init: Callable[..., Any] = nn.initializers.lecun_normal()
    stride: int = 1
    groups: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch height2 width2 out"]:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        y = conv2d(
            x,
            kernel,
            stride=self.stride,
            padding=self.padding,
            groups=self.groups,
        )
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,))
        return y


def batch_norm(name: str, *, train: bool, epsilon: float = 1e-5) -> nn.BatchNorm:
    """Batch normalisation (Ioffe & Szegedy 2015): `scale`, `bias`; statistics `mean`, `var`.

    In training each batch is normalised by its own statistics, and the running ones move by a tenth towards
    them (PyTorch's momentum 0.1; but Flax's running variance is that of the batch itself, PyTorch's the
    unbiased estimate).
    """
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=epsilon, name=name)


def group_norm(name: str, channels: int) -> nn.GroupNorm:
    """Group normalisation (Wu & He 2018): `scale`, `bias`; no statistics, so images do not affect each other.

    32 groups; fewer in narrow layers, so that a group has two channels or more.
    """
    return nn.GroupNorm(num_groups=gcd(32, max(channels // 2, 1)), epsilon=1e-5, name=name)


def norm_layer(kind: Norm, name: str, channels: int, *, train: bool) -> nn.BatchNorm | nn.GroupNorm:
    """The normalisation of a kind, for a layer of so many channels."""
    if kind == "group":
        return group_norm(name, channels)
    return batch_norm(name, train=train)


class GlobalAveragePool(nn.Module):
    """The unit `gap`: the mean of each map. No weights, so that what enters the head is a feature vector."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w c"], train: bool) -> Float[Array, "batch c"]:
        return x.mean((1, 2))


class Head(nn.Module):
    """The unit `head`: one dense layer, `dense`, on a feature vector; dropout before it, if any, in training."""

    classes: int
    kernel_init: Callable[..., Any] = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch features"], train: bool
    ) -> Float[Array, "batch classes"]:
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes, kernel_init=self.kernel_init, name="dense")(x)
