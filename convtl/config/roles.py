"""Roles of keys: what each has to do with the identity of a trial. Lists of keys are derived from them."""

from collections.abc import Mapping
from dataclasses import Field, dataclass, fields, is_dataclass
from typing import Any, get_args

from pydantic_core import to_jsonable_python


@dataclass(frozen=True)
class Role:
    """Base of all roles.

    Attributes:
      varies: whether `blocks` may set the key.
    """

    varies: bool = True


class Axis(Role):
    """A dimension of the product that a study is; each trial's identity holds its own value."""


class Registry(Role):
    """Nodes by name; a trial's identity holds the content of those that it uses."""


class Identity(Role):
    """Can change the numbers of a trial: part of its identity."""


@dataclass(frozen=True)
class Runtime(Role):
    """Changes no number of any trial: part of no identity, and no additional axis."""

    varies: bool = False


class Neutral:
    """Mark beside a role: at its default the key is in no identity, so that older trials keep theirs."""


def roles(kind: Any) -> dict[str, Role]:
    """Key -> role, for the keys of a dataclass that have one."""
    marks = {item.name: get_args(item.type)[1:] for item in fields(kind)}
    return {key: mark for key in marks for mark in marks[key] if isinstance(mark, Role)}


def dump(value: Any) -> Any:
    """Return the JSON-like content of a config dataclass."""
    return to_jsonable_python(value)


def content(value: Any, keys: frozenset[str] | None = None) -> Any:
    """Return JSON-like content for identities: without `Neutral` keys that have their default.

    Args:
      keys: of a dataclass; None takes all.
    """
    if isinstance(value, Mapping):
        return {key: content(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [content(inner) for inner in value]
    if not is_dataclass(value):
        return value
    return {
        item.name: content(getattr(value, item.name))
        for item in fields(value)
        if (keys is None or item.name in keys) and not _is_neutral(item, getattr(value, item.name))
    }


def _is_neutral(item: Field[Any], value: Any) -> bool:
    return value == item.default and any(isinstance(m, Neutral) for m in get_args(item.type))
