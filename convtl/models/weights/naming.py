"""Rules of naming: which layer of a file is which layer of a unit, for each family of nets.

A rule gives a table (unit, layer) -> name of the layer in the file. It may list layers that the net at hand
does not have; `importing` looks up what there is and accounts for the rest.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from convtl.errors import UserError
from convtl.models.network import Network
from convtl.models.weights.layouts import Make, Shape, from_keras, from_torch

VERSION = 1
"""Raised whenever the rules bring in other numbers from the same file; part of what imported nets are kept by."""

Layers = dict[tuple[str, str], str]
Rule = Callable[[Network, Collection[str]], Layers]


@dataclass(frozen=True)
class Naming:
    """Who named the leaves.

    Attributes:
      separator: between a layer's name and a leaf's.
      leaves: leaf of a convolution or dense layer -> its name in the file.
      norm_leaves: leaf of a normalisation -> its name in the file.
      layout: how arrays are turned (`layouts`).
      families: family of nets -> rule.
    """

    separator: str
    leaves: Mapping[str, str]
    norm_leaves: Mapping[str, str]
    layout: Callable[[Shape, Shape, Shape], Make | None]
    families: Mapping[str, Rule]


def family(network: Network) -> str:
    """The family of a net, by the names of its units."""
    names = set(network.names)
    if "fc6" in names:
        return "alexnet" if "conv1" in names else "vgg"
    if "block01" in names:
        return "inverted residual"
    if "stage1_block1" in names:
        return "convnext" if "down2" in names else "resnet"
    return "of its own"


def rule_for(naming: str, network: Network, key: str) -> tuple[Naming, Rule]:
    """The rules of a naming for a net.

    Raises:
      UserError: there are none for nets of this family.
    """
    rules, kind = NAMINGS[naming], family(network)
    if kind not in rules.families:
        raise UserError(
            f"{key}.naming: got '{naming}', which is known for nets of the families "
            f"{', '.join(sorted(rules.families))}; this one is {kind}"
        )
    return rules, rules.families[kind]


def _blocks(network: Network) -> list[tuple[str, int, int]]:
    """(unit, stage, block) of the units `stage<S>_block<B>`, counted from 1."""
    found = [(unit, re.fullmatch(r"stage(\d+)_block(\d+)", unit)) for unit in network.names]
    return [(unit, int(match[1]), int(match[2])) for unit, match in found if match]


def _numbered(network: Network) -> list[str]:
    """The units `block<N>`, in order."""
    return [unit for unit in network.names if re.fullmatch(r"block\d+", unit)]


def _expands(network: Network, unit: str) -> bool:
    return "expand" in network.abstract_variables[unit]["params"]


# --- ResNet -----------------------------------------------------------------------------------------


def _torch_resnet(network: Network, names: Collection[str]) -> Layers:
    layers = {("stem", "conv"): "conv1", ("stem", "norm"): "bn1", (network.head, "dense"): "fc"}
    for unit, stage, block in _blocks(network):
        base = f"layer{stage}.{block - 1}"
        for place in (1, 2, 3):
            layers[unit, f"conv{place}"] = f"{base}.conv{place}"
            layers[unit, f"norm{place}"] = f"{base}.bn{place}"
        layers[unit, "down_conv"] = f"{base}.downsample.0"
        layers[unit, "down_norm"] = f"{base}.downsample.1"
    return layers


def _keras_resnet(network: Network, names: Collection[str]) -> Layers:
    """ResNet-50 of Keras 2 and of Caffe before it: `res2a_branch2b`, `bn2a_branch2b`."""
    layers = {
        ("stem", "conv"): "conv1",
        ("stem", "norm"): "bn_conv1",
        (network.head, "dense"): "fc1000",
    }
    for unit, stage, block in _blocks(network):
        place = f"{stage + 1}{chr(ord('a') + block - 1)}"
        for number, letter in ((1, "a"), (2, "b"), (3, "c")):
            layers[unit, f"conv{number}"] = f"res{place}_branch2{letter}"
            layers[unit, f"norm{number}"] = f"bn{place}_branch2{letter}"
        layers[unit, "down_conv"] = f"res{place}_branch1"
        layers[unit, "down_norm"] = f"bn{place}_branch1"
    return layers


# --- AlexNet and VGG --------------------------------------------------------------------------------


def _feature_stack(network: Network) -> Layers:
    """`features.N`, where every convolution, normalisation, activation and pooling has a number."""
    layers: Layers = {}
    number = 0
    for unit in network.names:
        parameters = network.abstract_variables[unit].get("params", {})
        if unit.startswith("pool"):
            number += 1
        elif "conv" in parameters:
            layers[unit, "conv"] = f"features.{number}"
            if "norm" in parameters:
                number += 1
                layers[unit, "norm"] = f"features.{number}"
            number += 2
    return layers


def _with_classifier(places: tuple[str, str, str]) -> Rule:
    def rule(network: Network, names: Collection[str]) -> Layers:
        dense = {
            (unit, "dense"): place
            for unit, place in zip(("fc6", "fc7", "fc8"), places, strict=True)
        }
        return _feature_stack(network) | dense

    return rule


# --- MobileNetV2 and EfficientNet-Lite --------------------------------------------------------------


def _torchvision_inverted(network: Network, names: Collection[str]) -> Layers:
    blocks = _numbered(network)
    top = f"features.{len(blocks) + 1}"
    layers = {
        ("stem", "conv"): "features.0.0",
        ("stem", "norm"): "features.0.1",
        ("top", "conv"): f"{top}.0",
        ("top", "norm"): f"{top}.1",
        (network.head, "dense"): "classifier.1",
    }
    for place, unit in enumerate(blocks, 1):
        base, first = f"features.{place}.conv", 0
        if _expands(network, unit):
            layers[unit, "expand"], layers[unit, "expand_norm"] = f"{base}.0.0", f"{base}.0.1"
            first = 1
        layers[unit, "depthwise"] = f"{base}.{first}.0"
        layers[unit, "depthwise_norm"] = f"{base}.{first}.1"
        layers[unit, "project"], layers[unit, "project_norm"] = (
            f"{base}.{first + 1}",
            f"{base}.{first + 2}",
        )
    return layers


def _timm_inverted(network: Network, names: Collection[str]) -> Layers:
    layers = {
        ("stem", "conv"): "conv_stem",
        ("stem", "norm"): "bn1",
        ("top", "conv"): "conv_head",
        ("top", "norm"): "bn2",
        (network.head, "dense"): "classifier",
    }
    # blocks.STAGE.BLOCK: how many a stage has is taken from the file; a wrong number does not fit the net.
    found = {
        tuple(map(int, match.groups())) for name in names if (match := _TIMM_BLOCK.match(name))
    }
    for unit, (stage, block) in zip(_numbered(network), sorted(found), strict=False):
        base = f"blocks.{stage}.{block}"
        wide = (
            ("expand", "depthwise", "project")
            if _expands(network, unit)
            else ("depthwise", "project")
        )
        own = {
            "expand": "conv_pw",
            "depthwise": "conv_dw",
            "project": "conv_pwl" if len(wide) == 3 else "conv_pw",
        }
        for number, layer in enumerate(wide, 1):
            layers[unit, layer], layers[unit, f"{layer}_norm"] = (
                f"{base}.{own[layer]}",
                f"{base}.bn{number}",
            )
    return layers


_TIMM_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.")


def _lite_inverted(network: Network, names: Collection[str]) -> Layers:
    """`efficientnet_lite_pytorch`, whose names are those of `efficientnet_pytorch`."""
    layers = {
        ("stem", "conv"): "_conv_stem",
        ("stem", "norm"): "_bn0",
        ("top", "conv"): "_conv_head",
        ("top", "norm"): "_bn1",
        (network.head, "dense"): "_fc",
    }
    for place, unit in enumerate(_numbered(network)):
        for number, layer in enumerate(("expand", "depthwise", "project")):
            layers[unit, layer] = f"_blocks.{place}._{layer}_conv"
            layers[unit, f"{layer}_norm"] = f"_blocks.{place}._bn{number}"
    return layers


# --- ConvNeXt ---------------------------------------------------------------------------------------


def _torchvision_convnext(network: Network, names: Collection[str]) -> Layers:
    layers = {
        ("stem", "conv"): "features.0.0",
        ("stem", "norm"): "features.0.1",
        (network.head, "norm"): "classifier.0",
        (network.head, "dense"): "classifier.2",
    }
    for stage in (2, 3, 4):
        layers[f"down{stage}", "norm"] = f"features.{2 * stage - 2}.0"
        layers[f"down{stage}", "conv"] = f"features.{2 * stage - 2}.1"
    for unit, stage, block in _blocks(network):
        base = f"features.{2 * stage - 1}.{block - 1}"
        layers[unit, "gamma"] = f"{base}.layer_scale"
        for layer, place in (("depthwise", 0), ("norm", 2), ("expand", 3), ("project", 5)):
            layers[unit, layer] = f"{base}.block.{place}"
    return layers


def _timm_convnext(network: Network, names: Collection[str]) -> Layers:
    layers = {
        ("stem", "conv"): "stem.0",
        ("stem", "norm"): "stem.1",
        (network.head, "norm"): "head.norm",
        (network.head, "dense"): "head.fc",
    }
    for stage in (2, 3, 4):
        layers[f"down{stage}", "norm"] = f"stages.{stage - 1}.downsample.0"
        layers[f"down{stage}", "conv"] = f"stages.{stage - 1}.downsample.1"
    for unit, stage, block in _blocks(network):
        base = f"stages.{stage - 1}.blocks.{block - 1}"
        own = {
            "gamma": "gamma",
            "depthwise": "conv_dw",
            "norm": "norm",
            "expand": "mlp.fc1",
            "project": "mlp.fc2",
        }
        for layer, name in own.items():
            layers[unit, layer] = f"{base}.{name}"
    return layers


_TORCH_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_KERAS_NORM = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}


def _torch(families: Mapping[str, Rule]) -> Naming:
    return Naming(".", {"kernel": "weight", "bias": "bias"}, _TORCH_NORM, from_torch, families)


_TIMM_VGG = _with_classifier(("pre_logits.fc1", "pre_logits.fc2", "head.fc"))

NAMINGS: dict[str, Naming] = {
    "torchvision": _torch(
        {
            "resnet": _torch_resnet,
            "alexnet": _with_classifier(("classifier.1", "classifier.4", "classifier.6")),
            "vgg": _with_classifier(("classifier.0", "classifier.3", "classifier.6")),
            "inverted residual": _torchvision_inverted,
            "convnext": _torchvision_convnext,
        }
    ),
    "timm": _torch(
        {
            "resnet": _torch_resnet,
            "vgg": _TIMM_VGG,
            "inverted residual": _timm_inverted,
            "convnext": _timm_convnext,
        }
    ),
    "efficientnet_lite_pytorch": _torch({"inverted residual": _lite_inverted}),
    "keras": Naming(
        "/",
        {"kernel": "kernel", "bias": "bias"},
        _KERAS_NORM,
        from_keras,
        {"resnet": _keras_resnet},
    ),
}
