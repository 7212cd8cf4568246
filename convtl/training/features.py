"""Forward passes over many images in chunks of one fixed shape: prefix features and predictions.

Everything before the boundary is the same for every run that starts from the same source weights, so it
is computed once. A row's chunk and its place in it depend only on its place in the array, never on what
else was asked for: the same images give the same bits.
"""

from functools import partial

import jax
import numpy as np
from jaxtyping import Float

from convtl.models.network import Network, Variables

CHUNK = 256
"""Images in one forward pass; part of the protocol (`convtl.config.PROTOCOL`)."""


class Forward:
    """Units `start` up to `stop` of a network in inference mode, compiled once."""

    def __init__(self, network: Network, start: int, stop: int | None = None) -> None:
        self.network, self.start = network, start
        self.stop = len(network.units) if stop is None else stop
        self._apply = jax.jit(partial(_forward, network, start, self.stop))

    def __call__(
        self, variables: Variables, images: Float[np.ndarray, "n ..."], first: int = 0
    ) -> Float[np.ndarray, "m ..."]:
        """Outputs for `images[first:]`, where `first` is a multiple of `CHUNK`."""
        if first % CHUNK:
            raise ValueError(f"first={first} is no multiple of {CHUNK}")
        own = jax.device_put({name: variables[name] for name in self.network.names[self.start : self.stop]})
        outputs = []
        for begin in range(first, len(images), CHUNK):
            piece = images[begin : begin + CHUNK]
            missing = CHUNK - len(piece)
            if missing:
                piece = np.concatenate([piece, np.zeros((missing, *piece.shape[1:]), piece.dtype)])
            outputs.append(np.asarray(self._apply(own, piece))[: CHUNK - missing])
        return np.concatenate(outputs) if outputs else np.zeros((0, *self._output_shape()), np.float32)

    def _output_shape(self) -> tuple[int, ...]:
        return self.network.shape_before(self.stop)


def _forward(network: Network, start: int, stop: int, variables: Variables, images: jax.Array) -> jax.Array:
    return network.apply(variables, images, start=start, stop=stop)[0]


class PrefixFeatures:
    """What enters the boundary, for one net and one array of images, grown as more rows are wanted."""

    def __init__(self, forward: Forward, variables: Variables) -> None:
        self._forward, self._variables = forward, variables
        self._known: np.ndarray | None = None

    def rows(self, images: Float[np.ndarray, "n ..."], count: int) -> Float[np.ndarray, "count ..."]:
        """Features of `images[:count]`."""
        if self._forward.stop == 0:
            return images[:count]
        have = 0 if self._known is None else len(self._known)
        if have < count:
            first = have // CHUNK * CHUNK  # a chunk that was not full is computed again, in its place
            new = self._forward(self._variables, images[:count], first)
            self._known = new if self._known is None else np.concatenate([self._known[:first], new])
        assert self._known is not None
        return self._known[:count]
