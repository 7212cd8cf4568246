"""Networks by name."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from convtl.config.values import STRICT, Count, Fraction


@dataclass(frozen=True, config=STRICT)
class LeNet5Config:
    """LeNet-5 as lectures draw it today (LeCun et al. 1998; full connectivity, pooling without weights)."""

    kind: Literal["lenet5"] = "lenet5"
    activation: Literal["tanh", "relu", "sigmoid"] = "tanh"
    pooling: Literal["average", "max"] = "average"
    initialiser: Literal["lecun_normal", "glorot_uniform", "he_normal", "normal_0.01"] = (
        "lecun_normal"
    )


@dataclass(frozen=True, config=STRICT)
class PlainConfig:
    """A plain chain of dense units of equal width, without pooling: for gradients by distance from the output."""

    kind: Literal["plain"] = "plain"
    hidden: Count = 10
    """hidden units of the chain, beside the head"""
    width: Count = 64
    activation: Literal["tanh", "relu", "sigmoid"] = "tanh"
    initialiser: Literal["lecun_normal", "glorot_uniform", "he_normal", "normal_0.01"] = (
        "lecun_normal"
    )


@dataclass(frozen=True, config=STRICT)
class AlexNetConfig:
    """AlexNet with one tower (Krizhevsky 2014), as torchvision's."""

    kind: Literal["alexnet"] = "alexnet"
    width: Count = 64
    """maps of the first convolution; all other widths are in proportion"""
    dropout: Fraction = 0.5


@dataclass(frozen=True, config=STRICT)
class VggConfig:
    """VGG (Simonyan & Zisserman 2015), as torchvision's."""

    kind: Literal["vgg"] = "vgg"
    layers: Literal[11, 16] = 16
    norm: Literal["none", "batch", "group"] = "none"
    width: Count = 64
    """maps of the first stage; all other widths are in proportion"""
    dropout: Fraction = 0.5


@dataclass(frozen=True, config=STRICT)
class ResNetConfig:
    """ResNet for images of about 224x224 (He et al. 2016), as torchvision's."""

    kind: Literal["resnet"] = "resnet"
    layers: Literal[18, 34, 50] = 50
    norm: Literal["batch", "group"] = "batch"
    width: Count = 64
    """maps of the first stage; all other widths are in proportion"""


@dataclass(frozen=True, config=STRICT)
class CifarResNetConfig:
    """ResNet for images of about 32x32 (He et al. 2016, section 4.2), shortcuts without weights."""

    kind: Literal["cifar_resnet"] = "cifar_resnet"
    layers: Literal[20, 32, 44, 56, 110] = 20
    norm: Literal["batch", "group"] = "batch"
    width: Count = 16
    """maps of the first stage; all other widths are in proportion"""


@dataclass(frozen=True, config=STRICT)
class MobileNetV2Config:
    """MobileNetV2 (Sandler et al. 2018), as torchvision's."""

    kind: Literal["mobilenet_v2"] = "mobilenet_v2"
    padding: Literal["same", "symmetric"] = "symmetric"
    """of strided convolutions: as TensorFlow or as PyTorch"""
    dropout: Fraction = 0.0
    """before the head; the paper has 0.2, but then a head alone would be trained otherwise than by its features"""


@dataclass(frozen=True, config=STRICT)
class EfficientNetLiteConfig:
    """EfficientNet-Lite0 to 4 (Tan & Le 2019, without what phones are slow at), as TensorFlow's."""

    kind: Literal["efficientnet_lite"] = "efficientnet_lite"
    variant: Literal[0, 1, 2, 3, 4] = 0
    padding: Literal["same", "symmetric"] = "same"
    """of strided convolutions: as TensorFlow or as PyTorch"""
    dropout: Fraction = 0.0
    """before the head; published 0.2 (variants 0, 1) and 0.3. As with MobileNetV2, so that depths compare"""


@dataclass(frozen=True, config=STRICT)
class ConvNeXtConfig:
    """ConvNeXt-Tiny (Liu et al. 2022), as torchvision's."""

    kind: Literal["convnext_tiny"] = "convnext_tiny"
    stochastic_depth: Fraction = 0.0
    """of the last block, growing from 0 at the first; the paper pretrains with 0.1"""


ModelConfig = Annotated[
    LeNet5Config
    | PlainConfig
    | AlexNetConfig
    | VggConfig
    | ResNetConfig
    | CifarResNetConfig
    | MobileNetV2Config
    | EfficientNetLiteConfig
    | ConvNeXtConfig,
    Field(discriminator="kind"),
]
