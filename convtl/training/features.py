"""Forward passes over many images in chunks of one fixed shape: prefix features and predictions.

Everything before the boundary is the same for every run that starts from the same source weights, so it
is computed once. A row's chunk and its place in it depend only on its place in the array, never on what
else was asked for: the same images give the same bits.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Float

from convtl.models.network import Network, Variables

CHUNK = 256
"""Small images in one forward pass; part of the protocol (`convtl.config.PROTOCOL`)."""

_SMALL, _CHUNK_OF_BIG = 64 * 64, 32


class Images(Protocol):
    """Images or features as a NumPy array holds them, or made when they are asked for.

    Attributes:
      shape: (n, ...).
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, place: Any, /) -> Any:
        """Rows of a slice: float32, (rows, ...)."""


class _First:
    """The first rows of images, none of them made before it is asked for."""

    def __init__(self, images: Images, count: int) -> None:
        self._images, self.shape = images, (count, *images.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: slice) -> Any:
        begin, stop, _ = place.indices(len(self))
        return self._images[begin:stop]


def rows_at_once(input_shape: Sequence[int]) -> int:
    """Images in one forward pass: 256 of up to 64x64 pixels, 32 larger ones; never a matter of memory."""
    return CHUNK if np.prod(input_shape[:2]) <= _SMALL else _CHUNK_OF_BIG


class Forward:
    """Units `start` up to `stop` of a network in inference mode, compiled once.

    Chunks of big images go round the devices; those of small ones are too short for that to pay.

    Attributes:
      chunk: images in one forward pass.
    """

    def __init__(self, network: Network, start: int, stop: int | None = None) -> None:
        self.network, self.start = network, start
        self.stop = len(network.units) if stop is None else stop
        self.chunk = rows_at_once(network.input_shape)
        self._apply = jax.jit(partial(_forward, network, start, self.stop))

    def __call__(self, variables: Variables, images: Images, first: int = 0) -> Float[np.ndarray, "m ..."]:
        """Outputs for `images[first:]`, where `first` is a multiple of `chunk`."""
        if first % self.chunk:
            raise ValueError(f"first={first} is no multiple of {self.chunk}")
        names = self.network.names[self.start : self.stop]
        devices = jax.local_devices() if self.chunk < CHUNK else [None]
        own = [jax.device_put({name: variables[name] for name in names}, device) for device in devices]
        outputs: list[np.ndarray] = []
        ahead: list[tuple[jax.Array, int]] = []  # images are made while others are computed with
        for number, begin in enumerate(range(first, len(images), self.chunk)):
            piece = np.asarray(images[begin : begin + self.chunk])
            missing = self.chunk - len(piece)
            if missing:
                piece = np.concatenate([piece, np.zeros((missing, *piece.shape[1:]), piece.dtype)])
            place = number % len(devices)
            there = piece if devices[place] is None else jax.device_put(piece, devices[place])
            ahead.append((self._apply(own[place], there), self.chunk - missing))
            if len(ahead) > len(devices):
                outputs.append(_arrived(*ahead.pop(0)))
        outputs += [_arrived(*last) for last in ahead]
        return np.concatenate(outputs) if outputs else np.zeros((0, *self._output_shape()), np.float32)

    def _output_shape(self) -> tuple[int, ...]:
        return self.network.shape_before(self.stop)


def _arrived(values: jax.Array, count: int) -> np.ndarray:
    return np.asarray(values)[:count]


def _forward(network: Network, start: int, stop: int, variables: Variables, images: jax.Array) -> jax.Array:
    return network.apply(variables, images, start=start, stop=stop)[0]


class PrefixFeatures:
    """What enters the boundary, for one net and one array of images, grown as more rows are wanted."""

    def __init__(self, forward: Forward, variables: Variables) -> None:
        self._forward, self._variables = forward, variables
        self._known: np.ndarray | None = None

    def rows(self, images: Images, count: int) -> Float[np.ndarray, "count ..."]:
        """Features of `images[:count]`."""
        if self._forward.stop == 0:
            return np.asarray(images[:count])
        have = 0 if self._known is None else len(self._known)
        if have < count:
            at_once = self._forward.chunk
            first = have // at_once * at_once  # a chunk that was not full is computed again, in its place
            new = self._forward(self._variables, _First(images, min(count, len(images))), first)
            self._known = new if self._known is None else np.concatenate([self._known[:first], new])
        assert self._known is not None
        return self._known[:count]
