"""Kind `typed_script`: letters of matplotlib's bundled fonts; their jitter and noise are `data/made.py`'s."""

import functools
from typing import Any

import numpy as np

from convtl.config.domains import TypedScriptConfig
from convtl.config.roles import content
from convtl.data import glyphs, made
from convtl.data.splits import Domain, Store
from convtl.errors import UserError, unknown_name

VERSION = 2
"""Raised whenever code changes the pixels."""


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
"""Script -> its letters, each in one form: small ones where there are capitals, no accented ones, no ligatures, none
that are only written at the end of a word. Code points without a glyph are skipped."""


@functools.cache
def letters_of(config: TypedScriptConfig) -> tuple[str, ...]:
    """Return the class names: letters that every face has, of which no two look alike.

    Raises:
      UserError: a face or script is unknown, or fewer than two letters remain.
    """
    if config.script not in SCRIPTS:
        raise unknown_name("script", config.script, SCRIPTS)
    faces = config.faces
    covered = frozenset.intersection(*(glyphs.coverage(face) for face in faces))
    letters = [letter for letter in SCRIPTS[config.script] if ord(letter) in covered]
    classes = glyphs.distinct(letters, faces, config.lookalike)
    if len(classes) < 2:
        raise UserError(
            f"script: got '{config.script}' in the faces {', '.join(faces)}, which leave {len(classes)} letters that "
            f"all have and that look like no other (lookalike={config.lookalike:g}); accepted: at least 2"
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
        "version": [VERSION, made.VERSION],
    }


def load(config: TypedScriptConfig, store: Store) -> Domain:
    """Return the domain."""
    return made.load(store, config, _Letters(config))


class _Letters:
    """Pictures of a letter show it in every face in turn."""

    def __init__(self, config: TypedScriptConfig) -> None:
        self.names, self._faces = letters_of(config), config.faces

    def variants(self, name: str, split: str) -> int:
        return len(self._faces)

    def ink(self, batch: made.Batch) -> made.Ink:
        ink = np.empty((len(batch.variants), batch.size, batch.size), np.float32)
        for index, face in enumerate(self._faces):
            chosen = np.flatnonzero(batch.variants == index)
            letter = glyphs.reference(batch.name, face, batch.size)
            # The middle lies between pixels, and the average around a pixel is taken half a pixel before it.
            centre = [side / 2 for side in letter.shape]
            placement = batch.placement.at(chosen)
            ink[chosen] = placement.read(letter, batch.size, glyphs.OVERSAMPLING, centre)
        return ink
