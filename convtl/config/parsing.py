"""Validation of plain data as a `Config`, or a one-line error."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from pydantic import TypeAdapter, ValidationError

from convtl.config.schema import Config
from convtl.errors import UserError, accepted_by, nearest, printable, shown

RENAMED = {
    "lanes": "runs_per_device=...",
    "chunk": "steps_per_call=...",
    "movement": "measure=movement",
    "distances": "measure=distances",
    "gradients": "measure=gradients, and replicates=...",
    "kept": "n_transferred=...",
    "protocol": "recipe=...",
    "shards": "-m worker=0,1,...",
    "shard": "-m worker=0,1,...",
    "speed": "experiments/speed/run.py",
    "tracking.entity": "WANDB_ENTITY=... in the environment",
    "validation.per_class": "validation_per_class=...",
    "validation.regime": "validation=beside",
    "domains.*.noise": "domains.NAME.jitter.noise=...",
}
"""Key of the first version, `*` for any name -> its present form."""
_CONFIG = TypeAdapter(Config)


def parse(content: Mapping[str, Any]) -> Config:
    """Validate plain data.

    Raises:
      UserError: a key is unknown or missing, or a value is of the wrong type or out of range.
    """
    try:
        return _CONFIG.validate_python(dict(content))
    except ValidationError as error:
        raise UserError(printable(_line(error, content))) from None


def _line(error: ValidationError, content: Mapping[str, Any]) -> str:
    """One line for the first of pydantic's findings."""
    findings = error.errors(include_url=False)
    # A union reports every arm that failed: the deepest location is the one the user meant.
    first = max(
        findings, key=lambda item: (item["type"] in ("unknown", "missing"), len(item["loc"]))
    )
    path, given = _path(first["loc"], content, first["type"]), first["input"]
    for key in given if isinstance(given, Mapping) else ():
        typed = _path((*first["loc"], key), content)
        for old, new in RENAMED.items():
            if fnmatchcase(typed, old):
                return f"{typed}: unknown key. It is now {new}"
    if first["type"] == "unknown":
        key, siblings = first["ctx"].values()
        path = _path((*first["loc"], key), content)
        listed = f"; accepted: {', '.join(siblings)}" if first["loc"] else ""
        return f"{path}: unknown key{listed}.{nearest(str(key), siblings)}"
    if first["type"] == "union_tag_invalid":
        tag, kinds = first["ctx"]["tag"], first["ctx"]["expected_tags"].replace("'", "")
        return f"{path}.kind: got {tag!r}; accepted: {kinds}.{nearest(tag, kinds.split(', '))}"
    if first["type"] in ("missing", "union_tag_not_found"):
        return f"{path}{'.kind' * (first['type'] != 'missing')}: missing"
    if path.endswith(".path") and given is None:  # experiments take it from `path`
        return f"{path}: missing; accepted: a folder with PATH/CLASS/*, such as path=~/pictures"
    same_key = [item for item in findings if item["loc"][:1] == first["loc"][:1]]
    accepted = " or ".join(dict.fromkeys(accepted_by(item) for item in same_key))
    return f"{path}: got {shown(given)}; accepted: {accepted}"


def _path(location: tuple[int | str, ...], content: Any, kind: str = "") -> str:
    """Dotted key of a finding's location, without pydantic's names of union arms."""
    path = ""
    for place, step in enumerate(location, start=1):
        if isinstance(step, int) and isinstance(content, list | tuple):
            path += f"[{step}]"
            content = content[step] if step < len(content) else None
        elif not isinstance(content, Mapping):
            continue
        elif content.get("kind") == step != location[place - 2]:
            continue  # a key may have the name of its arm, which then comes before it
        elif step in content or (place == len(location) and (kind == "missing" or step == "[key]")):
            path += f".{step}" if path else str(step)
            content = content.get(step)
    return path
