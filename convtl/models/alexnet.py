"""AlexNet, the one-tower variant (Krizhevsky 2014, "One weird trick for parallelizing convolutional networks").

As torchvision builds it, whose weights fit (`alexnet-owt-7be5be79`): no local response normalisation, and
64-192-384-256-256 maps. The net of Krizhevsky, Sutskever & Hinton (2012) has two towers of 96-256-384-384-256
maps in all. 61,100,840 weights for 1000 classes and images of 224x224x3.
"""

from typing import ClassVar, Literal

import flax.linen as nn
from pydantic.dataclasses import dataclass

from convtl.config.models import ModelConfig, register
from convtl.config.values import STRICT, Count, Fraction
from convtl.models.layers import HE_FAN_IN, ConvUnit, DenseUnit, MaxPoolUnit
from convtl.models.network import Network


@register
@dataclass(frozen=True, config=STRICT)
class AlexNetConfig(ModelConfig):
    """AlexNet for images of any size from 63x63: other sizes than 224x224 are averaged to 6x6 at `pool5`."""

    smallest_side: ClassVar = 63  # so that three poolings leave a pixel
    kind: Literal["alexnet"] = "alexnet"
    width: Count = 64
    """maps of the first convolution; all other widths are in proportion"""
    dropout: Fraction = 0.5

    def build(self, input_shape: tuple[int, ...], classes: int) -> Network:
        width = self.width
        hidden = DenseUnit(64 * width, nn.relu, HE_FAN_IN, self.dropout)
        units: tuple[tuple[str, nn.Module], ...] = (
            ("conv1", ConvUnit(width, 11, stride=4, padding=2)),
            ("pool1", MaxPoolUnit(3)),
            ("conv2", ConvUnit(3 * width, 5, padding=2)),
            ("pool2", MaxPoolUnit(3)),
            ("conv3", ConvUnit(6 * width, 3, padding=1)),
            ("conv4", ConvUnit(4 * width, 3, padding=1)),
            ("conv5", ConvUnit(4 * width, 3, padding=1)),
            ("pool5", MaxPoolUnit(3, adapt_to=6)),
            ("fc6", hidden),
            ("fc7", hidden),
            ("fc8", DenseUnit(classes)),
        )
        return Network(units, input_shape)
