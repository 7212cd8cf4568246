"""Kind `typed_script`: letters of matplotlib's bundled fonts under affine jitter and noise.

Every (letter, face, split) has streams of its own, read in the order of the images: more images, other
letters or other faces change none of the images drawn before, and no two splits share a draw.
"""

import functools
import unicodedata
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from convtl import keys
from convtl.config.domains import Jitter, TypedScriptConfig
from convtl.config.roles import content
from convtl.data import glyphs
from convtl.data.splits import Domain, Drawn, Store
from convtl.errors import UserError, unknown_name

VERSION = 1
"""Raised whenever code changes the pixels; part of the identity of every typed domain."""
PAPER, INK = 0.25, 0.75
"""Grey levels (0 to 1) of paper and full ink: room on both sides, so that noise is rarely clipped."""


def _spans(*spans: tuple[int, int]) -> str:
    """Join the characters of inclusive spans of code points."""
    return "".join(chr(code) for first, last in spans for code in range(first, last + 1))


SCRIPTS: dict[str, str] = {
    "latin": _spans((0x41, 0x5A), (0x61, 0x7A)),
    # the Russian alphabet
    "cyrillic": _spans((0x410, 0x42F), (0x401, 0x401), (0x430, 0x44F), (0x451, 0x451)),
    "greek": _spans((0x391, 0x3A1), (0x3A3, 0x3A9), (0x3B1, 0x3C9)),
    "armenian": _spans((0x531, 0x556), (0x561, 0x587)),
    "georgian": _spans((0x10A0, 0x10C5), (0x10D0, 0x10FA)),
    "hebrew": _spans((0x5D0, 0x5EA)),
    "lao": _spans((0xE81, 0xEAE), (0xEB0, 0xEB0), (0xEB2, 0xEB3), (0xEBD, 0xEBD))
    + _spans((0xEC0, 0xEC4), (0xEDC, 0xEDD)),
    # the plain syllables of Cree and its neighbours: no dots, rings or finals
    "canadian_syllabics": "ᐁᐃᐅᐊᐯᐱᐳᐸᑌᑎᑐᑕᑫᑭᑯᑲᒉᒋᒍᒐᒣᒥᒧᒪᓀᓂᓄᓇᓓᓕᓗᓚᓭᓯᓱᓴᔐᔑᔓᔕᔦᔨᔪᔭᕂᕆᕈᕋᕓᕕᕗᕙ",
    "lisu": _spans((0xA4D0, 0xA4F7)),
    "old_italic": _spans((0x10300, 0x1031E)),
}
"""Script -> its single, modern, unaccented letters, capitals first: of two letters that look alike the first
names the class. Code points without a glyph are skipped. DejaVu Sans has at least twelve letters of each."""


@functools.cache
def letters_of(config: TypedScriptConfig) -> tuple[str, ...]:
    """Return the class names: letters that every face has, of which no two look alike.

    Raises:
      UserError: a face or script is unknown, one of `letters` cannot be drawn, or fewer than two remain.
    """
    if config.letters is None and config.script not in SCRIPTS:
        raise unknown_name("script", config.script, SCRIPTS)
    letters = tuple(dict.fromkeys(config.letters or SCRIPTS[config.script]))
    faces = config.faces
    covered = frozenset.intersection(*(glyphs.coverage(face) for face in faces))
    drawable = [letter for letter in letters if ord(letter) in covered]
    named = tuple(letter for letter in drawable if unicodedata.category(letter)[0] != "C")
    classes = glyphs.distinct(named, faces, config.lookalike)
    if len(classes) < 2 or (config.letters and len(drawable) < len(letters)):
        missing = "".join(letter for letter in letters if ord(letter) not in covered)
        script = f"script: got '{config.script}'"
        given = f"letters: got {missing or config.letters!r}" if config.letters else script
        raise UserError(
            f"{given} in the faces {', '.join(faces)}, which leave {len(classes)} letters that all have and that "
            f"look like no other (lookalike={config.lookalike:g}); accepted: letters of every face, at least 2"
        )
    return classes


def unlike_letters(source: TypedScriptConfig, target: TypedScriptConfig) -> tuple[int, ...]:
    """Return the indices of the source's letters that look like no letter of the target.

    They are compared in the faces of both, with the stricter of their thresholds.
    """
    faces = dict.fromkeys((*source.faces, *target.faces))
    similar = glyphs.similarity(letters_of(source), letters_of(target), faces)
    threshold = min(source.lookalike, target.lookalike)
    return tuple(index for index, row in enumerate(similar) if not (row >= threshold).any())


def identity(config: TypedScriptConfig) -> dict[str, Any]:
    """Return all that determines the images: parameters, letters, font files, the code's version."""
    return {
        **content(config),
        "letters": list(letters_of(config)),
        "fonts": [glyphs.face_digest(face) for face in config.faces],
        "rendering": VERSION,
    }


def load(config: TypedScriptConfig, store: Store) -> Domain:
    """Return the domain; image i of a split is drawn in face i modulo the number of its faces."""
    letters, faces = letters_of(config), config.faces

    def draw(index: int, split: str, count: int) -> Drawn:
        images = np.empty((count, config.size, config.size), np.uint8)
        for place, face in enumerate(faces):
            share = len(range(place, count, len(faces)))
            reference = glyphs.reference(letters[index], face, config.size)
            rng = keys.generator(0, "typed_script", VERSION, letters[index], face, split)
            drawn = disturbed(reference, share, config.size, config.jitter, rng)
            images[place :: len(faces)] = drawn
        return images, np.arange(count, dtype=np.int32) % np.int32(len(faces))

    return store.synthetic(config, letters, draw)


def disturbed(
    reference: Float[np.ndarray, "side side"],
    count: int,
    size: int,
    jitter: Jitter,
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "count size size"]:
    """Return `count` disturbed images of a letter; the first of them do not depend on `count`."""
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
    """Return matrices from image pixels (x, y) to those of the undisturbed letter, and shifts in pixels."""
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
    """Read ink at the pixel centres: the nearest of the reference's pixels, 1/16 image pixel apart."""
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
