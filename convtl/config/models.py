"""Models: a file of `convtl.models` holds a model's dataclass, which builds its net, and registers it here."""

from functools import lru_cache
from importlib import import_module
from typing import Annotated, Any, ClassVar, TypeVar, Union

from pydantic import BeforeValidator, Field, SerializeAsAny, TypeAdapter
from pydantic.dataclasses import dataclass

from convtl.config.values import STRICT


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """Base of all models. A subclass has the keys of its nodes in `models`, `kind` with a literal as default."""

    kind: str = ""
    smallest_side: ClassVar[int] = 1  # fewest rows and columns of images that the model takes
    usual_images: ClassVar[tuple[int, int, int]] = (224, 224, 3)
    """height, width and channels of the images that the model was made for"""
    usual_classes: ClassVar[int] = 1000  # classes that the model was made for

    def build(self, input_shape: tuple[int, ...], classes: int) -> Any:
        """Build the `convtl.models.network.Network` for images of a shape (height, width, channels)."""
        raise NotImplementedError


_Class = TypeVar("_Class", bound=type)
_KINDS: dict[str, type[ModelConfig]] = {}


def register(model: _Class) -> _Class:
    """Class decorator: make a model known by the default of its `kind`."""
    kind: str = model.kind  # type: ignore[attr-defined]
    if _KINDS.setdefault(kind, model) is not model:
        raise ValueError(f"two models of kind '{kind}'")
    return model


def model_kinds() -> dict[str, type[ModelConfig]]:
    """Kind -> dataclass of all models."""
    import_module("convtl.models.registry")  # by name, since that room is above this one
    return dict(_KINDS)


@lru_cache
def _adapter(models: tuple[type[ModelConfig], ...]) -> TypeAdapter[ModelConfig]:
    union: Any = Union[models]  # noqa: UP007  # of a tuple
    return TypeAdapter(Annotated[union, Field(discriminator="kind")])


def _of_its_kind(value: Any) -> ModelConfig:
    return _adapter(tuple(model_kinds().values())).validate_python(value)


Model = Annotated[SerializeAsAny[ModelConfig], BeforeValidator(_of_its_kind)]
"""A model in a config: plain data are validated by the dataclass of their `kind`."""
