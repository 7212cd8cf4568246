"""Types and ranges of single values."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, Strict

STRICT = ConfigDict(extra="forbid")


def listed(value: Any) -> Any:
    """One value stands for a list of one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Count = Annotated[int, Strict(), Field(ge=1)]
Natural = Annotated[int, Strict(), Field(ge=0)]
Positive = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Strict(), Field(ge=0, le=1)]
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict(), Field(min_length=1)]
Names = Annotated[tuple[Text, ...], BeforeValidator(listed), Field(min_length=1)]
Counts = Annotated[tuple[Count, ...], BeforeValidator(listed), Field(min_length=1)]
Labels = Annotated[tuple[Count | Literal["all"], ...], BeforeValidator(listed), Field(min_length=1)]
Rates = Annotated[tuple[Positive, ...], BeforeValidator(listed), Field(min_length=1)]
Depth = Annotated[int, Strict()] | Text  # which of them there are is for the network to say
Depths = Annotated[tuple[Depth, ...], BeforeValidator(listed), Field(min_length=1)]
Values = Annotated[tuple[Any, ...], BeforeValidator(listed)]
