"""Kind `typed_script`: letters of matplotlib's bundled fonts.

The fonts are read by file, never through matplotlib's fallback: the "Last Resort" font claims every code point and
would draw the same placeholder box for all.
"""

import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.ndimage import uniform_filter

from convtl.config.domains import TypedScriptConfig
from convtl.config.values import content
from convtl.data import made
from convtl.data.splits import Domain, Store
from convtl.errors import UserError, unknown_name

VERSION = 2
"""Raised when code changes the pixels."""
OVERSAMPLING = 4
"""Reference pixels in one image pixel, along each axis."""
_COMPARED = 32
"""Side of the square on which glyphs are compared."""


def _spans(*spans: tuple[int, int]) -> str:
    """Join the characters of inclusive spans of code points."""
    return "".join(chr(code) for first, last in spans for code in range(first, last + 1))


SCRIPTS: dict[str, str] = {
    "latin": _spans((0x61, 0x7A)),
    "cyrillic": _spans((0x430, 0x438), (0x43A, 0x44F)),  # the Russian alphabet, without й and ё
    "greek": _spans((0x3B1, 0x3C1), (0x3C3, 0x3C9)),
    "armenian": _spans((0x561, 0x586)),
    "georgian": _spans((0x10D0, 0x10FA)),
    "hebrew": "אבגדהוזחטיכלמנסעפצקרשת",
    "lao": _spans((0xE81, 0xEAE), (0xEB0, 0xEB0), (0xEB2, 0xEB3), (0xEBD, 0xEBD))
    + _spans((0xEC0, 0xEC4)),
    # the plain syllables of Cree and its neighbours: no dots, rings or finals
    "canadian_syllabics": "ᐁᐃᐅᐊᐯᐱᐳᐸᑌᑎᑐᑕᑫᑭᑯᑲᒉᒋᒍᒐᒣᒥᒧᒪᓀᓂᓄᓇᓓᓕᓗᓚᓭᓯᓱᓴᔐᔑᔓᔕᔦᔨᔪᔭᕂᕆᕈᕋᕓᕕᕗᕙ",
    "lisu": _spans((0xA4D0, 0xA4F7)),
    "old_italic": _spans((0x10300, 0x1031E)),
}
"""Script -> its letters, each in one form: no capitals, accents, ligatures or final forms."""


@functools.cache
def letters_of(config: TypedScriptConfig) -> tuple[str, ...]:
    """Return the class names: distinct letters of all faces; UserError below two."""
    if config.script not in SCRIPTS:
        raise unknown_name("script", config.script, SCRIPTS)
    faces = config.faces
    covered = frozenset.intersection(*(coverage(face) for face in faces))
    letters = [letter for letter in SCRIPTS[config.script] if ord(letter) in covered]
    classes = distinct(letters, faces, config.lookalike)
    if len(classes) < 2:
        raise UserError(
            f"script: got '{config.script}' in the faces {', '.join(faces)}, which leave {len(classes)} letters that "
            f"all have and that look like no other (lookalike={config.lookalike:g}); accepted: at least 2"
        )
    return classes


def unlike_letters(source: TypedScriptConfig, target: TypedScriptConfig) -> tuple[int, ...]:
    """Return indices of source letters that look like no target letter in any face."""
    faces = dict.fromkeys((*source.faces, *target.faces))
    similar = similarity(letters_of(source), letters_of(target), faces)
    threshold = min(source.lookalike, target.lookalike)
    return tuple(index for index, row in enumerate(similar) if not (row >= threshold).any())


def identity(config: TypedScriptConfig) -> dict[str, Any]:
    """Return all that determines the images: parameters, letters, fonts, version."""
    return {
        **content(config),
        "letters": list(letters_of(config)),
        "fonts": [
            hashlib.sha256(face_files()[face].read_bytes()).hexdigest()[:16]
            for face in config.faces
        ],
        "version": [VERSION, made.VERSION],
    }


def load(config: TypedScriptConfig, store: Store) -> Domain:
    """Return the domain; pictures of a letter show it in every face in turn."""
    ink = functools.partial(_letters, config.faces)
    kind = made.Kind(letters_of(config), lambda name, split: len(config.faces), ink)
    return made.load(store, config, kind)


def _letters(faces: Sequence[str], drawn: made.Together) -> made.Ink:
    """Return pictures of a letter in faces."""
    ink = np.empty((len(drawn.variants), drawn.size, drawn.size), np.float32)
    for index, face in enumerate(faces):
        chosen = np.flatnonzero(drawn.variants == index)
        letter = reference(drawn.name, face, drawn.size)
        # The middle lies between pixels, and the average around a pixel is taken half a pixel before it.
        centre = [side / 2 for side in letter.shape]
        placement = drawn.placement.at(chosen)
        ink[chosen] = placement.read(letter, drawn.size, OVERSAMPLING, centre)
    return ink


