"""Models, and published pretrained weights for them.

A file of `convtl.models` holds a model's dataclass, which builds its net.
"""

from functools import lru_cache
from importlib import import_module
from typing import Annotated, Any, ClassVar, Literal, Union

from pydantic import BeforeValidator, Field, SerializeAsAny, TypeAdapter
from pydantic.dataclasses import dataclass

from convtl.config.values import STRICT, Count, Node, Positive, Share, Text


@dataclass(frozen=True, config=STRICT)
class ModelConfig(Node):
    """Base of all models; a subclass has the keys of its nodes in `models`."""

    kind: str = ""
    smallest_side: ClassVar[int] = 1  # fewest rows and columns of images that the model takes
    usual_images: ClassVar[tuple[int, int, int]] = (224, 224, 3)  # that it was made for
    usual_classes: ClassVar[int] = 1000  # classes that the model was made for

    def build(self, input_shape: tuple[int, ...], classes: int) -> Any:
        """Build the `Network` for images of shape (height, width, channels)."""
        raise NotImplementedError


@lru_cache
def _adapter(models: tuple[type[ModelConfig], ...]) -> TypeAdapter[ModelConfig]:
    union: Any = Union[models]  # noqa: UP007  # of a tuple
    return TypeAdapter(Annotated[union, Field(discriminator="kind")])


def _of_its_kind(value: Any) -> ModelConfig:
    import_module("convtl.models.registry")  # by name: models/ imports this room
    of_kinds = {model.kind: model for model in ModelConfig.__subclasses__()}  # the last of a kind
    return _adapter(tuple(of_kinds.values())).validate_python(value)


Model = Annotated[SerializeAsAny[ModelConfig], BeforeValidator(_of_its_kind)]
"""A model in a config: plain data are validated by the dataclass of their `kind`."""


GreyLevel = Annotated[float, Field(ge=0, le=255, allow_inf_nan=False)]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class _Weights(Node):
    """Common keys of weights; nets take (image - mean) / std, in grey levels."""

    model: Text  # a name in `models`: the net that the weights are for
    naming: Literal["torchvision", "timm", "efficientnet_lite_pytorch"]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None  # null takes any file
    size: Count = 224  # pixels: side of the images
    crop: Share = 0.875  # side of the centre crop as a share of the picture's short side
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[GreyLevel, GreyLevel, GreyLevel] = (123.675, 116.28, 103.53)  # red, green, blue
    std: tuple[Positive, Positive, Positive] = (58.395, 57.12, 57.375)  # of the same
    classes: Count = 1000  # outputs of the head; a file without a head gives one of zeros
    install: Text | None = None  # how to get the file, for the error message


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PackageWeights(_Weights):
    """A file inside an installed Python package; none of the package's code runs."""

    package: Text  # name of the distribution, as pip spells it
    file: Text  # path from the folder into which packages are installed
    kind: Literal["package"] = "package"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class FileWeights(_Weights):
    """The user's file: safetensors, or a state dict or checkpoint of `torch.save`."""

    path: Text
    kind: Literal["file"] = "file"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class HubWeights(_Weights):
    """A file of a repository on the Hugging Face hub; needs a network the first time."""

    repo: Text
    filename: Text = "model.safetensors"
    revision: Text = "main"
    kind: Literal["hub"] = "hub"


WeightsConfig = Annotated[PackageWeights | FileWeights | HubWeights, Field(discriminator="kind")]
