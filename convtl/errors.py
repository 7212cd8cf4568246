"""What convtl tells a user who asked for something that cannot be done."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend: shown as one plain line, never as a traceback (exit code 2)."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns ` Did you mean A or B?` for the known names nearest to `word`, or nothing."""
    close = difflib.get_close_matches(str(word), [str(name) for name in known], n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def unknown_name(key: str, word: str, known: Iterable[str]) -> UserError:
    """The error for a name that no registry holds: the key, what was given, what is accepted."""
    names = sorted(str(name) for name in known)
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return UserError(f"{key}: unknown name '{word}'; known: {listed or 'none'}.{nearest(word, names)}")
