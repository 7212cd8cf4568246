"""MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov & Chen 2018), and the inverted residual that it is made of.

3,504,872 weights and 0.301 G multiply-adds at 224x224 for 1000 classes. Fitting weights: torchvision's
`mobilenet_v2` (IMAGENET1K_V1, 71.9 % top-1), also timm's `mobilenetv2_100`.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from convtl.config.models import MobileNetV2Config
from convtl.models.depthwise import FAN_OUT, DepthwiseConv, PaddingRule, PointwiseConv, sides
from convtl.models.layers import Conv, GlobalAveragePool, Head, batch_norm
from convtl.models.network import Network
from convtl.models.units import check_images

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


class Stem(nn.Module):
    """3x3 convolution with stride 2, normalisation, ReLU6."""

    features: int
    padding: PaddingRule
    epsilon: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], train: bool
    ) -> Float[Array, "batch h2 w2 features"]:
        padding = sides(self.padding, x.shape[1], x.shape[2], 3, 2)
        x = Conv(self.features, 3, padding, FAN_OUT, stride=2, use_bias=False, name="conv")(x)
        return nn.relu6(batch_norm("norm", train=train, epsilon=self.epsilon)(x))


class InvertedResidual(nn.Module):
    """Widens by a 1x1 convolution, filters each map, narrows by a 1x1 convolution; ReLU6 but for the end.

    With expansion 1 there is nothing to widen. The input is added where stride and channels leave its shape.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    expansion: int = 6
    padding: PaddingRule = "symmetric"
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], train: bool
    ) -> Float[Array, "batch h2 w2 features"]:
        def norm(name: str) -> nn.BatchNorm:
            return batch_norm(name, train=train, epsilon=self.epsilon)

        y = x
        if self.expansion != 1:
            y = PointwiseConv(self.expansion * x.shape[-1], name="expand")(y)
            y = nn.relu6(norm("expand_norm")(y))
        depthwise = DepthwiseConv(self.kernel_size, self.stride, self.padding, name="depthwise")
        y = nn.relu6(norm("depthwise_norm")(depthwise(y)))
        y = norm("project_norm")(PointwiseConv(self.features, name="project")(y))
        return x + y if self.stride == 1 and self.features == x.shape[-1] else y


class Top(nn.Module):
    """The last 1x1 convolution, normalisation, ReLU6."""

    features: int
    epsilon: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], train: bool
    ) -> Float[Array, "batch h w features"]:
        x = PointwiseConv(self.features, name="conv")(x)
        return nn.relu6(batch_norm("norm", train=train, epsilon=self.epsilon)(x))


def mobilenet_v2(config: MobileNetV2Config, input_shape: tuple[int, ...], classes: int) -> Network:
    """Builds MobileNetV2 at width 1 for images of any size from 8x8: stem, block01 ... block17, top, gap, head.

    Raises:
      UserError: the images are too small.
    """
    check_images("mobilenet_v2", input_shape, SMALLEST_SIDE)
    units: list[tuple[str, nn.Module]] = [("stem", Stem(32, config.padding, 1e-5))]
    for expansion, features, count, stride in _STAGES:
        for place in range(count):
            block = InvertedResidual(
                features,
                stride=1 if place else stride,
                expansion=expansion,
                padding=config.padding,
            )
            units.append((f"block{len(units):02d}", block))
    head = Head(classes, nn.initializers.normal(0.01), config.dropout)
    ends = (("top", Top(1280, 1e-5)), ("gap", GlobalAveragePool()), ("head", head))
    return Network((*units, *ends), tuple(input_shape))
