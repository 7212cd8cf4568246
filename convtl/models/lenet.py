"""LeNet-5 (LeCun, Bottou, Bengio & Haffner 1998), in the form that lectures draw today.

All 16 maps of the second convolution see all 6 maps below, pooling has no weights, and the input is
28x28 with 2 pixels of padding: 156 + 2,416 + 48,120 + 10,164 + 850 = 61,706 weights for 10 classes.
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
from jaxtyping import Array, Float

from convtl.config.models import LeNet5Config
from convtl.errors import UserError
from convtl.models.layers import Conv, pool2d
from convtl.models.network import Network

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": nn.tanh,
    "relu": nn.relu,
    "sigmoid": nn.sigmoid,
}
INITIALISERS: dict[str, Callable[..., Any]] = {
    "lecun_normal": nn.initializers.lecun_normal(),
    "glorot_uniform": nn.initializers.glorot_uniform(),
    "he_normal": nn.initializers.he_normal(),
    "normal_0.01": nn.initializers.normal(0.01),
}
_SMALLEST_SIDE = 12  # the smallest image of which both 5x5 convolutions leave something to pool


class ConvUnit(nn.Module):
    """Convolution, then the activation."""

    features: int
    padding: int
    activation: str
    initialiser: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], train: bool
    ) -> Float[Array, "batch h2 w2 features"]:
        init = INITIALISERS[self.initialiser]
        x = Conv(self.features, 5, self.padding, init, name="conv")(x)
        return ACTIVATIONS[self.activation](x)


class PoolUnit(nn.Module):
    """2x2 pooling; no weights."""

    kind: Literal["average", "max"]

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], train: bool
    ) -> Float[Array, "batch h2 w2 c"]:
        return pool2d(x, self.kind)


class DenseUnit(nn.Module):
    """Flattens, multiplies, and activates unless it is the head."""

    features: int
    activation: str | None
    initialiser: str

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."], train: bool) -> Float[Array, "batch features"]:
        x = x.reshape(x.shape[0], -1)
        x = nn.Dense(self.features, kernel_init=INITIALISERS[self.initialiser], name="dense")(x)
        return x if self.activation is None else ACTIVATIONS[self.activation](x)


def lenet5(config: LeNet5Config, input_shape: tuple[int, ...], classes: int) -> Network:
    """Builds LeNet-5 for images of any size from 12x12 and any number of channels and classes.

    Raises:
      UserError: the images are too small.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < _SMALLEST_SIDE:
        raise UserError(
            f"model lenet5: got images of shape {tuple(input_shape)}; "
            f"accepted: height x width x channels of at least {_SMALLEST_SIDE}x{_SMALLEST_SIDE}"
        )
    activation, initialiser = config.activation, config.initialiser
    units: tuple[tuple[str, nn.Module], ...] = (
        ("conv1", ConvUnit(6, 2, activation, initialiser)),
        ("pool1", PoolUnit(config.pooling)),
        ("conv2", ConvUnit(16, 0, activation, initialiser)),
        ("pool2", PoolUnit(config.pooling)),
        ("fc3", DenseUnit(120, activation, initialiser)),
        ("fc4", DenseUnit(84, activation, initialiser)),
        ("fc5", DenseUnit(classes, None, initialiser)),
    )
    return Network(units, tuple(input_shape))
