"""Types and ranges of single values; roles of keys in trial ids."""

import re
from collections.abc import Container, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Strict, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError, to_jsonable_python

T = TypeVar("T")
STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=STRICT)
class Node:
    """Base of config dataclasses; the error for an unknown key lists the known."""

    @model_validator(mode="before")
    @classmethod
    def _has(cls, value: Any) -> Any:
        accepted = [item.name for item in fields(cls)]
        for key in value if isinstance(value, dict) else ():
            if key not in accepted:
                raise PydanticCustomError("unknown", "{key}", {"key": key, "accepted": accepted})
        return value


_NAME = re.compile(r"\w[\w.+=@ -]{0,199}")


def listed(value: Any) -> Any:
    """Return a list as a tuple, any other value as a tuple of one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _name(value: str) -> str:
    """Refuse a name that would lead to another folder as part of a path."""
    if not _NAME.fullmatch(value):
        raise PydanticCustomError("name", "a name: letters, digits and - _ . + = @, no folders")
    return value


Count = Annotated[int, Strict(), Field(ge=1)]
Natural = Annotated[int, Strict(), Field(ge=0)]
Depth = Annotated[Count, Field(le=1_000)]
Positive = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
Factor = Annotated[float, Strict(), Field(ge=1, allow_inf_nan=False)]
Fraction = Annotated[float, Strict(), Field(ge=0, le=1)]
Share = Annotated[float, Strict(), Field(gt=0, le=1)]
OpenShare = Annotated[float, Strict(), Field(gt=0, lt=1)]
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict(), Field(min_length=1)]
Name = Annotated[str, Strict(), AfterValidator(_name)]
ListOf = Annotated[tuple[T, ...], BeforeValidator(listed)]
"""A list; one value stands for a list of one."""
Several = Annotated[tuple[T, ...], BeforeValidator(listed), Field(min_length=1)]
"""As `ListOf`, of at least one."""
Names = Several[Text]
dump = to_jsonable_python  # Return the JSON-like content of a config dataclass.


class Role(Enum):  # what a key has to do with the identity of a trial
    AXIS = "a dimension of the product that a study is; an identity holds the trial's own value"
    REGISTRY = "nodes by name; an identity holds the content of those that the trial uses"
    IDENTITY = "can change the numbers of a trial: part of its identity"
    SEED = "part of every identity, and the same for a whole study"
    BLOCK = "changes no number of any trial, but may differ between the blocks of a study"
    RUNTIME = "changes no number of any trial, and is the same for a whole study"


Axis = Annotated[T, Role.AXIS]
Registry = Annotated[T, Role.REGISTRY]
Identity = Annotated[T, Role.IDENTITY]
Runtime = Annotated[T, Role.RUNTIME]


class Neutral:
    """Mark of a field that trial ids omit while it has its default."""


def content(value: Any, without: Container[str] = ()) -> Any:
    """Return JSON-like content for trial ids, without `Neutral` fields at default."""
    if isinstance(value, Mapping):
        return {key: content(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [content(inner) for inner in value]
    if not is_dataclass(value):
        return value
    values = {item: getattr(value, item.name) for item in fields(value) if item.name not in without}
    return {
        item.name: content(inner)
        for item, inner in values.items()
        if inner != item.default or not any(isinstance(m, Neutral) for m in get_args(item.type))
    }
