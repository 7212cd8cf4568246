"""Forward passes in chunks of one fixed shape: prefix features and predictions.

A row's chunk and its place in it depend only on its place in the array: the same images give the same bits.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import jax
import numpy as np
from jaxtyping import Float

from convtl.data.inputs import MOST_AT_ONCE, LazyRows
from convtl.models.network import Network, Variables, in_pieces
from convtl.training.devices import devices

CHUNK = 256
"""Small images in one forward pass; part of what makes results comparable (`RESULTS_VERSION`)."""

Images = Float[np.ndarray, "n ..."] | LazyRows  # Images or features, in memory or made when sliced.


def rows_at_once(input_shape: Sequence[int]) -> int:
    """Images in one forward pass: 256 of up to 64x64 pixels, 32 larger ones."""
    return CHUNK if np.prod(input_shape[:2]) <= MOST_AT_ONCE else 32


def chunks(images: Images, at_once: int) -> Iterator[tuple[np.ndarray, int]]:
    """Chunks in order: `at_once` rows, the last ones filled up with zeros, and how many of them are images."""
    for begin in range(0, len(images), at_once):
        piece = np.asarray(images[begin : begin + at_once])
        empty = np.zeros((at_once - len(piece), *piece.shape[1:]), piece.dtype)
        yield np.concatenate([piece, empty]), len(piece)


@partial(jax.jit, static_argnums=(0, 1, 2))
def through_units(
    network: Network, start: int, stop: int, variables: Variables, x: jax.Array
) -> jax.Array:
    """Apply units `start` up to `stop`; barriers between them give the same bits wherever they are cut."""

    def through(some: jax.Array) -> jax.Array:
        for index in range(start, stop):
            some = network.apply(variables, some, start=index, stop=index + 1)[0]
            some = jax.lax.optimization_barrier(some)
        return some

    return in_pieces(through, x, network.inferred_at_a_time(len(x)))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _infer(
    network: Network, start: int, stop: int, variables: Variables, x: jax.Array
) -> jax.Array:
    return network.infer(variables, x, start=start, stop=stop)


class Forward:
    """Units `start` up to `stop` of a network in inference mode, compiled once; big images go round the devices."""

    def __init__(self, network: Network, start: int, stop: int | None = None) -> None:
        self.network, self.start = network, start
        self.stop = len(network.units) if stop is None else stop
        self._infer = partial(_infer, network, start, self.stop)

    def __call__(self, variables: Variables, images: Images) -> Float[np.ndarray, "n ..."]:
        """Outputs for all images."""
        units = {name: variables[name] for name in self.network.names[self.start : self.stop]}
        at_once = rows_at_once(self.network.input_shape)
        used = devices() if at_once < CHUNK else [None]
        empty = np.zeros((0, *self.network.shape_before(self.stop)), np.float32)
        outputs = over_devices(self._infer, units, chunks(images, at_once), used)
        return np.concatenate([empty, *outputs])


def over_devices(
    apply: Callable[[Variables, jax.Array], jax.Array],
    units: Variables,
    pieces: Iterable[tuple[np.ndarray, int]],
    used: Sequence[jax.Device | None],
) -> Iterator[np.ndarray]:
    """Apply units to chunks, in order, on devices in turn; the next are made meanwhile."""
    copies = [jax.device_put(units, device) for device in used]
    ahead: deque[tuple[jax.Array, int]] = deque()
    for number, (piece, count) in enumerate(pieces):
        index = number % len(used)
        x = jax.device_put(piece, used[index])
        ahead.append((apply(copies[index], x), count))
        if len(ahead) > 2 * len(used):
            values, rows = ahead.popleft()
            yield np.asarray(values)[:rows]
    for values, rows in ahead:
        yield np.asarray(values)[:rows]


def passes(
    network: Network, variables: Variables, first: int, boundary: int, images: Images
) -> Iterator[np.ndarray]:
    """Compute what enters unit `boundary` from what enters `first`, by chunks on all devices."""
    units = {name: variables[name] for name in network.names[first:boundary]}
    apply = partial(through_units, network, first, boundary)
    return over_devices(apply, units, chunks(images, rows_at_once(network.input_shape)), devices())
