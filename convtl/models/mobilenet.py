"""MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov & Chen 2018), and the inverted residual that it is made of.

3,504,872 weights and 0.301 G multiply-adds at 224x224 for 1000 classes. Fitting weights: torchvision's
`mobilenet_v2` (IMAGENET1K_V1, 71.9 % top-1), also timm's `mobilenetv2_100`.
"""

from functools import partial
from typing import Any, ClassVar, Literal

import flax.linen as nn
from jaxtyping import Array
from pydantic.dataclasses import dataclass

from convtl.config.models import ModelConfig, register
from convtl.config.values import STRICT
from convtl.models.layers import (
    HE_FAN_IN,
    Conv,
    ConvUnit,
    DenseUnit,
    GlobalAveragePool,
    Initializer,
    Maps,
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
    def __call__(self, x: Maps, train: bool) -> Maps:
        def conv_norm(y: Array, name: str, features: int, size: int = 1, **settings: Any) -> Array:
            y = Conv(features, size, use_bias=False, name=name, **settings)(y)
            norm = norm_layer("batch", f"{name}_norm", features, train=train, epsilon=self.epsilon)
            return norm(y)

        y, widened = x, self.expansion * x.shape[-1]
        if self.expansion != 1:
            y = nn.relu6(conv_norm(y, "expand", widened))
        filters = {"padding": self.padding, "kernel_init": HE_FAN_IN, "stride": self.stride}
        y = conv_norm(y, "depthwise", widened, self.kernel_size, depthwise=True, **filters)
        y = conv_norm(nn.relu6(y), "project", self.features)
        return x + y if self.stride == 1 and self.features == x.shape[-1] else y


def chain(
    blocks: list[InvertedResidual],
    input_shape: tuple[int, ...],
    classes: int,
    head_init: Initializer,
) -> Network:
    """Network of inverted residuals: stem, block01 ..., top, gap, head."""
    conv = partial(
        ConvUnit,
        padding=blocks[0].padding,
        norm="batch",
        activation=nn.relu6,
        use_bias=False,
        epsilon=blocks[0].epsilon,
    )
    units: tuple[tuple[str, nn.Module], ...] = (
        ("stem", conv(32, 3, stride=2)),
        *((f"block{place:02d}", block) for place, block in enumerate(blocks, 1)),
        ("top", conv(1280, 1)),
        ("gap", GlobalAveragePool()),
        ("head", DenseUnit(classes, None, head_init)),
    )
    return Network(units, input_shape)


_HEAD_INIT = nn.initializers.normal(0.01)


@register
@dataclass(frozen=True, config=STRICT)
class MobileNetV2Config(ModelConfig):
    """MobileNetV2 at width 1, as torchvision's, for images of any size from 8x8."""

    smallest_side: ClassVar = 8
    kind: Literal["mobilenet_v2"] = "mobilenet_v2"

    def build(self, input_shape: tuple[int, ...], classes: int) -> Network:
        blocks = [
            InvertedResidual(features, stride=1 if place else stride, expansion=expansion)
            for expansion, features, count, stride in _STAGES
            for place in range(count)
        ]
        return chain(blocks, input_shape, classes, _HEAD_INIT)
