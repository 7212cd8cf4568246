"""What a network is fed: normalised images, big ones read when indexed, and the batches of each update."""

from collections.abc import Callable
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
    """Shift each image to mean 0 and scale it to standard deviation 1, over its pixels and channels.

    Polarity and contrast would otherwise harm far sources mechanically. A constant image becomes zeros.
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
    """How grey levels (0 to 255) become a net's input: (level - mean) / std, channel by channel."""

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
    """Normalise images as a source net expects; without one each by itself (`standardise`)."""
    return standardise(images) if how is None else how(images)


class LazyImages:
    """Images that are normalised when they are indexed, so that a subset is never in memory as a whole.

    Args:
      pixels: positions -> images (uint8).
      positions: of the images, in order.
      shape: of one image.
      how: see `normalised`.
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self,
        pixels: Callable[[np.ndarray], np.ndarray],
        positions: np.ndarray,
        shape: tuple[int, ...],
        how: Normalisation | None,
    ) -> None:
        self._pixels, self._positions, self._how = pixels, positions, how
        self.shape = (len(positions), *shape)

    def __len__(self) -> int:
        return self.shape[0]

    def first(self, count: int) -> "LazyImages":
        """Return the first `count` of them."""
        return LazyImages(self._pixels, self._positions[:count], self.shape[1:], self._how)

    def __getitem__(self, chosen: Any) -> np.ndarray:
        """Return (*places, height, width, channels) float32 at a slice or an array of places."""
        positions = self._positions[chosen]
        flat = np.atleast_1d(positions).reshape(-1)
        images = normalised(self._pixels(flat), self._how)
        return images.reshape(*np.shape(positions), *self.shape[1:])


class Gathered:
    """Rows of an array on disk, read when they are indexed; `positions` are the rows, in order."""

    def __init__(self, rows: np.ndarray, positions: np.ndarray) -> None:
        self._rows, self._positions = rows, positions
        self.shape, self.dtype = (len(positions), *rows.shape[1:]), rows.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: Any) -> np.ndarray:
        """Return rows at a slice or an array of places of any shape."""
        return np.asarray(self._rows[self._positions[chosen]])


def batch_indices(
    seed: int, stream: tuple[str | int, ...], n: int, batch_size: int, start: int, stop: int
) -> Int32[np.ndarray, "updates batch"]:
    """Return positions into a subset of `n` images for the updates start, ..., stop - 1.

    A pure function of the stream and the update. Epoch e visits the images in the order drawn from
    (*stream, "epoch", e); batches run on from one epoch into the next, so that nothing is dropped and a
    subset may be smaller than a batch.
    """
    if n < 1 or batch_size < 1 or not 0 <= start <= stop:
        raise ValueError(f"no batches of {batch_size} of {n} images for updates {start} to {stop}")
    first, last = start * batch_size, stop * batch_size
    epochs = range(first // n, -(-last // n))
    orders = [keys.generator(seed, *stream, "epoch", epoch).permutation(n) for epoch in epochs]
    visited = np.concatenate([np.empty(0, np.int64), *orders]).astype(np.int32)
    offset = first - epochs.start * n
    return visited[offset : offset + last - first].reshape(stop - start, batch_size)
