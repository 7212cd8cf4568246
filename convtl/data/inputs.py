"""Inputs of a network: normalised images, large ones read lazily, and batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from convtl import keys

MOST_AT_ONCE = 64 * 64
"""Pixels of an image up to which a subset is normalised once and kept in memory."""


def standardise(
    images: UInt8[np.ndarray, "*n height width channels"],
) -> Float32[np.ndarray, "*n height width channels"]:
    """Scale each image to mean 0, standard deviation 1 over pixels and channels.

    A constant image becomes zeros.
    """
    axes = (-3, -2, -1)
    mean = images.mean(axis=axes, keepdims=True, dtype=np.float64)
    centred = images.astype(np.float32) - mean.astype(np.float32)
    spread = np.sqrt(np.mean(np.square(centred), axis=axes, keepdims=True))
    # A single grey level in a single pixel already spreads more than this.
    smallest = np.float32(0.5 / np.sqrt(np.prod(images.shape[-3:])))
    return centred / np.maximum(spread, smallest)


@dataclass(frozen=True)
class Normalisation:
    """Normalisation of grey levels (0 to 255) by channel: (level - mean) / std."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(
        self, images: UInt8[np.ndarray, "*n height width channels"]
    ) -> Float32[np.ndarray, "*n height width channels"]:
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return (images - mean) / std


def normalised(
    images: UInt8[np.ndarray, "*n height width channels"], how: Normalisation | None
) -> Float32[np.ndarray, "*n height width channels"]:
    """Normalise images as a source net expects; `how` None: `standardise` them."""
    return standardise(images) if how is None else how(images)


class LazyRows:
    """Images or features (rows, *shape) that are read or made when indexed.

    `read` takes positions (n,) and returns rows (n, *shape); `positions` are those of the rows, in order.
    """

    def __init__(
        self, read: Callable[[np.ndarray], np.ndarray], positions: np.ndarray, shape: Sequence[int]
    ) -> None:
        self._read, self._positions = read, positions
        self.shape = (len(positions), *shape)

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, places: np.ndarray) -> "LazyRows":
        """Return the rows at some places, without reading them."""
        return LazyRows(self._read, self._positions[places], self.shape[1:])

    def __getitem__(self, chosen: Any) -> np.ndarray:
        """Return (*places, ...) at a slice or an array of places."""
        positions = self._positions[chosen]
        rows = np.asarray(self._read(np.atleast_1d(positions).reshape(-1)))
        return rows.reshape(*np.shape(positions), *self.shape[1:])


def batch_indices(
    seed: int, stream: tuple[str | int, ...], n: int, batch_size: int, start: int, stop: int
) -> Int32[np.ndarray, "updates batch"]:
    """Return positions in a subset of `n` images for updates start, ..., stop - 1.

    Epoch e visits the images in the order drawn from (*stream, "epoch", e); batches run on from one epoch into
    the next, so that nothing is dropped and a subset may be smaller than a batch.
    """
    first, last = start * batch_size, stop * batch_size
    epochs = range(first // n, -(-last // n))
    orders = [keys.generator(seed, *stream, "epoch", epoch).permutation(n) for epoch in epochs]
    visited = np.concatenate([np.empty(0, np.int64), *orders]).astype(np.int32)
    offset = first - epochs.start * n
    return visited[offset : offset + last - first].reshape(stop - start, batch_size)
