"""Units that several networks share: convolution with activation, pooling, a hidden dense layer."""

from typing import Literal

import flax.linen as nn
from jaxtyping import Array, Float

from convtl.errors import UserError
from convtl.models.layers import (
    Conv,
    Norm,
    Padding,
    adaptive_average_pool2d,
    max_pool2d,
    norm_layer,
)

HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He et al. (2015), by the backward pass: of convolutions, as torchvision draws them."""
HE_FAN_IN = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
"""He et al. (2015), by the forward pass: of hidden dense layers."""


class ConvUnit(nn.Module):
    """Convolution `conv`, normalisation `norm` if any (the convolution then needs no bias), then ReLU."""

    features: int
    kernel_size: int
    stride: int = 1
    padding: Padding = 0
    norm: Norm | None = None
    use_bias: bool | None = None
    """None: where there is no normalisation"""

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], train: bool
    ) -> Float[Array, "batch h2 w2 features"]:
        x = Conv(
            self.features,
            self.kernel_size,
            self.padding,
            HE_FAN_OUT,
            stride=self.stride,
            use_bias=self.norm is None if self.use_bias is None else self.use_bias,
            name="conv",
        )(x)
        if self.norm is not None:
            x = norm_layer(self.norm, "norm", self.features, train=train)(x)
        return nn.relu(x)


class MaxPoolUnit(nn.Module):
    """Max pooling; then, with `adapt_to` rows and columns, adaptive average pooling. No weights."""

    size: int
    stride: int = 2
    padding: int = 0
    adapt_to: int | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], train: bool
    ) -> Float[Array, "batch h2 w2 c"]:
        x = max_pool2d(x, self.size, self.stride, self.padding)
        return (
            x if self.adapt_to is None else adaptive_average_pool2d(x, self.adapt_to, self.adapt_to)
        )


class DenseUnit(nn.Module):
    """Flattens (height, width, channels: in that order), multiplies, ReLU; dropout in training only."""

    features: int
    dropout: float
    dropped: Literal["input", "output"]
    """what dropout acts on"""

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."], train: bool) -> Float[Array, "batch features"]:
        drop = nn.Dropout(self.dropout, deterministic=not train)
        x = x.reshape(x.shape[0], -1)
        x = drop(x) if self.dropped == "input" else x
        x = nn.relu(nn.Dense(self.features, kernel_init=HE_FAN_IN, name="dense")(x))
        return drop(x) if self.dropped == "output" else x


def check_images(kind: str, input_shape: tuple[int, ...], smallest: int) -> None:
    """Refuses images that are no height x width x channels, or of which too little is left to compute with.

    Raises:
      UserError: in a line.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < smallest:
        raise UserError(
            f"model {kind}: got images of shape {tuple(input_shape)}; "
            f"accepted: height x width x channels of at least {smallest}x{smallest}"
        )
