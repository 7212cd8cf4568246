"""Redact what looks like a key, a token or a password in whatever is written down.

A heuristic for accidents, no promise: known shapes, and the values of environment variables with telling names.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

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
