"""Forward passes in chunks of one fixed shape: prefix features and predictions.

The same images give the same bits: a row's chunk, and place in it, depend only on its place in the array.
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
"""Small images in one forward pass; numbers depend on it (`RESULTS_VERSION`)."""

Images = Float[np.ndarray, "n ..."] | LazyRows  # Images or features, in memory or made when sliced.


def rows_at_once(input_shape: Sequence[int]) -> int:
    """Images in one forward pass: 256 of up to 64x64 pixels, 32 larger ones."""
    return CHUNK if np.prod(input_shape[:2]) <= MOST_AT_ONCE else 32


def chunks(images: Images, at_once: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield chunks of `at_once` rows, zero-padded, and how many rows are images."""
    for begin in range(0, len(images), at_once):
        piece = np.asarray(images[begin : begin + at_once])
        empty = np.zeros((at_once - len(piece), *piece.shape[1:]), piece.dtype)
        yield np.concatenate([piece, empty]), len(piece)


@partial(jax.jit, static_argnums=(0, 1, 2))
def through_units(
    network: Network, start: int, stop: int, variables: Variables, x: jax.Array
) -> jax.Array:
    """Apply units `start` up to `stop`; barriers make any split give the same bits."""

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
    """Units `start` up to `stop` in inference mode, big images on all devices."""

    def __init__(self, network: Network, start: int, stop: int | None = None) -> None:
        self.network, self.start = network, start
        self.stop = len(network.units) if stop is None else stop
        self._infer = partial(_infer, network, start, self.stop)

    def __call__(self, variables: Variables, images: Images) -> Float[np.ndarray, "n ..."]:
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
    """Apply units to chunks on devices in turn; yield outputs in order."""
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
    """Compute the input of unit `boundary` from that of `first`, on all devices."""
    units = {name: variables[name] for name in network.names[first:boundary]}
    apply = partial(through_units, network, first, boundary)
    return over_devices(apply, units, chunks(images, rows_at_once(network.input_shape)), devices())
