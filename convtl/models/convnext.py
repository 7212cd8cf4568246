"""ConvNeXt-Tiny (Liu, Mao, Wu, Feichtenhofer, Darrell & Xie 2022): a ResNet brought up to transformers' habits.

28,589,128 weights and 4.46 G multiply-adds at 224x224 for 1000 classes. Layer normalisation instead of batch
normalisation, so no statistics. Fitting weights: torchvision's `convnext_tiny` (IMAGENET1K_V1, 82.5 % top-1), timm's
`convnext_tiny.fb_in1k` and `fb_in22k_ft_in1k`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from convtl.config.models import ConvNeXtConfig
from convtl.models.depthwise import DepthwiseConv, per_pixel
from convtl.models.layers import GlobalAveragePool
from convtl.models.network import Network
from convtl.models.units import check_images

_STAGES = ((3, 96), (3, 192), (9, 384), (3, 768))
"""(blocks, features) of each stage."""
_EPSILON = 1e-6
_LAYER_SCALE = 1e-6
_INIT = nn.initializers.truncated_normal(0.02)
_SMALLEST_SIDE = 32  # four times 2x2 or more become one


def _norm(name: str) -> nn.LayerNorm:
    """Over the channels of each pixel: `scale`, `bias`."""
    return nn.LayerNorm(epsilon=_EPSILON, name=name)


class Patches(nn.Module):
    """Convolution without overlap, as a matrix product: `kernel` (size, size, in, out), `bias` (out,).

    Rows and columns that fill no patch are left out.
    """

    features: int
    size: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch h2 w2 features"]:
        batch, height, width, channels = x.shape
        size, rows, columns = self.size, height // self.size, width // self.size
        kernel = self.param("kernel", _INIT, (size, size, channels, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = x[:, : rows * size, : columns * size].reshape(
            batch, rows, size, columns, size, channels
        )
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows, columns, size * size * channels)
        return per_pixel(x, kernel.reshape(-1, self.features)) + bias


class Dense(nn.Module):
    """Dense layer on every pixel: `kernel` (in, out), `bias` (out,)."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch h w features"]:
        kernel = self.param("kernel", _INIT, (x.shape[-1], self.features))
        return per_pixel(x, kernel) + self.param("bias", nn.initializers.zeros, (self.features,))


class Stem(nn.Module):
    """4x4 patches, then normalisation."""

    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], train: bool
    ) -> Float[Array, "batch h2 w2 features"]:
        return _norm("norm")(Patches(self.features, 4, name="conv")(x))


class Down(nn.Module):
    """Normalisation, then 2x2 patches: between stages."""

    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], train: bool
    ) -> Float[Array, "batch h2 w2 features"]:
        return Patches(self.features, 2, name="conv")(_norm("norm")(x))


class Block(nn.Module):
    """x + gamma * project(gelu(expand(norm(depthwise 7x7(x))))), four times as wide in the middle.

    With `drop` (Huang et al. 2016, stochastic depth) the second term is left out of that share of the images in
    training, and as much greater in the others.
    """

    drop: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w c"], train: bool) -> Float[Array, "batch h w c"]:
        channels = x.shape[-1]
        y = DepthwiseConv(7, use_bias=True, kernel_init=_INIT, name="depthwise")(x)
        y = Dense(4 * channels, name="expand")(_norm("norm")(y))
        y = Dense(channels, name="project")(nn.gelu(y, approximate=False))
        y = y * self.param("gamma", nn.initializers.constant(_LAYER_SCALE), (channels,))
        if train and self.drop:
            kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.drop, (len(x), 1, 1, 1))
            y = jnp.where(kept, y / (1 - self.drop), 0)
        return x + y


class ConvNeXtHead(nn.Module):
    """Normalisation and one dense layer on a feature vector."""

    classes: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch features"], train: bool
    ) -> Float[Array, "batch classes"]:
        return nn.Dense(self.classes, kernel_init=_INIT, name="dense")(_norm("norm")(x))


def convnext_tiny(config: ConvNeXtConfig, input_shape: tuple[int, ...], classes: int) -> Network:
    """Builds ConvNeXt-Tiny for images of any size from 32x32.

    Units: stem, stage1_block1 ..., down2, stage2_block1 ..., down4, stage4_block1 ..., gap, head.

    Raises:
      UserError: the images are too small.
    """
    check_images("convnext_tiny", input_shape, _SMALLEST_SIDE)
    units: list[tuple[str, nn.Module]] = [("stem", Stem(_STAGES[0][1]))]
    last = sum(count for count, _ in _STAGES) - 1
    done = 0
    for stage, (count, features) in enumerate(_STAGES, 1):
        if stage > 1:
            units.append((f"down{stage}", Down(features)))
        for place in range(1, count + 1):
            block = Block(config.stochastic_depth * done / last)
            units.append((f"stage{stage}_block{place}", block))
            done += 1
    return Network(
        (*units, ("gap", GlobalAveragePool()), ("head", ConvNeXtHead(classes))), tuple(input_shape)
    )
