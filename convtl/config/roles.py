"""Roles of keys: what each has to do with the identity of a trial. Lists of keys are derived from them."""

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import TypeAdapter


@dataclass(frozen=True)
class Axis:
    """A dimension of the product that a study is; each trial's identity holds its own value."""


@dataclass(frozen=True)
class Registry:
    """Nodes by name; a trial's identity holds the content of those that it uses."""


@dataclass(frozen=True)
class Identity:
    """Can change the numbers of a trial: part of its identity.

    Attributes:
      varies: whether `blocks` and `axes` may set it.
    """

    varies: bool = True


@dataclass(frozen=True)
class Runtime:
    """Changes no number of any trial: part of no identity, and no additional axis.

    Attributes:
      varies: whether `blocks` may set it.
    """

    varies: bool = False


@dataclass(frozen=True)
class Neutral:
    """Mark beside a role: a value with which a study is what it was before the key existed.

    Identities leave the key out where it has this value, and records without the key are read as having it.
    """

    value: Any


Role = Axis | Registry | Identity | Runtime


def type_of(item: Field[Any]) -> Any:
    """Type of a field without its annotations."""
    return get_args(item.type)[0] if get_origin(item.type) is Annotated else item.type


def marks(item: Field[Any]) -> Iterator[Any]:
    """The annotations of a field."""
    return iter(get_args(item.type)[1:] if get_origin(item.type) is Annotated else ())


def roles(kind: Any) -> dict[str, Role]:
    """Key -> role, for the keys of a dataclass that have one."""
    return {
        item.name: mark for item in fields(kind) for mark in marks(item) if isinstance(mark, Role)
    }


@cache
def neutral_values(kind: Any) -> Mapping[str, Any]:
    """Key -> value with which it is left out of identities, for the keys that are marked so."""
    return {
        item.name: mark.value
        for item in fields(kind)
        for mark in marks(item)
        if isinstance(mark, Neutral)
    }


def dump(value: Any) -> Any:
    """Return the JSON-like content of a config dataclass."""
    kind: Any = type(value)
    return _adapter(kind).dump_python(value, mode="json")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def content(value: Any) -> Any:
    """As `dump`, for identities: without keys that have their `Neutral` value."""
    return _identifying(value, dump(value))


def _identifying(value: Any, plain: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _identifying(inner, plain[key]) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [_identifying(*pair) for pair in zip(value, plain, strict=True)]
    if not is_dataclass(value):
        return plain
    kind: Any = type(value)
    neutral, values = neutral_values(kind), vars(value)
    return {
        item.name: _identifying(values[item.name], plain[item.name])
        for item in fields(value)
        if item.name not in neutral or values[item.name] != neutral[item.name]
    }
