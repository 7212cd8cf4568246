"""Shapes and dtypes of arrays, checked by jaxtyping and beartype where a room's functions are called."""

from collections.abc import Callable
from functools import reduce
from operator import or_
from types import GenericAlias, UnionType
from typing import Any, get_args, get_origin

import jax
import numpy as np
from beartype import beartype
from jaxtyping import AbstractArray


def arrays_checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with those of its hints checked that hold an array's shape.

    Other hints are left to mypy: beartype does not know some of them (`TypeAdapter[...]`, most protocols).
    """
    hints = function.__annotations__
    shapes = {name: _any_array(hint) for name, hint in hints.items() if _has_shape(hint)}
    function.__annotations__ = shapes
    checked = beartype(function) if shapes else function
    checked.__annotations__ = function.__annotations__ = hints
    return checked


def _has_shape(hint: Any) -> bool:
    is_array = isinstance(hint, type) and issubclass(hint, AbstractArray)
    return is_array or any(_has_shape(part) for part in get_args(hint))


def _any_array(hint: Any) -> Any:
    """The hint with NumPy's arrays, of the same shape and dtype, beside JAX's, and floats beside scalars."""
    if isinstance(hint, UnionType):
        return reduce(or_, map(_any_array, get_args(hint)))
    if isinstance(hint, GenericAlias) and get_origin(hint) in (tuple, list, dict):
        return get_origin(hint)[tuple(map(_any_array, get_args(hint)))]
    if hint is jax.Array:
        return jax.Array | np.ndarray
    if not (isinstance(hint, type) and issubclass(hint, AbstractArray)):
        return hint
    if hint.array_type is not jax.Array:
        return hint
    either = hint | hint.dtype[np.ndarray, hint.dim_str]
    return either if hint.dim_str else either | float
