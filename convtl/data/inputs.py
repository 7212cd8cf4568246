"""Images on their way into a net: normalised as the net expects, big ones only when they are asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from convtl.data.batches import standardise

MOST_AT_ONCE = 64 * 64
"""Pixels of an image up to which a subset is kept in memory as numbers; bigger ones are normalised when read."""


@dataclass(frozen=True)
class Normalisation:
    """How grey levels (0 to 255) become a net's input: (level - mean) / std, channel by channel.

    Attributes:
      mean, std: of the channels.
    """

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
    """As the source net expects; without one each image by itself (`standardise`)."""
    return standardise(images) if how is None else how(images)


class LazyImages:
    """Normalised images that are made when they are indexed, so that a subset is never in memory as a whole.

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
        """The first `count` of them."""
        return LazyImages(self._pixels, self._positions[:count], self.shape[1:], self._how)

    def __getitem__(self, chosen: Any) -> np.ndarray:
        """Images at a slice or an array of places of any shape: (*places, height, width, channels) float32."""
        positions = self._positions[chosen]
        flat = np.atleast_1d(positions).reshape(-1)
        images = normalised(self._pixels(flat), self._how)
        return images.reshape(*np.shape(positions), *self.shape[1:])


class Gathered:
    """Rows of an array on disk, read when they are indexed.

    Args:
      rows: (n, ...), usually memory-mapped.
      positions: the rows that are meant, in order.
    """

    def __init__(self, rows: np.ndarray, positions: np.ndarray) -> None:
        self._rows, self._positions = rows, positions
        self.shape, self.dtype = (len(positions), *rows.shape[1:]), rows.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: Any) -> np.ndarray:
        """Rows at a slice or an array of places of any shape."""
        return np.asarray(self._rows[self._positions[chosen]])
