"""The products that a study is made of: what each sets, from `blocks` and `axes`."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from convtl.config.parsing import parse, refused_key
from convtl.config.roles import dump
from convtl.config.schema import PER_STUDY, ROLES, VARIABLE, Config
from convtl.errors import UserError, shown
from convtl.study.limits import apply_limits


def products(study: Config) -> list[tuple[Config, dict[str, Any]]]:
    """The limited config of every product, with the values of what varies beside the axes proper.

    Raises:
      UserError: a block or an axis sets what cannot vary within a study, an unknown key or a wrong value.
    """
    limited = apply_limits(study)
    assigned = _assignments(limited)
    varied = {key: None for keys in assigned for key in keys if key.split(".")[0] in VARIABLE}
    whole = dump(study) | {"blocks": None, "axes": {}}
    found = []
    for values in assigned:
        settings = apply_limits(parse(_with_values(whole, values))) if values else limited
        content = dump(settings) if varied else {}
        found.append((settings, {key: _value_at(content, key) for key in varied}))
    return found


def _assignments(study: Config) -> list[dict[str, Any]]:
    """Dotted key -> value, for every product."""
    for key, values in study.axes.items():
        first = key.split(".")[0]
        if first not in ROLES:
            raise UserError(refused_key(f"axes: unknown key '{key}'", key, ROLES))
        if first not in VARIABLE:
            raise UserError(f"axes: got '{key}'; it is given as {key}=... itself, not under axes")
        if not values:
            raise UserError(f"axes.{key}: got []; accepted: at least one value")
    blocks: Mapping[str, Mapping[str, Any]] = {"": {}} if study.blocks is None else study.blocks
    return [
        _leaves(name, block) | dict(zip(study.axes, values, strict=True))
        for name, block in blocks.items()
        for values in product(*study.axes.values())
    ]


def _leaves(name: str, block: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of what a block sets."""
    leaves = {}
    for key, value in _nodes(block):
        first = key.split(".")[0]
        if first not in ROLES:
            where = f"blocks.{name}: unknown key '{key}'"
            raise UserError(refused_key(where, key, ROLES))
        if first in PER_STUDY:
            raise UserError(
                f"blocks.{name}: got '{key}'; accepted beside `blocks` only: it is the same for all of a study"
            )
        if not isinstance(value, Mapping):
            leaves[key] = value
    return leaves


def _nodes(block: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything in a block, mappings before what is in them."""
    for key, value in block.items():
        yield f"{path}{key}", value
        if isinstance(value, Mapping):
            yield from _nodes(value, f"{path}{key}.")


def _with_values(content: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Content with dotted keys set; the argument stays as it is."""
    result: dict[str, Any] = dict(content)
    for key, value in values.items():
        *path, last = key.split(".")
        node = result
        for step in path:
            inner = node.get(step)
            if inner is not None and not isinstance(inner, Mapping):
                raise UserError(
                    f"axes: unknown key '{key}'; {step} holds {shown(inner)}, not further keys"
                )
            node[step] = dict(inner or {})
            node = node[step]
        node[last] = value
    return result


def _value_at(content: Mapping[str, Any], path: str) -> Any:
    """What a dotted key holds; None where its node is absent."""
    node: Any = content
    for step in path.split("."):
        node = node.get(step) if isinstance(node, Mapping) else None
    return node


def refuse_hidden(typed: Iterable[str], content: Mapping[str, Any]) -> None:
    """Refuse keys that were typed beside blocks that set them too: they would change nothing.

    Args:
      typed: dotted keys, as on the command line.

    Raises:
      UserError: a block sets one of them itself.
    """
    blocks = content.get("blocks")
    if not isinstance(blocks, Mapping):
        return
    keys = {name: dict(_nodes(block)) for name, block in blocks.items() if isinstance(block, dict)}
    for key in typed:
        if parts := [name for name in keys if key in keys[name]]:
            raise UserError(
                f"{key}: given beside blocks that set it themselves ({', '.join(parts)}); accepted: "
                f"blocks.{parts[0]}.{key}=..., '~blocks.{parts[0]}' to leave that part out, or blocks=null for "
                "one product"
            )
