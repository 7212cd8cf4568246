"""Residual networks (He, Zhang, Ren & Sun 2016).

Of "Deep residual learning for image recognition", `resnet` is the net for ImageNet with 18, 34 or 50 layers,
11,689,512, 21,797,672 and 25,557,032 weights for 1000 classes, as torchvision builds it, whose weights fit: v1.5, in
which a bottleneck halves the image in its 3x3 convolution.

`cifar_resnet` is section 4.2, for images of about 32x32: 20 or 56 layers, 269,722 and 853,018 weights for 10 classes.
Shortcuts have no weights (option A): where a stage begins they take every second pixel and add maps of zeros, half
before and half after, as in github.com/akamaster/pytorch_resnet_cifar10, whose weights fit.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array
from pydantic.dataclasses import dataclass

from convtl.config.models import ModelConfig
from convtl.config.values import STRICT, Count
from convtl.models.layers import (
    Conv,
    ConvUnit,
    DenseUnit,
    GlobalAveragePool,
    Maps,
    Norm,
    PoolUnit,
    norm_layer,
)
from convtl.models.network import Network

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}  # Layers -> blocks of each stage.


class ResidualBlock(nn.Module):
    """relu(F(x) + shortcut(x)); F is two 3x3 convolutions, or 1x1, 3x3 and 1x1.

    The shortcut is the identity, if need be through a 1x1 convolution `down_conv` with `down_norm`.
    """

    features: int  # of the first convolution; a bottleneck has four times as many outputs
    stride: int = 1
    bottleneck: bool = False
    norm: Norm = "batch"
    shortcut: Literal["projection", "padding"] = "projection"

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        layers = self._layers()
        y = x
        for place, (features, size, stride) in enumerate(layers, 1):
            y = self._conv_norm(y, f"conv{place}", f"norm{place}", features, size, stride, train)
            if place < len(layers):
                y = nn.relu(y)
        if y.shape != x.shape:
            if self.shortcut == "padding":
                x = _subsampled(x, self.stride, y.shape[-1])
            else:
                x = self._conv_norm(x, "down_conv", "down_norm", y.shape[-1], 1, self.stride, train)
        return nn.relu(y + x)

    def _layers(self) -> tuple[tuple[int, int, int], ...]:
        """(features, kernel size, stride) of each convolution."""
        if not self.bottleneck:
            return (self.features, 3, self.stride), (self.features, 3, 1)
        return (self.features, 1, 1), (self.features, 3, self.stride), (4 * self.features, 1, 1)

    def _conv_norm(
        self, x: Array, conv: str, norm: str, features: int, size: int, stride: int, train: bool
    ) -> Array:
        x = Conv(features, size, size // 2, stride=stride, use_bias=False, name=conv)(x)
        return norm_layer(self.norm, norm, features, train=train)(x)


def _subsampled(x: Array, stride: int, channels: int) -> Array:
    """Every `stride`-th pixel, with maps of zeros before and after the maps of `x`."""
    missing = channels - x.shape[-1]
    edges = ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2))
    return jnp.pad(x[:, ::stride, ::stride], edges)


def _chain(
    lowest: tuple[tuple[str, nn.Module], ...],
    block: Callable[..., ResidualBlock],
    width: int,
    blocks: Sequence[int],
    input_shape: tuple[int, ...],
    classes: int,
) -> Network:
    """Stages of residual blocks; all but the first halve images and double maps."""
    units = list(lowest)
    for stage, count in enumerate(blocks):
        for place in range(count):
            stride = 2 if stage and not place else 1
            units.append((f"stage{stage + 1}_block{place + 1}", block(width * 2**stage, stride)))
    units += [("gap", GlobalAveragePool()), ("head", DenseUnit(classes))]
    return Network(tuple(units), input_shape)


@dataclass(frozen=True, config=STRICT)
class ResNetConfig(ModelConfig):
    """ResNet as torchvision's."""

    smallest_side: ClassVar = 8  # of smaller images convolutions see hardly more than padding
    kind: Literal["resnet"] = "resnet"
    layers: Literal[18, 34, 50] = 50
    norm: Literal["batch", "group"] = "batch"
    width: Count = 64  # maps of the first stage; all other widths are in proportion

    def build(self, input_shape: tuple[int, ...], classes: int) -> Network:
        stem = ConvUnit(self.width, 7, stride=2, padding=3, norm=self.norm, use_bias=False)
        lowest = (("stem", stem), ("pool", PoolUnit("max", 3, padding=1)))
        block = partial(ResidualBlock, bottleneck=self.layers == 50, norm=self.norm)
        return _chain(lowest, block, self.width, _BLOCKS[self.layers], input_shape, classes)


@dataclass(frozen=True, config=STRICT)
class CifarResNetConfig(ModelConfig):
    """ResNet of section 4.2, shortcuts without weights."""

    smallest_side: ClassVar = 8
    usual_images: ClassVar = (32, 32, 3)
    usual_classes: ClassVar = 10
    kind: Literal["cifar_resnet"] = "cifar_resnet"
    layers: Literal[20, 56] = 20
    width: Count = 16  # maps of the first stage; all other widths are in proportion

    def build(self, input_shape: tuple[int, ...], classes: int) -> Network:
        stem = ConvUnit(self.width, 3, padding=1, norm="batch", use_bias=False)
        block = partial(ResidualBlock, shortcut="padding")
        blocks = [(self.layers - 2) // 6] * 3
        return _chain((("stem", stem),), block, self.width, blocks, input_shape, classes)
