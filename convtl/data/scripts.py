"""The letters of the scripts that matplotlib's bundled fonts can draw.

Every script here is covered by all four faces of DejaVu Sans with at least twelve distinct letters; only
single, modern, unaccented letters are listed. Capitals come first where a script has them, so that of two
letters that look alike the capital names the class.
"""

from convtl.errors import unknown_name


def _spans(*spans: tuple[int, int]) -> str:
    """The characters of inclusive spans of code points."""
    return "".join(chr(code) for first, last in spans for code in range(first, last + 1))


SCRIPTS: dict[str, str] = {
    "latin": _spans((0x41, 0x5A), (0x61, 0x7A)),
    # the Russian alphabet
    "cyrillic": _spans((0x410, 0x42F), (0x401, 0x401), (0x430, 0x44F), (0x451, 0x451)),
    "greek": _spans((0x391, 0x3A1), (0x3A3, 0x3A9), (0x3B1, 0x3C9)),
    "armenian": _spans((0x531, 0x556), (0x561, 0x587)),
    "georgian": _spans((0x10A0, 0x10C5), (0x10D0, 0x10FA)),
    "hebrew": _spans((0x5D0, 0x5EA)),
    "lao": _spans(
        (0xE81, 0xEAE),
        (0xEB0, 0xEB0),
        (0xEB2, 0xEB3),
        (0xEBD, 0xEBD),
        (0xEC0, 0xEC4),
        (0xEDC, 0xEDD),
    ),
    # the plain syllables of Cree and its neighbours: no dots, rings or finals
    "canadian_syllabics": "ᐁᐃᐅᐊᐯᐱᐳᐸᑌᑎᑐᑕᑫᑭᑯᑲᒉᒋᒍᒐᒣᒥᒧᒪᓀᓂᓄᓇᓓᓕᓗᓚᓭᓯᓱᓴᔐᔑᔓᔕᔦᔨᔪᔭᕂᕆᕈᕋᕓᕕᕗᕙ",
    "lisu": _spans((0xA4D0, 0xA4F7)),
    "old_italic": _spans((0x10300, 0x1031E)),
}
"""Script -> its letters; code points without a glyph (some spans have such holes) are skipped when drawn."""


def candidates(script: str) -> tuple[str, ...]:
    """All letters of a script, capitals first; a font need not have them all.

    Raises:
      UserError: the script is not known.
    """
    if script not in SCRIPTS:
        raise unknown_name("script", script, SCRIPTS)
    return tuple(SCRIPTS[script])
