"""Typed scripts: which letters are classes, what determines their images, which look like another's."""

import functools
import unicodedata
from typing import Any

from convtl.config import roles
from convtl.config.domains import TypedScriptConfig
from convtl.data import glyphs, rendering
from convtl.data.scripts import candidates
from convtl.errors import UserError


def all_faces(content: TypedScriptConfig) -> tuple[str, ...]:
    """The faces of all splits, those of training first; strata count in this order."""
    return tuple(dict.fromkeys((*content.faces, *(content.test_faces or ()))))


def faces_of(content: TypedScriptConfig, split: str) -> tuple[str, ...]:
    """The faces in which the images of a split are drawn, in turn."""
    return content.test_faces if split == "test" and content.test_faces else content.faces


@functools.cache
def letters_of(content: TypedScriptConfig) -> tuple[str, ...]:
    """Class names: the letters that every face can draw and of which no two look alike.

    Raises:
      UserError: a face or a script is unknown, a letter that was asked for cannot be drawn, or fewer than
        two letters are left.
    """
    known = tuple(dict.fromkeys(content.letters)) if content.letters else candidates(content.script)
    faces = all_faces(content)
    covered = [glyphs.coverage(face) for face in faces]
    drawable = tuple(letter for letter in known if all(ord(letter) in face for face in covered))
    missing = [letter for letter in known if letter not in drawable]
    if content.letters and missing:
        raise UserError(
            f"letters: got {missing[0]!r} (U+{ord(missing[0]):04X}), which not every one of the faces "
            f"{', '.join(faces)} has; accepted: characters that all of them have"
        )
    named = tuple(letter for letter in drawable if unicodedata.category(letter)[0] != "C")
    kept = glyphs.distinct(named, faces, content.lookalike)
    if len(kept) < 2:
        key, given = ("letters", content.letters) if content.letters else ("script", content.script)
        raise UserError(
            f"{key}: got {given!r} with {len(kept)} letter{'s' * (len(kept) != 1)} that every one of the faces "
            f"{', '.join(faces)} has and that look like no other (lookalike={content.lookalike:g}); "
            "accepted: with at least 2"
        )
    return kept


def typed_identity(content: TypedScriptConfig) -> dict[str, Any]:
    """All that determines the images: parameters, letters, font files, the code's version."""
    written = roles.content(content)
    if content.test_faces is None:
        written.pop(
            "test_faces", None
        )  # the identity of domains that were there before there was such a key
    return {
        **written,
        "letters": list(letters_of(content)),
        "fonts": [glyphs.face_digest(face) for face in all_faces(content)],
        "rendering": rendering.VERSION,
    }


def strangers(source: TypedScriptConfig, target: TypedScriptConfig) -> tuple[int, ...]:
    """Indices of the source's letters that look like no letter of the target.

    Compared in the faces of both, with the stricter of their thresholds.
    """
    faces = dict.fromkeys((*all_faces(source), *all_faces(target)))
    alike = glyphs.similarity(letters_of(source), letters_of(target), faces)
    threshold = min(source.lookalike, target.lookalike)
    return tuple(index for index, row in enumerate(alike) if not (row >= threshold).any())
