"""Plain data -> `Config`, or one line that says what was wrong: the key, what was given, what is accepted."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from convtl.config.models import ModelConfig, model_kinds
from convtl.config.roles import type_of
from convtl.config.schema import REGISTRIES, VARIABLE, Config
from convtl.errors import UserError, accepted_by, nearest, printable, shown

RENAMED = {
    "lanes": "runs_per_device=...",
    "chunk": "steps_per_call=...",
    "movement": "measure=movement",
    "distances": "measure=distances",
    "gradients": "measure=gradients",
    "kept": "n_transferred=...",
    "validation": "validation_per_class=...",
    "protocol": "recipe=...",
    "shards": "-m worker=0,1,...",
    "shard": "-m worker=0,1,...",
}
"""Keys of the first version -> how they are given now."""
_CONFIG = TypeAdapter(Config)
_TYPES = {item.name: type_of(item) for item in fields(Config)}
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def parse(content: Mapping[str, Any]) -> Config:
    """Validate plain data.

    Raises:
      UserError: a key is unknown or missing, or a value is of the wrong type or out of range.
    """
    try:
        return _CONFIG.validate_python(dict(content))
    except ValidationError as error:
        raise UserError(printable(_line(error, content))) from None


def known_keys(kind: Any = Config) -> list[str]:
    """Dotted names of the keys that a config takes (inside registries only the registry's own name)."""
    names: list[str] = []
    for item in fields(kind):
        names.append(item.name)
        if is_dataclass(inner := type_of(item)):
            names += [f"{item.name}.{key}" for key in known_keys(inner)]
    return names


def refused_key(where: str, key: str, known: Iterable[str]) -> str:
    """Return the line for an unknown key: what it is called now, or the nearest names."""
    renamed = RENAMED.get(key.partition(".")[0])
    hint = f" It is now {renamed}" if renamed else nearest(key, known)
    return f"{where}.{hint}"


def _line(error: ValidationError, content: Mapping[str, Any]) -> str:
    """One line for the first of pydantic's findings."""
    findings = error.errors(include_url=False)
    # A union reports every arm that failed: the deepest location is the one the user meant.
    first = max(
        findings, key=lambda item: (item["type"] in (*_UNKNOWN, "missing"), len(item["loc"]))
    )
    same_place = [item for item in findings if item["loc"][:1] == first["loc"][:1]]
    path = _path(first["loc"], content)
    if first["type"] in _UNKNOWN:
        parent, _, key = path.rpartition(".")
        siblings = _keys_at(parent, content)
        listed = f"; accepted: {', '.join(siblings)}" if parent and siblings else ""
        return refused_key(f"{path}: unknown key{listed}", key, siblings)
    if first["type"].startswith("union_tag"):
        kinds = _kinds(get_args(_TYPES[path.partition(".")[0]])[1])
        given = first.get("ctx", {}).get("tag")
        got = "missing" if given is None else f"got {given!r}"
        close = "" if given is None else f".{nearest(given, kinds)}"
        return f"{path}.kind: {got}; accepted: {', '.join(kinds)}{close}"
    if path.endswith(".path") and first["input"] is None:  # experiments take it from `path`
        return f"{path}: missing; accepted: a folder with PATH/CLASS/* or PATH/train/CLASS/*, such as path=~/pictures"
    if first["type"] == "missing":
        return f"{path}: missing"
    accepted = " or ".join(dict.fromkeys(accepted_by(item) for item in same_place))
    variable = isinstance(first["input"], list) and path.split(".")[0] in VARIABLE
    vary = f" (to vary it: 'axes={{{path}:[...]}}')" if variable else ""
    return f"{path}: got {shown(first['input'])}; accepted: {accepted}{vary if accepted[:2] == 'a ' else ''}"


def _path(location: Iterable[int | str], content: Any) -> str:
    """Dotted key of a location, without the names of union arms that pydantic adds."""
    arms = {kind for registry in REGISTRIES for kind in _kinds(get_args(_TYPES[registry])[1])}
    parts: list[str] = []
    for step in location:
        if isinstance(step, int):
            if isinstance(content, list | tuple):
                parts.append(f"[{step}]")
                content = content[step] if step < len(content) else None
        elif isinstance(content, Mapping) and (step in content or step not in arms):
            parts.append(f".{step}" if parts else step)
            content = content.get(step)
    return "".join(parts)


def _kinds(union: Any) -> dict[str, Any]:
    """Kind -> its dataclass, for the entries of a registry."""
    if get_args(union)[0] is ModelConfig:
        return dict(model_kinds())
    arms = get_args(get_args(union)[0])
    return {get_args(arm.__dataclass_fields__["kind"].type)[0]: arm for arm in arms}


def _keys_at(path: str, content: Any) -> list[str]:
    """Names of the keys below a dotted path."""
    kind: Any = Config
    for step in path.split(".") if path else ():
        content = content.get(step) if isinstance(content, Mapping) else None
        if is_dataclass(kind):
            kind = next((type_of(item) for item in fields(kind) if item.name == step), None)
        else:
            kind = get_args(kind)[1] if get_origin(kind) is dict else None
        if get_origin(kind) is UnionType:  # a node or null
            kind = get_args(kind)[0]
        if get_origin(kind) is Annotated and isinstance(content, Mapping):
            kind = _kinds(kind).get(str(content.get("kind")))
    return [item.name for item in fields(kind)] if is_dataclass(kind) else []
