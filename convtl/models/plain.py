"""A chain of dense units of equal width: only the distance from the output differs between units.

For gradients by depth. A convolutional net would confound the size of a gradient with pooling, with the
number of places that share a weight, and with units of different sizes.
"""

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from convtl.config.models import ModelConfig, register
from convtl.config.values import STRICT, Count, Depth
from convtl.models.layers import DenseUnit
from convtl.models.lenet import ACTIVATIONS, INITIALISERS, ActivationName, InitialiserName
from convtl.models.network import Network


@register
@dataclass(frozen=True, config=STRICT)
class PlainConfig(ModelConfig):
    """Units `fc1` ... `fcN`, each `width` wide, then the head `out`; without pooling."""

    usual_images: ClassVar = (28, 28, 1)
    usual_classes: ClassVar = 10
    kind: Literal["plain"] = "plain"
    hidden: Depth = 10
    """hidden units of the chain, beside the head"""
    width: Count = 64
    activation: ActivationName = "tanh"
    initialiser: InitialiserName = "lecun_normal"

    def build(self, input_shape: tuple[int, ...], classes: int) -> Network:
        init = INITIALISERS[self.initialiser]
        hidden = DenseUnit(self.width, ACTIVATIONS[self.activation], init)
        chain = tuple((f"fc{place}", hidden) for place in range(1, self.hidden + 1))
        return Network((*chain, ("out", DenseUnit(classes, None, init))), input_shape)
