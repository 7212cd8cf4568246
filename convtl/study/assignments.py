"""The parts of a study: what each of its products sets, from `blocks` and `axes`."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from convtl.config.parsing import ONE_A_STUDY, known_keys
from convtl.config.schema import Config
from convtl.errors import UserError, nearest, shown

_AXES = (
    "model",
    "source",
    "target",
    "regime",
    "depth",
    "n_per_class",
    "updates",
    "similarity",
    "replicate",
)
_NOT_IN_A_BLOCK = tuple(key for key in ONE_A_STUDY if key not in ("replicates", "movement"))


def assignments(study: Config, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Dotted key -> value, for every product that the study is made of.

    Raises:
      UserError: a block or an axis sets what cannot vary within a study, or an unknown key.
    """
    for key, values in study.axes.items():
        if key.split(".")[0] in (*_AXES, *ONE_A_STUDY):
            raise UserError(f"axes: got '{key}'; it is given as {key}=... itself, not under axes")
        if key.split(".")[0] not in content:
            raise UserError(f"axes: unknown key '{key}'.{nearest(key, known_keys())}")
        if not values:
            raise UserError(f"axes.{key}: got []; accepted: at least one value")
    blocks: Mapping[str, Mapping[str, Any]] = {"": {}} if study.blocks is None else study.blocks
    return [
        dict(_leaves(name, block)) | dict(zip(study.axes, values, strict=True))
        for name, block in blocks.items()
        for values in product(*study.axes.values())
    ]


def refuse_hidden(typed: Iterable[str], content: Mapping[str, Any]) -> None:
    """Refuses keys that were given beside an experiment whose parts say otherwise: they would change nothing.

    Args:
      typed: dotted keys, as on the command line.

    Raises:
      UserError: a block sets one of them itself.
    """
    blocks = content.get("blocks") or {}
    own = {
        name: dict(_nodes(block)) for name, block in blocks.items() if isinstance(block, Mapping)
    }
    for key in typed:
        if parts := [name for name, keys in own.items() if key in keys]:
            raise UserError(
                f"{key}: given beside blocks that set it themselves ({', '.join(parts)}); accepted: "
                f"blocks.{parts[0]}.{key}=..., '~blocks.{parts[0]}' to leave that part out, or blocks=null for "
                "one product"
            )


def _nodes(block: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything in a block, mappings before what is in them."""
    for key, value in block.items():
        yield f"{path}{key}", value
        if isinstance(value, Mapping):
            yield from _nodes(value, f"{path}{key}.")


def _leaves(name: str, block: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in _nodes(block):
        first = key.split(".")[0]
        if first in _NOT_IN_A_BLOCK:
            raise UserError(
                f"blocks.{name}: got '{key}'; accepted beside `blocks` only: it is the same for all of a study"
            )
        if first not in known_keys():
            raise UserError(f"blocks.{name}: unknown key '{key}'.{nearest(key, known_keys())}")
        if not isinstance(value, Mapping):
            yield key, value


def assigned(content: Mapping[str, Any], assignment: Mapping[str, Any]) -> dict[str, Any]:
    """Content with the values of dotted keys set; what was given is left as it is.

    Raises:
      UserError: a key goes on below a value.
    """
    result: dict[str, Any] = dict(content)
    for key, value in assignment.items():
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
