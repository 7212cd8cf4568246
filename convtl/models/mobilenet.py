"""MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov & Chen 2018), and the inverted residual that it is made of.

3,504,872 weights and 0.301 G multiply-adds at 224x224 for 1000 classes. Fitting weights: torchvision's
`mobilenet_v2` (IMAGENET1K_V1, 71.9 % top-1), also timm's `mobilenetv2_100`.
"""

from typing import Literal

import flax.linen as nn
from jaxtyping import Array, Float
from pydantic.dataclasses import dataclass

from convtl.config.models import ModelConfig, register
from convtl.config.values import STRICT, Fraction
from convtl.models.layers import (
    Conv,
    ConvUnit,
    DenseUnit,
    DepthwiseConv,
    GlobalAveragePool,
    Initializer,
    Padding,
    check_images,
    norm_layer,
)
from convtl.models.network import Network

PaddingRule = Literal["same", "symmetric"]
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""(expansion, features, blocks, stride of the first) as in the paper's table 2."""
SMALLEST_SIDE = 8


class InvertedResidual(nn.Module):
    """Widen by a 1x1 convolution, filter each map, narrow by a 1x1 convolution; ReLU6 but for the end.

    With expansion 1 nothing is widened. The input is added where stride and channels leave its shape.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    expansion: int = 6
    padding: PaddingRule = "symmetric"
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch height2 width2 features"]:
        def normalised(y: Array, name: str) -> Array:
            return norm_layer("batch", name, y.shape[-1], train=train, epsilon=self.epsilon)(y)

        def pointwise(y: Array, features: int, name: str) -> Array:
            return normalised(Conv(features, 1, use_bias=False, name=name)(y), f"{name}_norm")

        y = x
        if self.expansion != 1:
            y = nn.relu6(pointwise(y, self.expansion * x.shape[-1], "expand"))
        padding: Padding = "same" if self.padding == "same" else self.kernel_size // 2
        filters = DepthwiseConv(self.kernel_size, self.stride, padding, name="depthwise")
        y = nn.relu6(normalised(filters(y), "depthwise_norm"))
        y = pointwise(y, self.features, "project")
        return x + y if self.stride == 1 and self.features == x.shape[-1] else y


def chain(
    blocks: list[InvertedResidual],
    input_shape: tuple[int, ...],
    classes: int,
    *,
    head_init: Initializer,
    dropout: float,
) -> Network:
    """Network of inverted residuals: stem, block01 ..., top, gap, head."""
    padding, epsilon = blocks[0].padding, blocks[0].epsilon

    def conv(features: int, size: int, stride: int) -> ConvUnit:
        return ConvUnit(
            features,
            size,
            stride=stride,
            padding="same" if padding == "same" else size // 2,
            norm="batch",
            activation=nn.relu6,
            use_bias=False,
            epsilon=epsilon,
        )

    units: tuple[tuple[str, nn.Module], ...] = (
        ("stem", conv(32, 3, 2)),
        *((f"block{place:02d}", block) for place, block in enumerate(blocks, 1)),
        ("top", conv(1280, 1, 1)),
        ("gap", GlobalAveragePool()),
        ("head", DenseUnit(classes, None, head_init, dropout)),
    )
    return Network(units, input_shape)


_HEAD_INIT = nn.initializers.normal(0.01)


@register
@dataclass(frozen=True, config=STRICT)
class MobileNetV2Config(ModelConfig):
    """MobileNetV2 at width 1, as torchvision's, for images of any size from 8x8."""

    kind: Literal["mobilenet_v2"] = "mobilenet_v2"
    padding: PaddingRule = "symmetric"
    """of strided convolutions: as TensorFlow or as PyTorch"""
    dropout: Fraction = 0.0
    """before the head; the paper has 0.2, but then a head alone would be trained otherwise than by its features"""

    def build(self, input_shape: tuple[int, ...], classes: int) -> Network:
        check_images("mobilenet_v2", input_shape, SMALLEST_SIDE)
        blocks = [
            InvertedResidual(
                features,
                stride=1 if place else stride,
                expansion=expansion,
                padding=self.padding,
            )
            for expansion, features, count, stride in _STAGES
            for place in range(count)
        ]
        return chain(blocks, input_shape, classes, head_init=_HEAD_INIT, dropout=self.dropout)
