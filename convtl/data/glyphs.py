"""Glyphs of matplotlib's bundled fonts: the faces, what they cover, how their letters look.

The fonts are read by file, never through matplotlib's fallback: the "Last Resort" font claims every code
point and would draw the same placeholder box for all.
"""

import functools
import hashlib
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import uniform_filter

from convtl.errors import UserError, unknown_name

_CAPITAL_SHARE = 0.5
"""Height of the face's capital H as a share of the image's side."""
_LARGEST_SHARE = 0.82
"""No glyph extends further than this share of the side; the few larger ones are drawn smaller."""
OVERSAMPLING = 16
"""Reference pixels in one image pixel, along each axis."""
_COMPARED = 32
"""Side of the square on which glyphs are compared."""
_FINE = 480.0
"""Pixels an em at which they are drawn for that: fine, so that no position is rounded noticeably."""


@functools.cache
def face_files() -> dict[str, Path]:
    """Return name of each usable bundled face -> its font file ("DejaVu Sans", "DejaVu Sans Bold", ...)."""
    import matplotlib  # heavy, and only used where letters are drawn

    files: dict[str, Path] = {}
    for path in sorted((Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("*.ttf")):
        font = _open(path)
        if not font.family_name.startswith("Last Resort"):
            style = "" if font.style_name in ("Book", "Regular") else f" {font.style_name}"
            files[f"{font.family_name}{style}"] = path
    return files


@functools.cache
def _open(path: Path):  # type: ignore[no-untyped-def]  # FT2Font is typed only in newer matplotlib
    from matplotlib.ft2font import FT2Font

    return FT2Font(str(path))


def _face_file(face: str) -> Path:
    if face not in face_files():
        raise unknown_name("faces", face, face_files())
    return face_files()[face]


@functools.cache
def face_digest(face: str) -> str:
    """Return the hex digest of a face's font file."""
    return hashlib.sha256(_face_file(face).read_bytes()).hexdigest()[:16]


@functools.cache
def coverage(face: str) -> frozenset[int]:
    """Return the code points for which the face itself holds a glyph.

    Raises:
      UserError: there is no such face among the bundled ones.
    """
    return frozenset(_open(_face_file(face)).get_charmap())


@functools.cache
def _capital_height(face: str) -> float:
    """Return the height of H in pixels when the font is set at 1 pixel an em."""
    return _bitmap("H", face, 1000.0).shape[0] / 1000.0


def _bitmap(letter: str, face: str, pixels: float) -> UInt8[np.ndarray, "height width"]:
    """Return the ink (0-255, area coverage) of a letter, cropped to its bounding box; `pixels` an em."""
    from matplotlib.ft2font import LoadFlags

    shown = f"letters: got {letter!r} (U+{ord(letter):04X})"
    if ord(letter) not in coverage(face):
        raise UserError(
            f"{shown}, for which the face '{face}' has no glyph; accepted: characters that it has"
        )
    font = _open(_face_file(face))
    font.set_size(pixels, 72)  # points at 72 dots an inch are pixels
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph is only a warning in matplotlib
        font.set_text(letter, 0.0, flags=LoadFlags.NO_HINTING)
    font.draw_glyphs_to_bitmap(antialiased=True)
    ink = np.asarray(font.get_image())
    rows, columns = np.nonzero(ink.any(axis=1))[0], np.nonzero(ink.any(axis=0))[0]
    if not rows.size:
        raise UserError(
            f"{shown}, which has no ink in the face '{face}'; accepted: characters with ink"
        )
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _centred(ink: UInt8[np.ndarray, "height width"], side: int) -> UInt8[np.ndarray, "side side"]:
    square = np.zeros((side, side), np.uint8)
    top, left = (side - ink.shape[0]) // 2, (side - ink.shape[1]) // 2
    square[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return square


@functools.lru_cache(maxsize=8)  # as many faces of one letter
def reference(letter: str, face: str, size: int) -> Float[np.ndarray, "side side"]:
    """Return a letter at `OVERSAMPLING` times the resolution of a `size` x `size` image, ready to be sampled.

    All letters of a face keep their sizes relative to its capitals (small letters stay small); each is
    centred by its bounding box. Each value is the ink (0 to 1) averaged over one image pixel around it, so
    reading it at the centre of a pixel is area-correct antialiasing; the border is empty.
    """
    pixels = _CAPITAL_SHARE * size * OVERSAMPLING / _capital_height(face)
    ink = _bitmap(letter, face, pixels)
    largest = _LARGEST_SHARE * size * OVERSAMPLING
    if max(ink.shape) > largest:
        ink = _bitmap(letter, face, pixels * largest / (max(ink.shape) + 1))
    canvas = _centred(ink, (size + 2) * OVERSAMPLING).astype(np.float32)
    canvas /= 255
    return uniform_filter(canvas, OVERSAMPLING, mode="constant")


@functools.cache
def shape_vector(letter: str, face: str) -> Float[np.ndarray, "pixels"]:
    """Return a letter's shape whatever its size, as a vector of mean 0 and norm 1.

    The bounding box is scaled, keeping its proportions, until its longer side fills a common square. The
    product of two such vectors is the Pearson correlation of the size-normalised glyphs.
    """
    from PIL import Image

    ink = _bitmap(letter, face, _FINE)
    square = Image.fromarray(_centred(ink, max(ink.shape)))
    reduced = square.resize((_COMPARED, _COMPARED), Image.Resampling.BOX)
    shape = np.asarray(reduced, np.float32).ravel()
    shape = shape - shape.mean()
    norm = float(np.linalg.norm(shape))
    # A letter that is nothing but its bounding box has no shape; it is like no other.
    return shape / norm if norm else shape


def similarity(
    letters: Sequence[str], others: Sequence[str], faces: Iterable[str]
) -> Float[np.ndarray, "letters others"]:
    """Return the size-normalised correlation of glyphs, the largest over the faces.

    Letters are compared in one and the same face, so that fonts do not hide that two letters are alike;
    pairs of which a face does not have both are passed over in it (-1 if no face has both).
    """
    best = np.full((len(letters), len(others)), -1.0, np.float32)
    for face in faces:
        rows, columns = (
            [index for index, letter in enumerate(side) if ord(letter) in coverage(face)]
            for side in (letters, others)
        )
        if rows and columns:
            left = np.stack([shape_vector(letters[index], face) for index in rows])
            right = np.stack([shape_vector(others[index], face) for index in columns])
            here = np.ix_(rows, columns)
            best[here] = np.maximum(best[here], left @ right.T)
    return best


def distinct(letters: Sequence[str], faces: Sequence[str], lookalike: float) -> tuple[str, ...]:
    """Return the letters of which no two look alike: of those that do, the first."""
    similar = similarity(letters, letters, faces) >= lookalike
    chosen: list[int] = []
    for index in range(len(letters)):
        if not similar[index, chosen].any():
            chosen.append(index)
    return tuple(letters[index] for index in chosen)
