"""Small nets of choosable activation and initialiser.

`lenet5` (LeCun, Bottou, Bengio & Haffner 1998), in the form that lectures draw today: all 16 maps of the second
convolution see all 6 maps below, pooling has no weights, and the input is 28x28 with 2 pixels of padding:
156 + 2,416 + 48,120 + 10,164 + 850 = 61,706 weights for 10 classes.

`plain`, a chain of dense units of equal width, for gradients by depth: units differ in their distance from the output
alone, not in pooling, shared weights or sizes.
"""

from typing import ClassVar, Literal

import flax.linen as nn
from pydantic.dataclasses import dataclass

from convtl.config.models import ModelConfig
from convtl.config.values import STRICT, Count, Depth
from convtl.models.layers import Activation, ConvUnit, DenseUnit, Initializer, PoolUnit
from convtl.models.network import Network

ActivationName = Literal["sigmoid", "tanh", "relu"]
InitialiserName = Literal["normal_0.01", "lecun_normal", "glorot_uniform", "he_normal"]
ACTIVATIONS: dict[str, Activation] = {"tanh": nn.tanh, "relu": nn.relu, "sigmoid": nn.sigmoid}
INITIALISERS: dict[str, Initializer] = {
    "lecun_normal": nn.initializers.lecun_normal(),
    "glorot_uniform": nn.initializers.glorot_uniform(),
    "he_normal": nn.initializers.he_normal(),
    "normal_0.01": nn.initializers.normal(0.01),
}


@dataclass(frozen=True, config=STRICT)
class LeNet5Config(ModelConfig):
    """LeNet-5 for images from 12x12."""

    smallest_side: ClassVar = 12  # so that both 5x5 convolutions leave something to pool
    usual_images: ClassVar = (28, 28, 1)
    usual_classes: ClassVar = 10
    kind: Literal["lenet5"] = "lenet5"
    activation: ActivationName = "tanh"
    pooling: Literal["average", "max"] = "average"
    initialiser: InitialiserName = "lecun_normal"

    def build(self, input_shape: tuple[int, ...], classes: int) -> Network:
        activation, init = ACTIVATIONS[self.activation], INITIALISERS[self.initialiser]

        def conv(features: int, padding: int) -> ConvUnit:
            return ConvUnit(features, 5, padding=padding, activation=activation, kernel_init=init)

        units: tuple[tuple[str, nn.Module], ...] = (
            ("conv1", conv(6, 2)),
            ("pool1", PoolUnit(self.pooling)),
            ("conv2", conv(16, 0)),
            ("pool2", PoolUnit(self.pooling)),
            ("fc3", DenseUnit(120, activation, init)),
            ("fc4", DenseUnit(84, activation, init)),
            ("fc5", DenseUnit(classes, None, init)),
        )
        return Network(units, input_shape)


@dataclass(frozen=True, config=STRICT)
class PlainConfig(ModelConfig):
    """Units `fc1` ... `fcN`, each `width` wide, then the head `out`; without pooling."""

    usual_images: ClassVar = (28, 28, 1)
    usual_classes: ClassVar = 10
    kind: Literal["plain"] = "plain"
    hidden: Depth = 10  # units of the chain, beside the head
    width: Count = 64
    activation: ActivationName = "tanh"
    initialiser: InitialiserName = "lecun_normal"

    def build(self, input_shape: tuple[int, ...], classes: int) -> Network:
        init = INITIALISERS[self.initialiser]
        hidden = DenseUnit(self.width, ACTIVATIONS[self.activation], init)
        chain = tuple((f"fc{place}", hidden) for place in range(1, self.hidden + 1))
        return Network((*chain, ("out", DenseUnit(classes, None, init))), input_shape)
