"""Weights of a file -> variables of a net, with every leaf of both accounted for; kept in the cache."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

from convtl.config.models import ModelConfig
from convtl.config.roles import content
from convtl.config.weights import WeightsConfig
from convtl.errors import UserError
from convtl.keys import digest
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.models.weights import locating, readers
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

KIND = "imported"
_NET = "net"
_UNUSED = re.compile(r"(^|\.)num_batches_tracked$|^(aux_classifier\.|AuxLogits\.|aux\d*\.)")
"""Leaves of files that no net needs: counts of training batches, auxiliary heads of training."""
_SHOWN = 4
"""Leaves that an error message names of each sort."""


@dataclass(frozen=True)
class Imported:
    """A net's variables from a foreign file.

    Attributes:
      variables: NumPy arrays in the structure of `Network.init`, float32.
      digest: SHA-256 of the file.
    """

    variables: Variables
    digest: str


@dataclass(frozen=True)
class ImportPlan:
    """Where each leaf of a net comes from.

    Attributes:
      origins: leaf of the net -> (leaf of the file, how it is converted).
      zeros: leaves of a head that the file does not have.
    """

    origins: Mapping[str, tuple[str, Convert]]
    zeros: tuple[str, ...]


def import_weights(config: WeightsConfig, network: Network, key: str = "weights") -> Imported:
    """Read a file's weights into the variables of a net; a head that the file lacks is zero.

    Args:
      network: of the config's model, for its images and classes.
      key: config key that error messages name.

    Raises:
      UserError: the file is missing, damaged or not the one expected; a leaf of either side has no counterpart
        or is of another shape; the net's images are not of three channels.
    """
    arrays, plan, file_digest = _read(config, network, key)
    leaves: dict[str, np.ndarray] = {}
    for leaf, shape in leaf_shapes(network.abstract_variables).items():
        if leaf in plan.zeros:
            leaves[leaf] = np.zeros(shape, np.float32)
        else:
            name, convert = plan.origins[leaf]
            leaves[leaf] = np.ascontiguousarray(convert(arrays[name]), np.float32)
    variables = unflatten_dict(leaves, sep="/")
    return Imported({name: variables.get(name, {}) for name in network.names}, file_digest)


def _read(
    config: WeightsConfig, network: Network, key: str
) -> tuple[readers.Arrays, ImportPlan, str]:
    path = locating.find(config, key)
    file_digest = readers.sha256(path, key)
    if config.sha256 not in (None, file_digest):
        raise UserError(
            f"{key}.sha256: {path} is not the file that is meant: its SHA-256 is {file_digest}, not "
            f"{config.sha256} (sha256=null takes any file)"
        )
    arrays = readers.read(path, key)
    shapes = {name: array.shape for name, array in arrays.items()}
    return arrays, make_plan(config, network, shapes, key), file_digest


def make_plan(
    config: WeightsConfig, network: Network, given: Mapping[str, Shape], key: str = "weights"
) -> ImportPlan:
    """Account for all leaves by names and shapes; reads no values.

    Names may share a prefix, as wrappers give them (`module.`, `backbone.`); then leaves without it, which belong
    to other modules, are left out.

    Args:
      given: leaf of the file -> shape.

    Raises:
      UserError: as `import_weights`.
    """
    if len(network.input_shape) != 3 or network.input_shape[2] != 3:
        raise UserError(
            f"{key}: the weights are for images of three channels; got images of shape {network.input_shape}"
        )
    names = names_in_file(config.naming, network, key)
    prefix = _prefix(next(filter(None, names.values())), given, key)
    given = {name: shape for name, shape in given.items() if name.startswith(prefix)}
    names = {leaf: name and prefix + name for leaf, name in names.items()}
    dense = f"{network.head}/params/dense/"
    head = {leaf: str(name) for leaf, name in names.items() if leaf.startswith(dense)}
    zeros = () if any(name in given for name in head.values()) else tuple(head)
    origins, misfits = _origins(network, names, given)
    classes = {given[name][:1] for name in misfits if name in head.values()}
    if len(classes) == 1 and misfits.keys() == set(head.values()):
        raise UserError(
            f"{key}.classes: got {config.classes}; accepted: {classes.pop()[0]}, the classes of "
            f"{locating.described(config)}"
        )
    used = {name for name, _ in origins.values()} | misfits.keys()
    absent = [
        f"{leaf} ({name})" if name else leaf
        for leaf, name in names.items()
        if name not in used and leaf not in zeros
    ]
    other_head = tuple(f"{head[leaf].rpartition('.')[0]}." for leaf in zeros)
    extra = [
        name
        for name in given
        if not (name in used or name.startswith(other_head) or _UNUSED.search(name[len(prefix) :]))
    ]
    _refuse(config, key, absent, extra, list(misfits.values()))
    return ImportPlan(origins, zeros)


def _origins(
    network: Network, names: Mapping[str, str | None], given: Mapping[str, Shape]
) -> tuple[dict[str, tuple[str, Convert]], dict[str, str]]:
    """Leaf of the net -> (leaf of the file, conversion); and leaves of the file that do not fit, in words."""
    origins: dict[str, tuple[str, Convert]] = {}
    misfits: dict[str, str] = {}
    for leaf, shape in leaf_shapes(network.abstract_variables).items():
        name = names[leaf]
        if name is None or name not in given:
            continue
        before = network.shape_before(network.index(leaf.partition("/")[0]))
        convert = conversion(shape, given[name], before)
        if convert is None:
            misfits[name] = f"{name} {given[name]} for {leaf} {shape}"
        else:
            origins[leaf] = name, convert
    return origins, misfits


def _prefix(first: str, given: Mapping[str, Shape], key: str) -> str:
    """Prefix of the name of the net's first leaf in the file; empty where it is not in the file.

    Raises:
      UserError: the file holds several nets.
    """
    if first in given:
        return ""
    prefixes = [name.removesuffix(first) for name in given if name.endswith(f".{first}")]
    if len(prefixes) > 1:
        raise UserError(
            f"{key}: the file holds several nets, of the prefixes {', '.join(sorted(prefixes))}; save one of them"
        )
    return prefixes[0] if prefixes else ""


def _refuse(
    config: WeightsConfig, key: str, absent: list[str], extra: list[str], misfits: list[str]
) -> None:
    """Raise `UserError` with one line for all leaves that are not accounted for, if any."""
    parts = [
        f"{len(leaves)} {sort}: {', '.join(leaves[:_SHOWN])}{', ...' if len(leaves) > _SHOWN else ''}"
        for sort, leaves in (
            ("of another shape", misfits),
            ("of the net not in the file", absent),
            ("of the file not in the net", extra),
        )
        if leaves
    ]
    if parts:
        raise UserError(
            f"{key}: {locating.described(config)} does not fit model '{config.model}' by the names of "
            f"{config.naming}; leaves {'; '.join(parts)}"
        )


# --- in the cache -----------------------------------------------------------------------------------


def origin_identity(config: WeightsConfig, key: str = "weights") -> str:
    """Digest of what decides about the numbers: the file's content, the rules, and the images that it expects.

    The file is read only where the config does not give its SHA-256. Where it lies does not count.

    Raises:
      UserError: the file is needed and missing.
    """
    images = [config.size, config.crop, config.interpolation, *config.mean, *config.std]
    return digest([_sha256(config, key), config.naming, VERSION, config.classes, images])


def imported_key(config: WeightsConfig, model: ModelConfig, key: str = "weights") -> str:
    """Key of an imported net in the cache.

    Raises:
      UserError: as `origin_identity`.
    """
    parts = [_sha256(config, key), config.naming, VERSION, config.size, config.classes]
    return digest([*parts, content(model)])


def imported(
    config: WeightsConfig, model: ModelConfig, cache: Cache, key: str = "weights"
) -> Imported:
    """The net of a config, from the cache if it has been imported before.

    Args:
      model: of which `config.model` is the name; the net is built for the weights' own images and classes.
      key: config key that error messages name.

    Raises:
      UserError: as `import_weights`.
    """
    network = network_of(config, model)

    def build(folder: Path) -> None:
        net = import_weights(config, network, key)
        checkpoint.save(folder / _NET, net.variables, {"digest": net.digest})

    entry = cache.get_or_build(KIND, imported_key(config, model, key), build)
    variables, metadata = checkpoint.load(entry / _NET, network.abstract_variables)
    ordered: dict[str, Any] = {name: variables[name] for name in network.names}
    return Imported(ordered, metadata["digest"])


def check(config: WeightsConfig, model: ModelConfig, cache: Cache, key: str = "weights") -> None:
    """Check, by names and shapes, that a net which is not in the cache can be imported.

    Raises:
      UserError: as `import_weights`.
    """
    if not cache.path(KIND, imported_key(config, model, key)).exists():
        _read(config, network_of(config, model), key)


def network_of(config: WeightsConfig, model: ModelConfig) -> Network:
    """The net for which the weights were published: their images, their classes."""
    return build_network(model, (config.size, config.size, 3), config.classes)


def _sha256(config: WeightsConfig, key: str) -> str:
    return config.sha256 or readers.sha256(locating.find(config, key), key)
