"""Named random streams: every draw is a function of (seed, stream).

A stream is a tuple of names and numbers such as `("order", "cyrillic", 3)`. Two streams never share
draws, and a draw never depends on other draws, their order or the process.
"""

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import jax


def digest(content: Any, length: int = 16) -> str:
    """Hex digest of JSON-like content, whatever the order of keys.

    >>> digest({"depth": 3, "n": 10}) == digest({"n": 10, "depth": 3})
    True
    """
    text = json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def digest_arrays(*arrays: np.ndarray, length: int = 16) -> str:
    """Hex digest of the dtypes, shapes and bytes of arrays."""
    state = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        state.update(f"{array.dtype.str}{array.shape}".encode())
        state.update(
            array.reshape(-1).view(np.uint8).data
        )  # in place: images may be a good part of the memory
    return state.hexdigest()[:length]


def seed_of(seed: int, *stream: str | int) -> int:
    """Seed of one stream for JAX keys, 0 to 2^32 - 1."""
    return int(digest([seed, *stream], 8), 16)


def generator(seed: int, *stream: str | int) -> np.random.Generator:
    """NumPy generator of one stream."""
    return np.random.default_rng(int(digest([seed, *stream], 32), 16))


def key(seed: int, *stream: str | int) -> "jax.Array":
    """JAX key of one stream (a typed key, shape ())."""
    import jax  # here, so that code that only draws with NumPy does not pay for importing JAX

    return jax.random.key(seed_of(seed, *stream))
