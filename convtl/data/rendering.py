"""Images of typed letters under random affine jitter and noise.

Every (letter, face, split) has streams of its own, read in the order of the images, so that asking for more
images, other letters or other faces changes none of the images that were there before, and no two splits
share a draw.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int32, UInt8

from convtl import keys
from convtl.config.domains import Jitter
from convtl.data import glyphs

PAPER, INK = 0.25, 0.75
"""Grey levels (0 to 1) of paper and full ink: room on both sides, so that noise is rarely clipped."""
VERSION = 1
"""Raised whenever code changes the pixels; part of the identity of every typed domain."""


@dataclass(frozen=True)
class Letters:
    """Images of one letter: `images` uint8 (n, size, size), `faces` int32 (n,) index into the faces."""

    images: UInt8[np.ndarray, "n size size"]
    faces: Int32[np.ndarray, " n"]


class LetterRenderer:
    """Draws one letter in several faces; the high-resolution references are made once for all splits."""

    def __init__(self, letter: str, faces: tuple[str, ...], size: int, jitter: Jitter) -> None:
        self._letter, self._faces, self._size, self._jitter = letter, faces, size, jitter
        self._references = [glyphs.reference(letter, face, size) for face in faces]

    def draw(self, split: str, count: int) -> Letters:
        """`count` images of a split; image i is drawn in face i modulo the number of faces."""
        images = np.empty((count, self._size, self._size), np.uint8)
        for index, (face, reference) in enumerate(zip(self._faces, self._references, strict=True)):
            share = len(range(index, count, len(self._faces)))
            stream = ("typed_script", VERSION, self._letter, face, split)
            if share:
                images[index :: len(self._faces)] = _draw(
                    reference, share, self._size, self._jitter, keys.generator(0, *stream)
                )
        return Letters(images, np.arange(count, dtype=np.int32) % len(self._faces))


def _draw(
    reference: Float[np.ndarray, "side side"],
    count: int,
    size: int,
    jitter: Jitter,
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "count size size"]:
    """`count` disturbed images of one reference; the first of them do not depend on `count`."""
    placing, disturbing = rng.spawn(2)
    uniform = placing.random((count, 6), dtype=np.float32)
    ink = _sample(reference, *_placement(uniform, jitter), size)
    if jitter.noise:
        ink += np.float32(jitter.noise) * disturbing.standard_normal(ink.shape, dtype=np.float32)
    grey = PAPER + (INK - PAPER) * ink
    inverted = uniform[:, 5] < jitter.inverted
    grey[inverted] = 1 - grey[inverted]
    return np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8)


def _placement(
    uniform: Float[np.ndarray, "count 6"], jitter: Jitter
) -> tuple[Float[np.ndarray, "count 2 2"], Float[np.ndarray, "count 2"]]:
    """Matrices from image pixels (x, y) to those of the undisturbed letter, and shifts in pixels."""
    signed = 2 * uniform - 1
    angle = np.deg2rad(jitter.rotation) * signed[:, 0]
    scale = 1 + jitter.scale * signed[:, 1]
    shear = jitter.shear * signed[:, 2]
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    # letter -> image is scale * rotation * shear; this is its inverse
    inverse = np.stack(
        [np.stack([cos + shear * sin, sin - shear * cos], -1), np.stack([-sin, cos], -1)], axis=1
    )
    return inverse.astype(np.float32), (jitter.shift * signed[:, 3:5]).astype(np.float32)


def _sample(
    reference: Float[np.ndarray, "side side"],
    inverse: Float[np.ndarray, "count 2 2"],
    shift: Float[np.ndarray, "count 2"],
    size: int,
) -> Float[np.ndarray, "count size size"]:
    """Ink at the pixel centres; the nearest of the reference's pixels, 1/16 image pixel apart, is read."""
    side = reference.shape[0]
    centres = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    x = ((centres - shift[:, :1]) * glyphs.OVERSAMPLING)[:, None, :]
    y = ((centres - shift[:, 1:]) * glyphs.OVERSAMPLING)[:, :, None]
    middle = np.float32(side / 2)
    column = inverse[:, 0, 0, None, None] * x + (inverse[:, 0, 1, None, None] * y + middle)
    row = inverse[:, 1, 0, None, None] * x + (inverse[:, 1, 1, None, None] * y + middle)
    # The outermost pixels of the reference are empty, so clipping reads paper.
    column = np.clip(column, 0, side - 1, out=column).astype(np.int32)
    row = np.clip(row, 0, side - 1, out=row).astype(np.int32)
    row *= side
    row += column
    return reference.ravel()[row]


def draw_all(
    letters: tuple[str, ...],
    faces: tuple[str, ...],
    size: int,
    jitter: Jitter,
    counts: dict[str, int],
) -> Iterator[tuple[int, str, Letters]]:
    """Yields (index of the letter, split, images) for every letter and split."""
    for index, letter in enumerate(letters):
        renderer = LetterRenderer(letter, faces, size, jitter)
        for split, count in counts.items():
            yield index, split, renderer.draw(split, count)
