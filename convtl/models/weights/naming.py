"""Names and layouts of PyTorch's state dicts, for each family of nets.

`NAMES[naming][family]` has the name of every layer of every kind of unit; `_numbers` fills in the placeholders.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from convtl.errors import UserError
from convtl.models.network import Network

VERSION = 2
"""Raised when the same file gives other numbers; part of what imported nets are cached by."""

Shape = tuple[int, ...]
Convert = Callable[[np.ndarray], np.ndarray]
Layers = Mapping[str, Mapping[str, str]]
"""Kind of unit -> layer -> name of the layer in the file."""

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}

_RESNET: Layers = {
    "stem": {"conv": "conv1", "norm": "bn1"},
    "stage_block": {
        **{f"conv{i}": f"layer{{stage}}.{{block}}.conv{i}" for i in (1, 2, 3)},
        **{f"norm{i}": f"layer{{stage}}.{{block}}.bn{i}" for i in (1, 2, 3)},
        "down_conv": "layer{stage}.{block}.downsample.0",
        "down_norm": "layer{stage}.{block}.downsample.1",
    },
    "head": {"dense": "fc"},
}


def _feature_stack(fc6: str, fc7: str, fc8: str) -> Layers:
    """AlexNet and VGG: every convolution, normalisation, activation and pooling has a number."""
    return {
        "conv": {"conv": "features.{feature}", "norm": "features.{norm}"},
        "fc6": {"dense": fc6},
        "fc7": {"dense": fc7},
        "fc8": {"dense": fc8},
    }


NAMES: dict[str, dict[str, Layers]] = {
    "torchvision": {
        "resnet": _RESNET,
        "alexnet": _feature_stack("classifier.1", "classifier.4", "classifier.6"),
        "vgg": _feature_stack("classifier.0", "classifier.3", "classifier.6"),
        "inverted residual": {
            "stem": {"conv": "features.0.0", "norm": "features.0.1"},
            "block": {
                "expand": "features.{number}.conv.0.0",
                "expand_norm": "features.{number}.conv.0.1",
                "depthwise": "features.{number}.conv.{depthwise}.0",
                "depthwise_norm": "features.{number}.conv.{depthwise}.1",
                "project": "features.{number}.conv.{project}",
                "project_norm": "features.{number}.conv.{project_norm}",
            },
            "top": {"conv": "features.{number}.0", "norm": "features.{number}.1"},
            "head": {"dense": "classifier.1"},
        },
        "convnext": {
            "stem": {"conv": "features.0.0", "norm": "features.0.1"},
            "down": {"norm": "features.{even}.0", "conv": "features.{even}.1"},
            "stage_block": {
                "gamma": "features.{odd}.{block}.layer_scale",
                "depthwise": "features.{odd}.{block}.block.0",
                "norm": "features.{odd}.{block}.block.2",
                "expand": "features.{odd}.{block}.block.3",
                "project": "features.{odd}.{block}.block.5",
            },
            "head": {"norm": "classifier.0", "dense": "classifier.2"},
        },
    },
    "timm": {
        "resnet": _RESNET,
        "vgg": _feature_stack("pre_logits.fc1", "pre_logits.fc2", "head.fc"),
        "inverted residual": {
            "stem": {"conv": "conv_stem", "norm": "bn1"},
            "block": {
                "expand": "blocks.{stage}.{block}.conv_pw",
                "expand_norm": "blocks.{stage}.{block}.bn1",
                "depthwise": "blocks.{stage}.{block}.conv_dw",
                "depthwise_norm": "blocks.{stage}.{block}.bn{depthwise_norm}",
                "project": "blocks.{stage}.{block}.{pointwise}",
                "project_norm": "blocks.{stage}.{block}.bn{project_norm}",
            },
            "top": {"conv": "conv_head", "norm": "bn2"},
            "head": {"dense": "classifier"},
        },
        "convnext": {
            "stem": {"conv": "stem.0", "norm": "stem.1"},
            "down": {
                "norm": "stages.{stage0}.downsample.0",
                "conv": "stages.{stage0}.downsample.1",
            },
            "stage_block": {
                "gamma": "stages.{stage0}.blocks.{block}.gamma",
                "depthwise": "stages.{stage0}.blocks.{block}.conv_dw",
                "norm": "stages.{stage0}.blocks.{block}.norm",
                "expand": "stages.{stage0}.blocks.{block}.mlp.fc1",
                "project": "stages.{stage0}.blocks.{block}.mlp.fc2",
            },
            "head": {"norm": "head.norm", "dense": "head.fc"},
        },
    },
    "efficientnet_lite_pytorch": {
        "inverted residual": {
            "stem": {"conv": "_conv_stem", "norm": "_bn0"},
            "block": {
                "expand": "_blocks.{number0}._expand_conv",
                "expand_norm": "_blocks.{number0}._bn0",
                "depthwise": "_blocks.{number0}._depthwise_conv",
                "depthwise_norm": "_blocks.{number0}._bn1",
                "project": "_blocks.{number0}._project_conv",
                "project_norm": "_blocks.{number0}._bn2",
            },
            "top": {"conv": "_conv_head", "norm": "_bn1"},
            "head": {"dense": "_fc"},
        },
    },
}


def family(network: Network) -> str:
    """Family of a net, by the names of its units."""
    names = set(network.names)
    if "fc6" in names:
        return "alexnet" if "conv1" in names else "vgg"
    if "block01" in names:
        return "inverted residual"
    if "stage1_block1" in names:
        return "convnext" if "down2" in names else "resnet"
    return "of its own"


def names_in_file(naming: str, network: Network, key: str) -> dict[str, str | None]:
    """Leaf of the net, `unit/collection/layer/leaf` -> its name in the file, None where there is none.

    Raises:
      UserError: the naming is not known for nets of this family.
    """
    families, kind = NAMES[naming], family(network)
    if kind not in families:
        raise UserError(
            f"{key}.naming: got '{naming}', which is known for nets of the families "
            f"{', '.join(sorted(families))}; this one is {kind}"
        )
    layers = families[kind]
    numbers = _numbers(network)
    names: dict[str, str | None] = {}
    for leaf in leaf_shapes(network.abstract_variables):
        unit, _, layer, *last = leaf.split("/")
        kind_of_unit = unit if unit in layers else re.sub(r"\d+", "", unit).strip("_")
        place = layers.get(kind_of_unit, {}).get(layer)
        if place is not None:
            place = ".".join([place.format(**numbers[unit]), *(_LEAVES[name] for name in last)])
        names[leaf] = place
    return names


def leaf_shapes(variables: Mapping[str, Any]) -> dict[str, Shape]:
    """`unit/collection/layer/leaf` -> shape."""
    return {path: tuple(leaf.shape) for path, leaf in flatten_dict(variables, sep="/").items()}


def _numbers(network: Network) -> dict[str, dict[str, Any]]:
    """Placeholders of each unit's names.

    - `stage`, `odd`, `even`: from 1 (of a chain of inverted residuals, from 0), and its places in `features`;
      `stage0`, `block`: from 0.
    - `number`, `number0`: of an inverted residual in the chain, from 1 and from 0; of `top`, after the last.
    - `depthwise`, `project`, ...: places in an inverted residual, which are one later where it widens first.
    - `feature`, `norm`: of a convolution and its normalisation in `features`.
    """
    numbers: dict[str, dict[str, Any]] = {}
    feature, number, stage, block, channels = 0, 0, -1, 0, 0
    for unit, shape in zip(network.names, network.output_shapes, strict=True):
        digits = [int(text) for text in re.findall(r"\d+", unit)]
        layers = network.abstract_variables[unit].get("params", {})
        if unit.startswith(("stage", "down")):
            at = digits[0]
            numbers[unit] = {"stage": at, "stage0": at - 1, "odd": 2 * at - 1, "even": 2 * at - 2}
            numbers[unit]["block"] = digits[-1] - 1
        elif unit.startswith("block"):  # the stages of these nets differ in their channels
            stage, block = (stage, block + 1) if shape[-1] == channels else (stage + 1, 0)
            channels, number = shape[-1], digits[0]
            first = int("expand" in layers)
            numbers[unit] = {
                "number0": number - 1,
                "number": number,
                "stage": stage,
                "block": block,
                "depthwise": first,
                "project": first + 1,
                "depthwise_norm": first + 1,
                "project_norm": first + 2,
                "pointwise": "conv_pwl" if first else "conv_pw",
            }
        else:
            numbers[unit] = {"number": number + 1, "feature": feature, "norm": feature + 1}
            feature += 1 if unit.startswith("pool") else 2 + ("norm" in layers)
    return numbers


def conversion(target: Shape, given: Shape, before: Shape) -> Convert | None:
    """Transposes by which a PyTorch array becomes a leaf, or None where the shapes do not fit.

    PyTorch keeps kernels as (out, in, height, width) and dense weights as (out, in); here they are (height, width,
    in, out) and (in, out). Depthwise kernels, (channels, 1, height, width), become (height, width, 1, channels).
    A dense unit after a feature map takes it flattened: there as (channels, height, width), here as (height,
    width, channels).

    Args:
      target: shape of the net's leaf.
      given: shape of the file's array.
      before: shape of one image's input to the unit.
    """
    if len(target) == 2:
        return _dense(target, given, before)
    if len(target) == 4:
        if len(given) == 2:  # a 1x1 convolution, kept as a dense layer
            given = (*given, 1, 1)
        fits = len(given) == 4 and (given[2], given[3], given[1], given[0]) == target
        return (lambda array: array.reshape(given).transpose(2, 3, 1, 0)) if fits else None
    scale_of_channels = len(target) == 1 and given == (*target, 1, 1)
    return (lambda array: array.reshape(target)) if target == given or scale_of_channels else None


def _dense(target: Shape, given: Shape, before: Shape) -> Convert | None:
    incoming, out = target
    if len(given) == 4 and given[2:] == (1, 1):  # a dense layer, kept as a 1x1 convolution
        given = given[:2]
    if len(before) == 3 and math.prod(before) == incoming:
        height, width, channels = before
        maps = (out, channels, height, width)
        if given not in ((out, incoming), maps):
            return None
        return lambda array: array.reshape(maps).transpose(2, 3, 1, 0).reshape(target)
    return (lambda array: array.reshape(out, incoming).T) if given == (out, incoming) else None
