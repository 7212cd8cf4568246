"""One-line errors for users, and texts without secrets."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class UserError(Exception):
    """A mistake that the user can correct, shown as one line without a traceback."""

    code = 2
    """exit code of the command"""


class StorageError(UserError):
    """A failure of the file system: a full disk, no rights, a vanished folder."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean A or B?` for known names near `word`, or nothing."""
    close = difflib.get_close_matches(str(word), [str(name) for name in known], n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def unknown_name(key: str, word: str, known: Iterable[str]) -> UserError:
    """Return the error for an unknown name, with the known ones."""
    names = sorted(str(name) for name in known)
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return UserError(
        f"{key}: unknown name '{word}'; known: {listed or 'none'}.{nearest(word, names)}"
    )


def printable(text: str) -> str:
    """Return a text as one line, with control characters as Python escapes them."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shown(value: Any) -> str:
    """Return a value as YAML spells it."""
    text = repr(value)
    return {"None": "null", "True": "true", "False": "false"}.get(text, text)


_ACCEPTED = {
    "too_short": "at least one value",
    "string_too_short": "text that is not empty",
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "keys with values",
    "dataclass_type": "keys with values",
    "model_attributes_type": "keys with values",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "less than {lt:g}",
}
"""Type of pydantic's finding -> accepted values, in words."""


def accepted_by(item: Mapping[str, Any]) -> str:
    """Return the accepted values for one finding of `ValidationError.errors()`."""
    if item["type"] in _ACCEPTED:
        return _ACCEPTED[item["type"]].format(**item.get("ctx", {}))
    text = str(item["msg"]).removeprefix("Input should be ").removeprefix("a valid ")
    return text if text[:1] in "'\"" else f"{text[0].lower()}{text[1:]}"


# --- secrets -------------------------------------------------------------------------------
# A heuristic for accidents, no promise: known shapes, and the values of environment variables with telling names.

_SHAPES = re.compile(
    "|".join(
        (
            r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)",  # user:password in an address
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
            r"(?i:(?<=bearer )[\w.~+/-]{16,}=*)",
            r"(?i:(?<=password[=:])[^\s,;&}'\"]+|(?<=passwd[=:])[^\s,;&}'\"]+)",
            r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",  # JSON web tokens
            r"\b(?:hf_|npm_|sk_live_|rk_live_|sk-|gh[pousr]_|github_pat_|glpat-)[\w-]{20,}",
            r"\bxox[abprs]-\d{6,}[\w-]+",  # Slack
            r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",  # AWS
            r"\bwandb_v\d+_\w{40,}",
        )
    ),
    re.DOTALL,
)
_VARIABLES = re.compile(
    r"(^|_)(API_?KEYS?|KEYS?|TOKENS?|SECRETS?|PASSWORD|PASS(WD)?|PAT)(_|$)", re.I
)
_REDACTED = "[secret]"


def redacted(text: str) -> str:
    """Return a text without what looks like a secret in it."""
    for name, value in os.environ.items():
        # Short values would be found in innocent texts, and the paths of key files are no secrets.
        if _VARIABLES.search(name) and len(value) >= 8 and not os.path.lexists(value):
            text = text.replace(value, _REDACTED)
    return _SHAPES.sub(_REDACTED, text)


def redact(data: Any) -> Any:
    """Return plain data, however deep, with its texts redacted."""
    if isinstance(data, Mapping):
        return {redact(key): redact(value) for key, value in data.items()}
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return [redact(item) for item in data]
    return redacted(data) if isinstance(data, str) else data
