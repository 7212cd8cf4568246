"""Roles of keys: what each has to do with the identity of a trial. Lists of keys are derived from them."""

from collections.abc import Container, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, get_args

from pydantic_core import to_jsonable_python

dump = to_jsonable_python
"""Return the JSON-like content of a config dataclass."""


class Role(Enum):
    """What a key has to do with the identity of a trial."""

    AXIS = "a dimension of the product that a study is; an identity holds the trial's own value"
    REGISTRY = "nodes by name; an identity holds the content of those that the trial uses"
    IDENTITY = "can change the numbers of a trial: part of its identity"
    SEED = "part of every identity, and the same for a whole study"
    BLOCK = "changes no number of any trial, but may differ between the blocks of a study"
    RUNTIME = "changes no number of any trial, and is the same for a whole study"


class Neutral:
    """Mark beside a role: at its default the key is in no identity, so that older trials keep theirs."""


def roles(kind: Any) -> dict[str, Role]:
    """Key -> role, for the keys of a dataclass that have one."""
    marks = {item.name: get_args(item.type) for item in fields(kind)}
    return {key: mark for key in marks for mark in marks[key] if isinstance(mark, Role)}


def content(value: Any, without: Container[str] = ()) -> Any:
    """Return JSON-like content for identities: without `Neutral` keys that have their default.

    Args:
      without: keys of a dataclass that are left out.
    """
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
