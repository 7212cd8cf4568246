"""AlexNet and VGG as torchvision builds them; its weights fit.

`alexnet`, the one-tower variant (Krizhevsky 2014, "One weird trick for parallelizing convolutional networks"), has
61,100,840 weights for 1000 classes and images of 224x224x3 (`alexnet-owt-7be5be79`).

`vgg` (Simonyan & Zisserman 2015), configurations A (`vgg11`) and D (`vgg16`): 132,863,336 and 138,357,544 weights for
1000 classes; with batch normalisation after each convolution (which keeps its bias) 132,868,840 and 138,365,992.
"""

from typing import ClassVar, Literal

import flax.linen as nn
from pydantic.dataclasses import dataclass

from convtl.config.models import ModelConfig
from convtl.config.values import STRICT, Count, Fraction
from convtl.models.layers import HE_FAN_IN, ConvUnit, DenseUnit, PoolUnit
from convtl.models.network import Network

_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3)}
"""Layers with weights -> convolutions of each stage."""
_WIDTHS = (1, 2, 4, 8, 8)  # in units of the first stage's


@dataclass(frozen=True, config=STRICT)
class AlexNetConfig(ModelConfig):
    """AlexNet for images from 63x63; `pool5` averages to 6x6."""

    smallest_side: ClassVar = 63  # so that three poolings leave a pixel
    kind: Literal["alexnet"] = "alexnet"
    width: Count = 64  # maps of the first convolution; all other widths are in proportion
    dropout: Fraction = 0.5

    def build(self, input_shape: tuple[int, ...], classes: int) -> Network:
        width = self.width
        hidden = DenseUnit(64 * width, nn.relu, HE_FAN_IN, self.dropout)
        units: tuple[tuple[str, nn.Module], ...] = (
            ("conv1", ConvUnit(width, 11, stride=4, padding=2)),
            ("pool1", PoolUnit("max", 3)),
            ("conv2", ConvUnit(3 * width, 5, padding=2)),
            ("pool2", PoolUnit("max", 3)),
            ("conv3", ConvUnit(6 * width, 3, padding=1)),
            ("conv4", ConvUnit(4 * width, 3, padding=1)),
            ("conv5", ConvUnit(4 * width, 3, padding=1)),
            ("pool5", PoolUnit("max", 3, adapt_to=6)),
            ("fc6", hidden),
            ("fc7", hidden),
            ("fc8", DenseUnit(classes)),
        )
        return Network(units, input_shape)


@dataclass(frozen=True, config=STRICT)
class VggConfig(ModelConfig):
    """VGG for images from 32x32; `pool5` averages to 7x7."""

    smallest_side: ClassVar = 32  # so that five poolings leave a pixel
    kind: Literal["vgg"] = "vgg"
    layers: Literal[11, 16] = 16
    norm: Literal["none", "batch"] = "none"
    width: Count = 64  # maps of the first stage; all other widths are in proportion
    dropout: Fraction = 0.5

    def build(self, input_shape: tuple[int, ...], classes: int) -> Network:
        norm = None if self.norm == "none" else self.norm
        units: list[tuple[str, nn.Module]] = []
        stages = zip(_CONVOLUTIONS[self.layers], _WIDTHS, strict=True)
        for stage, (count, width) in enumerate(stages, 1):
            unit = ConvUnit(width * self.width, 3, padding=1, norm=norm)
            units += [(f"conv{stage}_{place}", unit) for place in range(1, count + 1)]
            adapt_to = 7 if stage == len(_WIDTHS) else None
            units.append((f"pool{stage}", PoolUnit("max", adapt_to=adapt_to)))
        hidden = DenseUnit(64 * self.width, nn.relu, HE_FAN_IN, self.dropout, "output")
        units += [("fc6", hidden), ("fc7", hidden), ("fc8", DenseUnit(classes))]
        return Network(tuple(units), input_shape)
