"""Foreign weights: files of PyTorch, torchvision and timm as `Variables`.

All leaves of file and net must match. Everything here raises `UserError` where a file is missing, damaged or not the
one expected, or where a leaf does not fit; `key` is the config key that messages name.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from flax.traverse_util import unflatten_dict

from convtl.config.models import ModelConfig, WeightsConfig
from convtl.config.values import content
from convtl.errors import UserError
from convtl.keys import digest
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.models.weights import files
from convtl.models.weights.naming import (
    VERSION,
    Convert,
    Shape,
    conversion,
    leaf_shapes,
    names_in_file,
)
from convtl.storage import checkpoint
from convtl.storage.cache import Cache

Origins = dict[str, tuple[str, Convert] | None]
"""Leaf of the net -> leaf of the file and its conversion; None for a head that the file lacks."""

_KIND = "imported"
_UNUSED = re.compile(r"(^|\.)num_batches_tracked$|^(aux_classifier\.|AuxLogits\.|aux\d*\.)")
"""Leaves of files that no net needs: counts of training batches, auxiliary heads of training."""


class Imported(NamedTuple):
    """A net from a foreign file: NumPy arrays, float32, and the file's SHA-256."""

    variables: Variables
    digest: str


def import_weights(config: WeightsConfig, network: Network, key: str = "weights") -> Imported:
    """Read a file's weights as a net's variables; a head that it lacks is zero."""
    arrays, origins, file_digest = _read(config, network, key)
    leaves: dict[str, np.ndarray] = {}
    for leaf, shape in leaf_shapes(network.abstract_variables).items():
        origin = origins[leaf]
        if origin is None:
            leaves[leaf] = np.zeros(shape, np.float32)
        else:
            name, convert = origin
            leaves[leaf] = np.ascontiguousarray(convert(arrays[name]))
    variables = unflatten_dict(leaves, sep="/")
    return Imported({name: variables.get(name, {}) for name in network.names}, file_digest)


def _read(config: WeightsConfig, network: Network, key: str) -> tuple[files.Arrays, Origins, str]:
    path = files.find(config, key)
    file_digest = files.sha256(path, key)
    if config.sha256 not in (None, file_digest):
        raise UserError(
            f"{key}.sha256: {path} is not the file that is meant: its SHA-256 is {file_digest}, not "
            f"{config.sha256} (sha256=null takes any file)"
        )
    arrays = files.read(path, key)
    shapes = {name: array.shape for name, array in arrays.items()}
    return arrays, match_leaves(config, network, shapes, key), file_digest


def match_leaves(
    config: WeightsConfig, network: Network, given: Mapping[str, Shape], key: str = "weights"
) -> Origins:
    """Match leaves by names and shapes; ignore those without the net's prefix."""
    names = names_in_file(config.naming, network, key)
    prefix = _prefix(next(iter(names.values())), given, key)
    given = {name[len(prefix) :]: shape for name, shape in given.items() if name.startswith(prefix)}
    dense = f"{network.head}/params/dense/"
    head = {name for leaf, name in names.items() if leaf.startswith(dense)}
    headless = head.isdisjoint(given)
    origins: Origins = {}
    absent, misfits = [], {}
    for leaf, shape in leaf_shapes(network.abstract_variables).items():
        name = names.get(leaf, "")
        if name in given:
            before = network.shape_before(network.index(leaf.partition("/")[0]))
            if convert := conversion(shape, given[name], before):
                origins[leaf] = prefix + name, convert
            else:
                misfits[name] = f"{name} {given[name]} for {leaf} {shape}"
        elif headless and name in head:
            origins[leaf] = None
        else:
            absent.append(f"{leaf} ({name})" if name else leaf)
    if misfits and misfits.keys() == head:
        raise UserError(
            f"{key}.classes: got {config.classes}; accepted: {given[min(head)][0]}, the classes of "
            f"{files.described(config)}"
        )
    # What the file has in place of a head may be of any form.
    ignored = tuple(f"{name.rpartition('.')[0]}." for name in head) if headless else ()
    extra = given.keys() - {*names.values(), *filter(_UNUSED.search, given)}
    extra_names = sorted(name for name in extra if not name.startswith(ignored))
    _refuse_leftovers(config, key, list(misfits.values()), absent, extra_names)
    return origins


def _refuse_leftovers(
    config: WeightsConfig, key: str, misfits: list[str], absent: list[str], extra: list[str]
) -> None:
    """Raise a UserError that lists all leaves without a match, if any."""
    parts = [
        f"{len(leaves)} {sort}: {', '.join(leaves[:4])}{', ...' if len(leaves) > 4 else ''}"
        for sort, leaves in (
            ("of another shape", misfits),
            ("of the net not in the file", absent),
            ("of the file not in the net", extra),
        )
        if leaves
    ]
    if parts:
        raise UserError(
            f"{key}: {files.described(config)} does not fit model '{config.model}' by the names of "
            f"{config.naming}; leaves {'; '.join(parts)}"
        )


def _prefix(first: str, given: Mapping[str, Shape], key: str) -> str:
    """Prefix of the net's first leaf in the file; empty if it is not there."""
    prefixes = {name.removesuffix(first) for name in given if f".{name}".endswith(f".{first}")}
    if len(prefixes) > 1 and "" not in prefixes:
        raise UserError(
            f"{key}: the file holds several nets, of the prefixes {', '.join(sorted(prefixes))}; save one of them"
        )
    return min(prefixes, default="")


def origin_identity(config: WeightsConfig, key: str = "weights") -> str:
    """Digest of the file's content, naming rules and expected images; not its path."""
    file_digest = config.sha256 or files.sha256(files.find(config, key), key)
    images = [config.size, config.crop, config.interpolation, *config.mean, *config.std]
    return digest([file_digest, config.naming, VERSION, config.classes, images])


def imported_key(config: WeightsConfig, model: ModelConfig, key: str = "weights") -> str:
    """Key of an imported net in the cache."""
    return digest([origin_identity(config, key), content(model)])


def imported(
    config: WeightsConfig, model: ModelConfig, cache: Cache, key: str = "weights"
) -> Imported:
    """Return a config's net for the weights' own images and classes; cached."""
    network = network_of(config, model)

    def build(folder: Path) -> None:
        net = import_weights(config, network, key)
        checkpoint.save(folder / "net", net.variables, {"digest": net.digest})

    entry = cache.get_or_build(_KIND, imported_key(config, model, key), build)
    variables, metadata = checkpoint.load(entry / "net", network.abstract_variables)
    return Imported({name: variables[name] for name in network.names}, metadata["digest"])


def check(config: WeightsConfig, model: ModelConfig, cache: Cache, key: str = "weights") -> None:
    """Check by names and shapes that a net not in the cache can be imported."""
    if not cache.path(_KIND, imported_key(config, model, key)).exists():
        _read(config, network_of(config, model), key)


def network_of(config: WeightsConfig, model: ModelConfig) -> Network:
    """The net for the images and classes of published weights."""
    return build_network(model, (config.size, config.size, 3), config.classes)
