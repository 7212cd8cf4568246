"""Plain data -> `Config`, or one line that says what was wrong: the key, what was given, what is accepted."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from convtl.config.domains import DomainConfig
from convtl.config.models import ModelConfig
from convtl.config.schema import Config
from convtl.config.training import RegimeConfig
from convtl.config.weights import WeightsConfig
from convtl.errors import UserError, accepted_by, nearest, printable, shown


def known_keys(kind: type = Config) -> list[str]:
    """Dotted names of the keys that a config takes (inside registries only the registry's own name)."""
    names: list[str] = []
    for item in fields(kind):
        names.append(item.name)
        if isinstance(item.type, type) and is_dataclass(item.type):
            names += [f"{item.name}.{inner}" for inner in known_keys(item.type)]
    return names


def parse(content: Mapping[str, Any]) -> Config:
    """Checks plain data against the vocabulary.

    Raises:
      UserError: a key is unknown or missing, or a value is of the wrong type or out of range.
    """
    try:
        return TypeAdapter(Config).validate_python(dict(content))
    except ValidationError as error:
        raise UserError(printable(_plain(error, content))) from None


ONE_A_STUDY = (
    "claims",
    "scorecard",
    "question",
    "save",
    "out",
    "cache",
    "dry_run",
    "tracking",
    "limits",
    "study",
    "replicates",
    "axes",
    "blocks",
    "gradients",
    "movement",
    "distances",
    "seed",
    "path",
    "advice",
    "data",
    "shards",
    "shard",
)
"""Keys that are no axis: what they say holds for all of a study."""

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_ABOUT_KEYS = (*_UNKNOWN, "missing")


def _plain(error: ValidationError, content: Mapping[str, Any]) -> str:
    """One line for the first of pydantic's findings."""
    found = error.errors(include_url=False)
    # A union reports every arm that failed: the deepest location is the one the user meant.
    first = max(found, key=lambda item: (item["type"] in _ABOUT_KEYS, len(item["loc"])))
    same_place = [item for item in found if item["loc"][:1] == first["loc"][:1]]
    path = _path(first["loc"], content)
    if first["type"] in _UNKNOWN:
        siblings = _siblings(path, content)
        listed = f"; accepted: {', '.join(siblings)}" if "." in path and siblings else ""
        return f"{path}: unknown key{listed}.{nearest(str(first['loc'][-1]), siblings)}"
    if first["type"] == "union_tag_not_found":
        return f"{path}.kind: missing; accepted: {', '.join(_kinds_at(path))}"
    if first["type"] == "union_tag_invalid":
        given = first["ctx"]["tag"]
        close = nearest(given, _kinds_at(path))
        return f"{path}.kind: got {given!r}; accepted: {', '.join(_kinds_at(path))}.{close}"
    if (
        path.endswith(".path") and first["input"] is None
    ):  # experiments on the user's own pictures take it from `path`
        return f"{path}: missing; accepted: a folder with PATH/CLASS/* or PATH/train/CLASS/*, such as path=~/pictures"
    if first["type"] == "missing":
        return f"{path}: missing"
    accepted = " or ".join(dict.fromkeys(accepted_by(item) for item in same_place))
    several = isinstance(first["input"], list) and path.split(".")[0] not in ONE_A_STUDY
    vary = f" (to vary it: 'axes={{{path}:[...]}}')" if several else ""
    return f"{path}: got {shown(first['input'])}; accepted: {accepted}{vary if accepted[:2] == 'a ' else ''}"


def _path(location: Iterable[int | str], content: Any) -> str:
    """Dotted key of a location, without the names of union arms that pydantic adds."""
    parts: list[str] = []
    for step in location:
        if isinstance(step, int):
            if isinstance(content, list | tuple):
                parts.append(f"[{step}]")
                content = content[step] if step < len(content) else None
            continue
        if isinstance(content, Mapping) and (step in content or not _is_arm(step)):
            parts.append(f".{step}" if parts else step)
            content = content.get(step)
    return "".join(parts)


_UNIONS = {
    "domains": DomainConfig,
    "models": ModelConfig,
    "regimes": RegimeConfig,
    "weights": WeightsConfig,
}
"""Registries whose entries are of several kinds."""


def _kinds(union: Any) -> dict[str, type]:
    """Kind -> its dataclass."""
    arms = get_args(get_args(union)[0])
    return {get_args(arm.__dataclass_fields__["kind"].type)[0]: arm for arm in arms}


def _kinds_at(path: str) -> dict[str, type]:
    return _kinds(_UNIONS[path.partition(".")[0]])


def _is_arm(step: str) -> bool:
    return any(step in _kinds(union) for union in _UNIONS.values())


def _siblings(path: str, content: Mapping[str, Any]) -> list[str]:
    """Names that are accepted where an unknown key stood."""
    parent, _, _ = path.rpartition(".")
    if not parent:
        return [item.name for item in fields(Config)]
    node: Any = content
    for step in parent.split("."):
        node = node.get(step, {}) if isinstance(node, Mapping) else {}
    registry = parent.split(".")[0]
    if registry in _UNIONS and isinstance(node, Mapping) and "kind" in node:
        return [item.name for item in fields(_kinds(_UNIONS[registry])[node["kind"]])]
    return [
        name.removeprefix(f"{parent}.") for name in known_keys() if name.startswith(f"{parent}.")
    ]