@functools.cache
def face_files() -> dict[str, Path]:
    """Return face name ("DejaVu Sans Bold", ...) -> font file."""
    import matplotlib  # heavy, and only used where letters are drawn

    files: dict[str, Path] = {}
    for path in sorted((Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("*.ttf")):
        font = _font(path)
        if not font.family_name.startswith("Last Resort"):
            style = "" if font.style_name in ("Book", "Regular") else f" {font.style_name}"
            files[f"{font.family_name}{style}"] = path
    return files


@functools.cache
def _font(path: Path):  # type: ignore[no-untyped-def]  # FT2Font is typed only in newer matplotlib
    from matplotlib.ft2font import FT2Font

    return FT2Font(str(path))


@functools.cache
def coverage(face: str) -> frozenset[int]:
    """Return the code points that a face has glyphs for; UserError if it is unknown."""
    if face not in face_files():
        raise unknown_name("faces", face, face_files())
    return frozenset(_font(face_files()[face]).get_charmap())


def _bitmap(letter: str, face: str, pixels: float) -> UInt8[np.ndarray, "height width"]:
    """Return a letter's ink (0-255, coverage) at `pixels` an em, cropped to its box."""
    from matplotlib.ft2font import LoadFlags

    ink = np.zeros((1, 1), np.uint8)
    if ord(letter) in coverage(face):
        font = _font(face_files()[face])
        font.set_size(pixels, 72)  # points at 72 dots an inch are pixels
        font.set_text(letter, 0.0, flags=LoadFlags.NO_HINTING)
        font.draw_glyphs_to_bitmap(antialiased=True)
        ink = np.asarray(font.get_image())
    rows, columns = np.nonzero(ink.any(axis=1))[0], np.nonzero(ink.any(axis=0))[0]
    if not rows.size:
        raise UserError(
            f"faces: got '{face}', in which {letter!r} (U+{ord(letter):04X}) has no ink; accepted: faces that have it"
        )
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _centred(ink: UInt8[np.ndarray, "height width"], side: int) -> UInt8[np.ndarray, "side side"]:
    square = np.zeros((side, side), np.uint8)
    top, left = (side - ink.shape[0]) // 2, (side - ink.shape[1]) // 2
    square[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return square


@functools.lru_cache(maxsize=1024)  # 58 kB each at 28 pixels
def reference(letter: str, face: str, size: int) -> Float[np.ndarray, "side side"]:
    """Return a letter's ink (0 to 1) at `OVERSAMPLING` times the resolution.

    It is averaged over an image pixel. Letters keep their sizes relative to the face's capitals; each is centred by its
    bounding box in an empty border.
    """
    capital = _bitmap("H", face, 1000.0).shape[0] / 1000.0  # at 1 pixel an em
    pixels = 0.5 * size * OVERSAMPLING / capital  # H has half of the image's height
    ink = _bitmap(letter, face, pixels)
    largest = 0.82 * size * OVERSAMPLING  # the few larger glyphs are drawn smaller
    if max(ink.shape) > largest:
        ink = _bitmap(letter, face, pixels * largest / (max(ink.shape) + 1))
    canvas = _centred(ink, (size + 2) * OVERSAMPLING).astype(np.float32)
    canvas /= 255
    return uniform_filter(canvas, OVERSAMPLING, mode="constant")


@functools.cache
def shape_vector(letter: str, face: str) -> Float[np.ndarray, "pixels"]:
    """Return a glyph, scaled to a common square, as a vector of mean 0 and norm 1.

    The product of two is the Pearson correlation of size-normalised glyphs. Zeros where there is no shape.
    """
    if ord(letter) not in coverage(face):
        return np.zeros(_COMPARED**2, np.float32)
    ink = _bitmap(letter, face, 480.0)  # fine: no position is rounded noticeably
    square = Image.fromarray(_centred(ink, max(ink.shape)))
    reduced = square.resize((_COMPARED, _COMPARED), Image.Resampling.BOX)
    shape = np.asarray(reduced, np.float32).ravel()
    shape = shape - shape.mean()
    norm = float(np.linalg.norm(shape))
    return shape / norm if norm else shape  # some are nothing but their bounding box


def similarity(
    letters: Sequence[str], others: Sequence[str], faces: Iterable[str]
) -> Float[np.ndarray, "letters others"]:
    """Return the largest correlation of glyphs in the same face, at least 0."""
    best = np.zeros((len(letters), len(others)), np.float32)
    for face in faces:
        rows, columns = (
            np.array([shape_vector(letter, face) for letter in side]).reshape(-1, _COMPARED**2)
            for side in (letters, others)
        )
        best = np.maximum(best, rows @ columns.T)
    return best


def distinct(letters: Sequence[str], faces: Sequence[str], lookalike: float) -> tuple[str, ...]:
    """Return the letters that look like no earlier one of them."""
    similar = similarity(letters, letters, faces) >= lookalike
    chosen: list[int] = []
    for index, row in enumerate(similar):
        if not row[chosen].any():
            chosen.append(index)
    return tuple(letters[index] for index in chosen)
