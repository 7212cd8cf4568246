"""Keys, tokens and passwords that this process could know, and that must never be written down.

A config or a command line that holds one is refused; texts that others make (reasons of failures) are redacted.
"""

import json
import netrc
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from convtl.errors import UserError

_NAMES = re.compile(
    r"(^|_)(API_?KEY|KEYS?|TOKENS?|SECRETS?|(PG)?PASSWORD|PASSWD|PASS|PAT|PASSPHRASE|CREDENTIALS?)(_|$)|_PWD$",
    re.I,
)
"""Environment variables that hold a secret, by their names."""
_SHORTEST = 8
"""Characters of a secret at least: shorter ones would be found in innocent texts."""
_SHAPES = re.compile(
    r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # user:password in an address
    r"|\b(?:hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{50,}|glpat-[\w-]{20,}"
    r"|sk-(?:\w+-)?[A-Za-z0-9]{20,}|sk-ant-[\w-]{30,}|xox[abprs]-\d{6,}[\w-]+|AKIA[0-9A-Z]{16}|wandb_v\d+_\w{40,})\b"
)
"""What is a secret by its looks, whether it is known here or not."""
_GONE = "[secret]"


def looks_secret(variable: str) -> bool:
    """Whether an environment variable of this name holds a secret."""
    return _NAMES.search(variable) is not None


def redacted(text: str) -> str:
    """The text without the secrets in it."""
    for value in sorted(_known(), key=len, reverse=True):
        for spelt in {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}:
            text = text.replace(spelt, _GONE)
    return _SHAPES.sub(_GONE, text)


def redact(data: Any) -> Any:
    """Plain data, however deep, without the secrets in it."""
    if isinstance(data, Mapping):
        return {redact(key): redact(value) for key, value in data.items()}
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return [redact(item) for item in data]
    return redacted(data) if isinstance(data, str) else data


def refuse_secrets(content: Mapping[str, Any]) -> None:
    """Refuses a config that holds a secret: it would be kept with the results.

    Raises:
      UserError: it does; the line names the key and the secret's name, never its value.
    """
    for key, text in _texts(content):
        if name := _name_of_secret_in(text):
            raise UserError(
                f"{key}: holds {name}, which would be written to the results; accepted: no secrets"
            )


def refuse_typed_secrets(words: Sequence[str]) -> None:
    """As `refuse_secrets`, for a command line, which is recorded as it was typed.

    Raises:
      UserError: a word holds a secret.
    """
    for word in words:
        key, _, value = word.partition("=")
        refuse_secrets({key.lstrip("+~"): value} if value else {"the command line": word})


def _texts(data: Any, above: str = "") -> Iterator[tuple[str, str]]:
    """(key, text) of all texts in plain data; keys are texts too."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield above or "configuration", str(key)
            yield from _texts(value, f"{above}.{key}" if above else str(key))
    elif isinstance(data, Sequence) and not isinstance(data, str | bytes):
        for item in data:
            yield from _texts(item, above)
    elif isinstance(data, str | int):  # a key of digits alone is read as a number
        yield above, str(data)


def _name_of_secret_in(text: str) -> str | None:
    for value, name in _known().items():
        if value in text:
            return name
    return "what looks like a key or a password" if _SHAPES.search(text) else None


def _known() -> dict[str, str]:
    """Value -> what a user knows it by."""
    found = {
        value: f"the value of {name}"
        for name, value in os.environ.items()
        if looks_secret(name) and len(value) >= _SHORTEST and not os.path.lexists(value)
    }
    return {value: f"the password of {host} in netrc" for host, value in _passwords()} | found


def _passwords() -> Iterator[tuple[str, str]]:
    """(host, password) in the files where `wandb login` and others keep them."""
    named = os.environ.get("NETRC")
    for path in (named,) if named else ("~/.netrc", "~/_netrc"):
        try:
            hosts = netrc.netrc(Path(path).expanduser()).hosts
        except (OSError, RuntimeError, netrc.NetrcParseError, UnicodeDecodeError):
            continue
        for host, (_, _, password) in hosts.items():
            if password and len(password) >= _SHORTEST:
                yield host, password
