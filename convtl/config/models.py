"""Networks by name."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from convtl.config.values import STRICT, Count


@dataclass(frozen=True, config=STRICT)
class LeNet5Config:
    """LeNet-5 as lectures draw it today (LeCun et al. 1998; full connectivity, pooling without weights)."""

    kind: Literal["lenet5"] = "lenet5"
    activation: Literal["tanh", "relu", "sigmoid"] = "tanh"
    pooling: Literal["average", "max"] = "average"
    initialiser: Literal["lecun_normal", "glorot_uniform", "he_normal", "normal_0.01"] = "lecun_normal"
    lowering: Literal["auto", "lax", "banded"] = "auto"


@dataclass(frozen=True, config=STRICT)
class PlainConfig:
    """A plain chain of dense units of equal width, without pooling: for gradients by distance from the output."""

    kind: Literal["plain"] = "plain"
    hidden: Count = 10
    """hidden units of the chain, beside the head"""
    width: Count = 64
    activation: Literal["tanh", "relu", "sigmoid"] = "tanh"
    initialiser: Literal["lecun_normal", "glorot_uniform", "he_normal", "normal_0.01"] = "lecun_normal"


ModelConfig = Annotated[LeNet5Config | PlainConfig, Field(discriminator="kind")]
