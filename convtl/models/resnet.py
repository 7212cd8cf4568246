"""Residual networks (He, Zhang, Ren & Sun 2016, "Deep residual learning for image recognition").

`resnet` is the net for ImageNet with 18, 34 or 50 layers: 11,689,512, 21,797,672 and 25,557,032 weights for
1000 classes. By default as torchvision builds it, whose weights fit (`resnet18`, `resnet34`, `resnet50`): v1.5,
in which a bottleneck halves the image in its 3x3 convolution. torchvision's images are scaled to [0, 1], less
(0.485, 0.456, 0.406), over (0.229, 0.224, 0.225).

`norm: group` normalises over groups of channels (Wu & He 2018): for training from scratch with few images or
small batches.

`cifar_resnet` is the paper's section 4.2, for images of about 32x32: 6n + 2 layers in three stages of 16, 32 and
64 maps. Shortcuts have no weights (option A): where a stage begins they take every second pixel and add maps of
zeros. 20 layers have 269,722 weights for 10 classes, 56 have 853,018 (the paper: 0.27M, 0.85M). The zeros are
added half before and half after the maps, as in github.com/akamaster/pytorch_resnet_cifar10, whose weights fit.
"""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from convtl.config.models import CifarResNetConfig, ResNetConfig
from convtl.models.layers import Conv, GlobalAveragePool, Head, Norm, norm_layer
from convtl.models.network import Network
from convtl.models.units import HE_FAN_OUT, ConvUnit, MaxPoolUnit, check_images

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Layers -> blocks of each stage."""
_BOTTLENECK = (50,)
_SMALLEST_SIDE = 8  # of smaller images nearly all that the convolutions see is padding


class ResidualBlock(nn.Module):
    """relu(F(x) + shortcut(x)), where F is two 3x3 convolutions or a bottleneck of 1x1, 3x3 and 1x1.

    The shortcut is the identity, if need be through a 1x1 convolution `down_conv` with `down_norm`.
    """

    features: int
    """of the first convolution; a bottleneck gives out four times as many"""
    stride: int = 1
    bottleneck: bool = False
    norm: Norm = "batch"
    shortcut: Literal["projection", "padding"] = "projection"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], train: bool
    ) -> Float[Array, "batch h2 w2 c2"]:
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
        x = Conv(
            features,
            size,
            size // 2,
            HE_FAN_OUT,
            stride=stride,
            use_bias=False,
            name=conv,
        )(x)
        return norm_layer(self.norm, norm, features, train=train)(x)


def _subsampled(
    x: Float[Array, "batch h w c"], stride: int, channels: int
) -> Float[Array, "batch h2 w2 c2"]:
    """Every `stride`-th pixel, with maps of zeros before and after the maps that are there."""
    missing = channels - x.shape[-1]
    edges = ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2))
    return jnp.pad(x[:, ::stride, ::stride], edges)


def resnet(config: ResNetConfig, input_shape: tuple[int, ...], classes: int) -> Network:
    """Builds a ResNet-18, -34 or -50 for images of any size from 8x8.

    Raises:
      UserError: the images are too small.
    """
    check_images("resnet", input_shape, _SMALLEST_SIDE)
    stem = ConvUnit(config.width, 7, stride=2, padding=3, norm=config.norm)
    units: list[tuple[str, nn.Module]] = [("stem", stem), ("pool", MaxPoolUnit(3, padding=1))]
    for stage, count in enumerate(_BLOCKS[config.layers]):
        for place in range(count):
            block = ResidualBlock(
                config.width * 2**stage,
                stride=2 if stage and not place else 1,
                bottleneck=config.layers in _BOTTLENECK,
                norm=config.norm,
            )
            units.append((f"stage{stage + 1}_block{place + 1}", block))
    return Network(
        (*units, ("gap", GlobalAveragePool()), ("head", Head(classes))), tuple(input_shape)
    )


def cifar_resnet(config: CifarResNetConfig, input_shape: tuple[int, ...], classes: int) -> Network:
    """Builds a ResNet for small images, of any size from 8x8.

    Raises:
      UserError: the images are too small.
    """
    check_images("cifar_resnet", input_shape, _SMALLEST_SIDE)
    stem = ConvUnit(config.width, 3, padding=1, norm=config.norm)
    units: list[tuple[str, nn.Module]] = [("stem", stem)]
    for stage in range(3):
        for place in range((config.layers - 2) // 6):
            block = ResidualBlock(
                config.width * 2**stage,
                stride=2 if stage and not place else 1,
                norm=config.norm,
                shortcut="padding",
            )
            units.append((f"stage{stage + 1}_block{place + 1}", block))
    return Network(
        (*units, ("gap", GlobalAveragePool()), ("head", Head(classes))), tuple(input_shape)
    )
