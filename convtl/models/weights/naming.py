"""Names and layouts of PyTorch's state dicts, by family (`tables/NAMING.toml`)."""

import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from convtl.errors import UserError
from convtl.models.network import Network

VERSION = 2
"""Raised when the same file gives other numbers; part of what imported nets are cached by."""

Shape = tuple[int, ...]
Convert = Callable[[np.ndarray], np.ndarray]

_FAMILIES = {
    "alexnet": {"conv1", "fc6"},
    "vgg": {"conv1_1", "fc6"},
    "inverted_residual": {"block01"},
    "convnext": {"down2"},
    "resnet": {"stage1_block1"},
}
"""Family -> units by which a net of it is recognised; the first that fits."""
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


@cache
def _table(naming: str) -> Mapping[str, Any]:
    """Family -> kind of unit -> layer -> name of the layer in the file."""
    path = Path(__file__).parent / "tables" / f"{naming}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def names_in_file(naming: str, network: Network, key: str) -> dict[str, str]:
    """Leaf `unit/collection/layer/leaf` -> its name in the file, where it has one.

    Raises:
      UserError: the naming is not known for nets of this family.
    """
    families, units = _table(naming), set(network.names)
    family = next((name for name, marks in _FAMILIES.items() if marks <= units), "no known family")
    if family not in families:
        raise UserError(
            f"{key}.naming: got '{naming}' for a net of {family}; accepted: nets of {', '.join(families)}"
        )
    layers, numbers = families[family], placeholders(network)
    names: dict[str, str] = {}
    for leaf in leaf_shapes(network.abstract_variables):
        unit, _, layer, *last = leaf.split("/")
        kind = unit if unit in layers else re.sub(r"_?\d+", "", unit)
        if name := layers.get(kind, {}).get(layer):
            names[leaf] = ".".join([name.format(**numbers[unit]), *(_LEAVES[end] for end in last)])
    return names


def leaf_shapes(variables: Mapping[str, Any]) -> dict[str, Shape]:
    """`unit/collection/layer/leaf` -> shape."""
    return {path: tuple(leaf.shape) for path, leaf in flatten_dict(variables, sep="/").items()}


def placeholders(network: Network) -> dict[str, dict[str, int]]:
    """Numbers of each unit that names in files hold.

    - `stage` from 1, `stage0` from 0, and `odd` and `even`, the places in `features`, of units named after a stage.
    - `block` from 0 in a stage; in a chain of inverted residuals `number` from 1, `number0` from 0, and `stage` from 0,
      a new one where the channels change.
    - `feature`, `norm`: of a convolution and its normalisation, where layers without weights are counted too.
    """
    numbers: dict[str, dict[str, int]] = {}
    feature, stage, block, channels = 0, -1, 0, 0
    for unit, shape in zip(network.names, network.output_shapes, strict=True):
        digits = [int(text) for text in re.findall(r"\d+", unit)]
        if unit.startswith("block"):
            stage, block = (stage, block + 1) if shape[-1] == channels else (stage + 1, 0)
            at, channels = digits[0], shape[-1]
            numbers[unit] = {"stage": stage, "block": block, "number": at, "number0": at - 1}
        elif unit.startswith(("stage", "down")):
            at = digits[0]
            numbers[unit] = {"stage": at, "stage0": at - 1, "odd": 2 * at - 1, "even": 2 * at - 2}
            numbers[unit]["block"] = digits[-1] - 1
        else:
            numbers[unit] = {"feature": feature, "norm": feature + 1}
            normalised = "norm" in network.abstract_variables[unit].get("params", {})
            feature += 1 if unit.startswith("pool") else 2 + normalised
    return numbers


def conversion(target: Shape, given: Shape, before: Shape) -> Convert | None:
    """Conversion of a PyTorch array to a leaf; None where the shapes do not fit.

    PyTorch keeps kernels as (out, in, height, width); here they are (height, width, in, out), depthwise ones with
    in = 1. Dense weights, (out, in) there, are kernels of the size of the map before them, which is flattened in
    another order there, or 1x1.

    Args:
      target: shape of the net's leaf.
      given: shape of the file's array.
      before: shape of one image's input to the unit.
    """
    if len(target) == 1:
        return (lambda array: array.reshape(target)) if given in (target, (*target, 1, 1)) else None
    if len(target) == 4:
        height, width, incoming = target[:3]
    else:
        height, width, incoming = before if len(before) == 3 else (1, 1, target[0])
    kernel = (target[-1], incoming, height, width)
    if given not in (kernel, (target[-1], incoming * height * width)):
        return None
    return lambda array: array.reshape(kernel).transpose(2, 3, 1, 0).reshape(target)
