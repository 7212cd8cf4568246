"""Forward passes in chunks of one fixed shape: prefix features and predictions.

Everything before the boundary is the same for every run that starts from the same source weights, so it is computed
once. A row's chunk and its place in it depend only on its place in the array: the same images give the same bits.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Float

from convtl.data.inputs import MOST_AT_ONCE
from convtl.models.network import Network, Variables, in_pieces
from convtl.training.devices import devices

CHUNK = 256
"""Small images in one forward pass; part of what makes results comparable (`RESULTS_VERSION`)."""

_CHUNK_OF_BIG = 32
_AHEAD = 2
"""Chunks queued on each device."""


class Images(Protocol):
    """Images or features (n, ...), float32, in memory or made when sliced."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, place: Any, /) -> Any: ...


def rows_at_once(input_shape: Sequence[int]) -> int:
    """Images in one forward pass: 256 of up to 64x64 pixels, 32 larger ones."""
    return CHUNK if np.prod(input_shape[:2]) <= MOST_AT_ONCE else _CHUNK_OF_BIG


def chunks(
    images: Images, at_once: int, first: int = 0, stop: int | None = None
) -> Iterator[tuple[int, np.ndarray, int]]:
    """Chunks in order: place of the first row, `at_once` rows, how many are images.

    The last chunk is filled up with zeros: all have one shape, so that one program serves them.

    Args:
      first, stop: the rows; none of the others is made.
    """
    stop = len(images) if stop is None else min(stop, len(images))
    for begin in range(first, stop, at_once):
        piece = np.asarray(images[begin : min(begin + at_once, stop)])
        count = len(piece)
        if count < at_once:
            empty = np.zeros((at_once - count, *piece.shape[1:]), piece.dtype)
            piece = np.concatenate([piece, empty])
        yield begin, piece, count


@partial(jax.jit, static_argnums=(0, 1, 2))
def through_units(
    network: Network, start: int, stop: int, variables: Variables, x: jax.Array
) -> jax.Array:
    """Apply units `start` up to `stop`, with the same bits wherever they are cut.

    So what enters a unit can be computed from what entered any unit before it: barriers keep XLA from joining
    units, and how many images go at a time depends on the net alone, not on where it is cut or on its head.
    """

    def through(some: jax.Array) -> jax.Array:
        for index in range(start, stop):
            some = network.apply(variables, some, start=index, stop=index + 1)[0]
            some = jax.lax.optimization_barrier(some)
        return some

    return in_pieces(through, x, network.inferred_at_a_time(len(x)))


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
        self._infer = jax.jit(partial(network.infer, start=start, stop=self.stop))

    def __call__(
        self, variables: Variables, images: Images, first: int = 0, stop: int | None = None
    ) -> Float[np.ndarray, "m ..."]:
        """Outputs for `images[first:stop]`, where `first` is a multiple of `chunk`."""
        if first % self.chunk:
            raise ValueError(f"first={first} is no multiple of {self.chunk}")
        units = {name: variables[name] for name in self.network.names[self.start : self.stop]}
        used = devices() if self.chunk < CHUNK else [None]
        pieces = chunks(images, self.chunk, first, stop)
        empty = np.zeros((0, *self.network.shape_before(self.stop)), np.float32)
        return np.concatenate([empty, *over_devices(self._infer, units, pieces, used)])


def over_devices(
    apply: Callable[[Variables, jax.Array], jax.Array],
    units: Variables,
    pieces: Iterable[tuple[int, np.ndarray, int]],
    used: Sequence[jax.Device | None],
) -> Iterator[np.ndarray]:
    """Apply units to chunks, in order, on devices in turn; the next are made meanwhile."""
    copies = [jax.device_put(units, device) for device in used]
    ahead: deque[tuple[jax.Array, int]] = deque()
    for number, (_, piece, count) in enumerate(pieces):
        index = number % len(used)
        x = jax.device_put(piece, used[index])
        ahead.append((apply(copies[index], x), count))
        if len(ahead) > _AHEAD * len(used):
            values, rows = ahead.popleft()
            yield np.asarray(values)[:rows]
    for values, rows in ahead:
        yield np.asarray(values)[:rows]


class PrefixFeatures:
    """Inputs of the boundary unit for one net and array of images, grown on demand."""

    def __init__(self, forward: Forward, variables: Variables) -> None:
        self._forward, self._variables = forward, variables
        self._known = np.zeros((0, *forward.network.shape_before(forward.stop)), np.float32)

    def rows(self, images: Images, count: int) -> Float[np.ndarray, "count ..."]:
        """Features of `images[:count]`."""
        if self._forward.stop == 0:
            return np.asarray(images[:count])
        if len(self._known) < count:  # a chunk that was not full is computed again, in its place
            first = len(self._known) // self._forward.chunk * self._forward.chunk
            new = self._forward(self._variables, images, first, count)
            self._known = np.concatenate([self._known[:first], new])
        return self._known[:count]
