"""ConvNeXt-Tiny (Liu, Mao, Wu, Feichtenhofer, Darrell & Xie 2022).

28,589,128 weights and 4.46 G multiply-adds at 224x224 for 1000 classes. Layer normalisation instead of batch
normalisation, so no statistics. Fitting weights: torchvision's `convnext_tiny` (IMAGENET1K_V1, 82.5 % top-1), timm's
`convnext_tiny.fb_in1k` and `fb_in22k_ft_in1k`.
"""

from typing import ClassVar, Literal

import flax.linen as nn
from jaxtyping import Array
from pydantic.dataclasses import dataclass

from convtl.config.models import ModelConfig
from convtl.config.values import STRICT
from convtl.models.layers import Conv, ConvUnit, GlobalAveragePool, Maps, Vectors, norm_layer
from convtl.models.network import Network

_STAGES = ((3, 96), (3, 192), (9, 384), (3, 768))  # (blocks, features) of each stage.
_EPSILON = 1e-6
_INIT = nn.initializers.truncated_normal(0.02)


def _normalised(x: Array) -> Array:
    return norm_layer("layer", "norm", x.shape[-1], train=False, epsilon=_EPSILON)(x)


class Down(nn.Module):
    """Normalisation, then a 2x2 convolution of stride 2: between stages."""

    features: int

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        return Conv(self.features, 2, kernel_init=_INIT, stride=2, name="conv")(_normalised(x))


class ConvNeXtBlock(nn.Module):
    """x + gamma * project(gelu(expand(norm(depthwise(x))))), 4 times as wide inside."""

    @nn.compact
    def __call__(self, x: Maps, train: bool) -> Maps:
        channels = x.shape[-1]
        y = Conv(channels, 7, 3, _INIT, depthwise=True, name="depthwise")(x)
        y = Conv(4 * channels, 1, kernel_init=_INIT, name="expand")(_normalised(y))
        y = Conv(channels, 1, kernel_init=_INIT, name="project")(nn.gelu(y, approximate=False))
        gamma = self.param("gamma", nn.initializers.constant(1e-6), (channels,))
        return x + y * gamma.reshape(1, 1, 1, -1)


class ConvNeXtHead(nn.Module):
    """Normalisation and one dense layer on a feature vector."""

    classes: int

    @nn.compact
    def __call__(self, x: Vectors, train: bool) -> Vectors:
        return nn.Dense(self.classes, kernel_init=_INIT, name="dense")(_normalised(x))


@dataclass(frozen=True, config=STRICT)
class ConvNeXtConfig(ModelConfig):
    """ConvNeXt-Tiny, as torchvision's, for images from 32x32.

    Units: stem, stage1_block1 ..., down2, stage2_block1 ..., down4, stage4_block1 ..., gap, head.
    """

    smallest_side: ClassVar = 32  # so that stem and stages leave a pixel
    kind: Literal["convnext_tiny"] = "convnext_tiny"

    def build(self, input_shape: tuple[int, ...], classes: int) -> Network:
        stem = ConvUnit(
            _STAGES[0][1], 4, 4, norm="layer", activation=None, kernel_init=_INIT, epsilon=_EPSILON
        )
        units: list[tuple[str, nn.Module]] = [("stem", stem)]
        for stage, (count, features) in enumerate(_STAGES, 1):
            if stage > 1:
                units.append((f"down{stage}", Down(features)))
            units += [(f"stage{stage}_block{place + 1}", ConvNeXtBlock()) for place in range(count)]
        ends = (("gap", GlobalAveragePool()), ("head", ConvNeXtHead(classes)))
        return Network((*units, *ends), input_shape)
