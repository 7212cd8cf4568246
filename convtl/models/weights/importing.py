"""A file's leaves -> a net's variables, with every leaf of both accounted for."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from convtl.config.weights import WeightsConfig
from convtl.errors import UserError
from convtl.models.network import Network, Variables
from convtl.models.weights import locating, readers
from convtl.models.weights.layouts import Make, Shape, colours_reversed
from convtl.models.weights.naming import Layers, Naming, rule_for

_IGNORED = {
    r"(^|\.)num_batches_tracked$": "counts the batches of training",
    r"^(aux_classifier\.|AuxLogits\.|aux\d*\.)": "auxiliary head, used in training only",
}
"""Leaves of files that no net needs, and why."""
_SHOWN = 4
"""leaves that an error message names on each side"""


@dataclass(frozen=True)
class Report:
    """What became of every leaf.

    Attributes:
      loaded: leaf of the net, `unit/collection/layer/leaf` -> leaf of the file.
      fresh: leaf of the net -> why it is not from the file. Fresh leaves are zero.
      ignored: leaf of the file -> why the net has no use for it.
    """

    loaded: Mapping[str, str]
    fresh: Mapping[str, str]
    ignored: Mapping[str, str]

    def plain(self) -> dict[str, dict[str, str]]:
        """As nested dictionaries, for JSON."""
        return {name: dict(leaves) for name, leaves in asdict(self).items()}


@dataclass(frozen=True)
class Imported:
    """A net's variables from a foreign file.

    Attributes:
      variables: NumPy arrays in the structure of `Network.init`, float32.
      report: what became of every leaf.
      digest: SHA-256 of the file.
    """

    variables: Variables
    report: Report
    digest: str


@dataclass(frozen=True)
class Plan:
    """Where each leaf of a net comes from: (leaf of the file, how it is turned)."""

    origins: Mapping[str, tuple[str, Make]]
    report: Report


def import_weights(config: WeightsConfig, network: Network, key: str = "weights") -> Imported:
    """Brings a file's weights into a net.

    Args:
      network: of the config's model; for other numbers of classes than the file's, its head stays fresh.
      key: what the error messages call the config.

    Raises:
      UserError: the file is missing, damaged or not the one expected; a leaf of either side has no counterpart
        or is of another shape; the net's images are not of three channels.
    """
    path = locating.find(config, key)
    found = locating.verified_sha256(config, path, key)
    arrays = readers.read(path, key)
    plan = make_plan(config, network, {name: array.shape for name, array in arrays.items()}, key)
    wanted = dict(leaves(network.abstract_variables))
    variables: Variables = {name: {} for name in network.names}
    for leaf, shape in wanted.items():
        if leaf in plan.origins:
            name, make = plan.origins[leaf]
            value = np.ascontiguousarray(make(arrays.pop(name)), np.float32)
        else:
            value = np.zeros(shape, np.float32)
        _put(variables, leaf, value)
    return Imported(variables, plan.report, found)


def make_plan(
    config: WeightsConfig, network: Network, given: Mapping[str, Shape], key: str = "weights"
) -> Plan:
    """Accounts for all leaves by names and shapes; reads no values.

    Args:
      given: leaf of the file -> shape.

    Raises:
      UserError: as `import_weights`.
    """
    if len(network.input_shape) != 3 or network.input_shape[2] != 3:
        raise UserError(
            f"{key}: the weights are for images of three channels; got images of shape {network.input_shape}"
        )
    rules, rule = rule_for(config.naming, network, key)
    layers = rule(network, given.keys())
    wanted = dict(leaves(network.abstract_variables))
    fresh, ignored = _of_another_head(config, network, layers, rules, given)
    ignored |= {name: reason for name in given if (reason := _ignored(name)) is not None}
    origins: dict[str, tuple[str, Make]] = {}
    absent, misfits = [], []
    for leaf, shape in wanted.items():
        name = _name_of(leaf, layers, rules, wanted)
        if leaf in fresh:
            continue
        if name is None or name not in given:
            absent.append(leaf if name is None else f"{leaf} ({name})")
            continue
        unit = leaf.partition("/")[0]
        make = rules.layout(shape, given[name], network.shape_before(network.index(unit)))
        if make is None:
            misfits.append(f"{name} {given[name]} for {leaf} {shape}")
            continue
        turned = unit == network.names[0] and leaf.endswith("kernel") and config.channels == "bgr"
        origins[leaf] = (name, colours_reversed(make) if turned else make)
    used = (
        {name for name, _ in origins.values()}
        | ignored.keys()
        | {text.split(" ")[0] for text in misfits}
    )
    _refuse(config, key, absent, [name for name in given if name not in used], misfits)
    report = Report({leaf: name for leaf, (name, _) in origins.items()}, fresh, ignored)
    return Plan(origins, report)


def leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Shape]]:
    """(`unit/collection/layer/leaf`, shape) of all leaves of nested dictionaries, in their order."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{name}/")
        else:
            yield f"{above}{name}", tuple(value.shape)


def _name_of(leaf: str, layers: Layers, rules: Naming, wanted: Mapping[str, Shape]) -> str | None:
    """The file's name for a leaf, or None where the rules know none."""
    unit, _, layer, *last = leaf.split("/")
    place = layers.get((unit, layer))
    if place is None or len(last) > 1:
        return None
    if not last:  # a leaf that is a layer of its own
        return place
    normalises = f"{unit}/params/{layer}/scale" in wanted
    own = (rules.norm_leaves if normalises else rules.leaves).get(last[0])
    return None if own is None else f"{place}{rules.separator}{own}"


def _of_another_head(
    config: WeightsConfig,
    network: Network,
    layers: Layers,
    rules: Naming,
    given: Mapping[str, Shape],
) -> tuple[dict[str, str], dict[str, str]]:
    """Leaves of the net's and of the file's last layer, where they are for different numbers of classes."""
    classes = network.output_shapes[-1][0]
    if classes == config.classes:
        return {}, {}
    reason = f"the file's head is for {config.classes} classes, the net's for {classes}"
    fresh, ignored = {}, {}
    wanted = dict(leaves(network.abstract_variables))
    for leaf in wanted:
        if leaf.startswith(f"{network.head}/params/dense/"):
            fresh[leaf] = reason
            name = _name_of(leaf, layers, rules, wanted)
            if name in given:
                ignored[str(name)] = reason
    return fresh, ignored


def _ignored(name: str) -> str | None:
    return next((reason for pattern, reason in _IGNORED.items() if re.search(pattern, name)), None)


def _refuse(
    config: WeightsConfig, key: str, absent: list[str], left: list[str], misfits: list[str]
) -> None:
    """One line for all leaves that are not accounted for."""
    parts = [
        f"{len(found)} {what}: {', '.join(found[:_SHOWN])}{', ...' if len(found) > _SHOWN else ''}"
        for what, found in (
            ("of another shape", misfits),
            ("of the net not in the file", absent),
            ("of the file not in the net", left),
        )
        if found
    ]
    if parts:
        raise UserError(
            f"{key}: {locating.described(config)} does not fit model '{config.model}' by the names of "
            f"{config.naming}; leaves {'; '.join(parts)}"
        )


def _put(variables: Variables, leaf: str, value: np.ndarray) -> None:
    *parents, last = leaf.split("/")
    node: dict[str, Any] = variables
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
