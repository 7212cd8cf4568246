"""Plain content of config dataclasses, whole or for identities."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import TypeAdapter


def dump(value: Any) -> Any:
    """The plain, JSON-like content of a config dataclass."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def content(value: Any) -> Any:
    """As `dump`, for identities: without the keys that came later, where they change nothing.

    A class says in `neutral` which value of a later key leaves everything as it was before there was that key;
    what was identified then keeps its identity.
    """
    return _said(value, dump(value))


def _said(value: Any, plain: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _said(own, plain[key]) for key, own in value.items()}
    if isinstance(value, tuple):
        return [_said(own, there) for own, there in zip(value, plain, strict=True)]
    if not is_dataclass(value):
        return plain
    neutral = getattr(value, "neutral", {})
    return {
        item.name: _said(getattr(value, item.name), plain[item.name])
        for item in fields(value)
        if item.name not in neutral or getattr(value, item.name) != neutral[item.name]
    }
