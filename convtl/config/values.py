"""Types and ranges of single values."""

import re
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError

T = TypeVar("T")
STRICT = ConfigDict(extra="forbid")
_NAME = re.compile(r"\w[\w.+=@ -]{0,199}")


def listed(value: Any) -> Any:
    """One value stands for a list of one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _name(value: str) -> str:
    """Refuse what would be another folder where a name becomes a part of a path."""
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
