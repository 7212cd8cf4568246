"""Pictures made on demand: letters, patches of photographs, fields, digits.

A kind gives the ink. Jitter, noise, paper and ink levels are common to all, and pictures without ink (photographs,
fields) get the contrast of letters: sources differ in nothing but what they show. A picture is a function of seed,
replicate, class, split and its number there; it is made when it is first read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from convtl import keys
from convtl.config.domains import Jitter, Made
from convtl.config.values import dump
from convtl.data.inputs import LazyRows
from convtl.data.splits import Domain, Indices, Split, Store, named

VERSION = 2
"""Raised when code changes the pixels of every kind; part of the identity of each."""
PAPER, INK = 0.25, 0.75
"""Grey levels (0 to 1) of paper and full ink."""
CONTRAST = 0.3
"""Mean standard deviation of a letter's ink, to which pictures without ink are scaled."""
_BLOCK = 20
"""Pictures of a class and split that are made together, from one stream."""

Ink = Float[np.ndarray, "count size size"]


class Placement(NamedTuple):
    """Affine jitter: matrices from (x, y) to (x, y) before it; shifts in pixels."""

    inverse: Float[np.ndarray, "count 2 2"]
    shift: Float[np.ndarray, "count 2"]

    @classmethod
    def drawn(cls, uniform: Float[np.ndarray, "count 5"], jitter: Jitter) -> "Placement":
        """Turn numbers between 0 and 1 into rotations, scales, shears and shifts."""
        signed = 2 * uniform - 1
        angle = np.deg2rad(jitter.rotation) * signed[:, 0]
        scale = 1 + jitter.scale * signed[:, 1]
        shear = jitter.shear * signed[:, 2]
        cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
        # picture before -> after is scale * rotation * shear; this is its inverse
        rows = [[cos + shear * sin, sin - shear * cos], [-sin, cos]]
        inverse = np.moveaxis(np.array(rows, np.float32), -1, 0)
        return cls(inverse, (jitter.shift * signed[:, 3:5]).astype(np.float32))

    def at(self, chosen: Any) -> "Placement":
        return Placement(self.inverse[chosen], self.shift[chosen])

    def read(
        self,
        before: Float[np.ndarray, "height width"],
        size: int,
        scale: float = 1.0,
        centre: Sequence[float] | np.ndarray | None = None,
        mode: str = "nearest",
    ) -> Ink:
        """Sample square pictures from one before jitter, by linear interpolation.

        Args:
          scale: pixels before jitter in one after.
          centre: row and column before jitter of the pictures' centre; of each picture, or of all.
          mode: of `scipy.ndimage`, beyond the border.
        """
        at = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
        x = (at - self.shift[:, :1])[:, None, :]
        y = (at - self.shift[:, 1:])[:, :, None]
        matrix = self.inverse[..., None, None] * np.float32(scale)
        row, column = [(side - 1) / 2 for side in before.shape] if centre is None else centre
        rows = matrix[:, 1, 0] * x + (matrix[:, 1, 1] * y + np.reshape(row, (-1, 1, 1)))
        columns = matrix[:, 0, 0] * x + (matrix[:, 0, 1] * y + np.reshape(column, (-1, 1, 1)))
        read: np.ndarray = ndimage.map_coordinates(
            before, [rows, columns], np.float32, order=1, mode=mode
        )
        return read

    def read_each(
        self, before: Float[np.ndarray, "count height width"], size: int, **how: Any
    ) -> Ink:
        """Sample each picture from one of its own; `how` as in `read`."""
        images = [self.at([index]).read(one, size, **how) for index, one in enumerate(before)]
        return np.concatenate(images)


class Together(NamedTuple):
    """Pictures of one class and split that are made together.

    Attributes:
      variants: each picture's variant of its class.
      rng: for draws of the kind.
    """

    name: str
    split: str
    size: int
    variants: Indices
    placement: Placement
    rng: np.random.Generator


def contrasted(pictures: Ink) -> Ink:
    """Scale each picture without ink to the contrast of letters, about mid-grey."""
    centred = pictures - pictures.mean(axis=(1, 2), keepdims=True)
    scaled: np.ndarray = centred * (CONTRAST / centred.std(axis=(1, 2), keepdims=True))
    return np.float32(0.5) + scaled


@dataclass(frozen=True)
class Kind:
    """A kind of made pictures: its classes and their ink.

    Attributes:
      names: of the classes.
      variants: number of things (fonts, places, ...) that the pictures of a class and split show in turn.
      ink: ink of pictures, 0 for paper and 1 for full.
    """

    names: tuple[str, ...]
    variants: Callable[[str, str], int]
    ink: Callable[[Together], Ink]


def load(store: Store, config: Made, kind: Kind) -> Domain:
    """Return the domain; nothing is made before it is read."""
    counts, shape = dump(config.per_class), (config.size, config.size, config.channels)
    labels = np.arange(len(kind.names), dtype=np.int32)

    def splits(seed: int, replicate: int) -> Mapping[str, Split]:
        made = {}
        for split, count in counts.items():
            maker = _Maker(store.name, config, kind, split, (seed, replicate))
            images = LazyRows(maker.read, np.arange(len(labels) * count), shape)
            made[split] = Split(images, np.repeat(labels, count))
        return made

    return Domain(store.name, config, kind.names, shape, store.digest, counts, splits, made=True)


@dataclass
class _Maker:
    """Pictures of a split in a replicate (`draw`: seed, number), class by class."""

    domain: str
    config: Made
    kind: Kind
    split: str
    draw: tuple[int, int]
    _blocks: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    def read(self, positions: Indices) -> UInt8[np.ndarray, "n size size channels"]:
        """Return pictures by their positions in the split, made when first read."""
        label, number = np.divmod(positions, getattr(self.config.per_class, self.split))
        block, place = np.divmod(number, _BLOCK)
        images = np.empty((len(positions), self.config.size, self.config.size, 1), np.uint8)
        for key in sorted(set(zip(label.tolist(), block.tolist(), strict=True))):
            if key not in self._blocks:
                with named(self.domain):
                    self._blocks[key] = self._block(*key)
            chosen = (label == key[0]) & (block == key[1])
            images[chosen, ..., 0] = self._blocks[key][place[chosen]]
        return np.repeat(images, self.config.channels, axis=-1)

    def _block(self, label: int, block: int) -> UInt8[np.ndarray, "count size size"]:
        """Make the pictures of one block."""
        (seed, replicate), jitter, name = self.draw, self.config.jitter, self.kind.names[label]
        stream = ("made", VERSION, self.config.kind, name, self.split, replicate)
        order = keys.generator(seed, *stream).permutation(self.kind.variants(name, self.split))
        variants = order[np.arange(block * _BLOCK, (block + 1) * _BLOCK) % len(order)]
        placing, drawing, disturbing = keys.generator(seed, *stream, block).spawn(3)
        uniform = placing.random((_BLOCK, 6), dtype=np.float32)
        placement = Placement.drawn(uniform[:, :5], jitter)
        drawn = Together(name, self.split, self.config.size, variants, placement, drawing)
        ink = self.kind.ink(drawn)
        ink = ink + np.float32(jitter.noise) * disturbing.standard_normal(ink.shape, np.float32)
        grey = PAPER + (INK - PAPER) * ink
        inverted = uniform[:, 5] < jitter.inverted
        grey[inverted] = 1 - grey[inverted]
        return np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8)
