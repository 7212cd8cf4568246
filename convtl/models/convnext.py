"""ConvNeXt-Tiny (Liu, Mao, Wu, Feichtenhofer, Darrell & Xie 2022): a ResNet brought up to transformers' habits.

28,589,128 weights and 4.46 G multiply-adds at 224x224 for 1000 classes. Layer normalisation instead of batch
normalisation, so no statistics. Fitting weights: torchvision's `convnext_tiny` (IMAGENET1K_V1, 82.5 % top-1), timm's
`convnext_tiny.fb_in1k` and `fb_in22k_ft_in1k`.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from pydantic.dataclasses import dataclass

from convtl.config.models import ModelConfig, register
from convtl.config.values import STRICT, Fraction
from convtl.models.layers import (
    Conv,
    ConvUnit,
    DepthwiseConv,
    GlobalAveragePool,
    check_images,
    norm_layer,
)
from convtl.models.network import Network

_STAGES = ((3, 96), (3, 192), (9, 384), (3, 768))
"""(blocks, features) of each stage."""
_EPSILON = 1e-6
_LAYER_SCALE = 1e-6
_INIT = nn.initializers.truncated_normal(0.02)
_SMALLEST_SIDE = 32  # four times 2x2 or more become one


def _normalised(x: Array) -> Array:
    return norm_layer("layer", "norm", x.shape[-1], train=False, epsilon=_EPSILON)(x)


class Down(nn.Module):
    """Normalisation, then a 2x2 convolution of stride 2: between stages."""

    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch height2 width2 features"]:
        return Conv(self.features, 2, kernel_init=_INIT, stride=2, name="conv")(_normalised(x))


class ConvNeXtBlock(nn.Module):
    """x + gamma * project(gelu(expand(norm(depthwise 7x7(x))))), four times as wide in the middle.

    With `drop` (Huang et al. 2016, stochastic depth) the second term is left out of that share of the images in
    training, and scaled up in the others.
    """

    drop: float = 0.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch height width channels"]:
        channels = x.shape[-1]
        y = DepthwiseConv(7, padding=3, use_bias=True, kernel_init=_INIT, name="depthwise")(x)
        y = Conv(4 * channels, 1, kernel_init=_INIT, name="expand")(_normalised(y))
        y = Conv(channels, 1, kernel_init=_INIT, name="project")(nn.gelu(y, approximate=False))
        gamma = self.param("gamma", nn.initializers.constant(_LAYER_SCALE), (channels,))
        y = y * gamma.reshape(1, 1, 1, -1)
        if train and self.drop:
            shape = (len(x), 1, 1, 1)
            survives = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.drop, shape)
            y = jnp.where(survives, y / (1 - self.drop), 0)
        return x + y


class ConvNeXtHead(nn.Module):
    """Normalisation and one dense layer on a feature vector."""

    classes: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch features"], train: bool
    ) -> Float[Array, "batch classes"]:
        return nn.Dense(self.classes, kernel_init=_INIT, name="dense")(_normalised(x))


@register
@dataclass(frozen=True, config=STRICT)
class ConvNeXtConfig(ModelConfig):
    """ConvNeXt-Tiny, as torchvision's, for images of any size from 32x32.

    Units: stem, stage1_block1 ..., down2, stage2_block1 ..., down4, stage4_block1 ..., gap, head.
    """

    kind: Literal["convnext_tiny"] = "convnext_tiny"
    stochastic_depth: Fraction = 0.0
    """of the last block, growing from 0 at the first; the paper pretrains with 0.1"""

    def build(self, input_shape: tuple[int, ...], classes: int) -> Network:
        check_images("convnext_tiny", input_shape, _SMALLEST_SIDE)
        stem = ConvUnit(
            _STAGES[0][1],
            4,
            stride=4,
            norm="layer",
            activation=None,
            kernel_init=_INIT,
            epsilon=_EPSILON,
        )
        units: list[tuple[str, nn.Module]] = [("stem", stem)]
        last, done = sum(count for count, _ in _STAGES) - 1, 0
        for stage, (count, features) in enumerate(_STAGES, 1):
            if stage > 1:
                units.append((f"down{stage}", Down(features)))
            for place in range(1, count + 1):
                block = ConvNeXtBlock(self.stochastic_depth * done / last)
                units.append((f"stage{stage}_block{place}", block))
                done += 1
        ends = (("gap", GlobalAveragePool()), ("head", ConvNeXtHead(classes)))
        return Network((*units, *ends), input_shape)
