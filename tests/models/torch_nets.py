"""The nets as their authors wrote them for PyTorch, with random weights and statistics: what imports are held to."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

_NEEDED_BY_TORCHVISION = ("nms", "qnms")


def _torchvision_models():
    """`torchvision.models`. Without its binary extension, which classification needs nothing of, two operators
    for detection have to be declared before it can be imported (PyTorch for CPU beside PyPI's torchvision)."""
    try:
        import torchvision.models
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in _NEEDED_BY_TORCHVISION:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _torchvision_models.library = library  # it declares as long as it lives
        import torchvision.models
    return torchvision.models


def original(model: str, naming: str) -> nn.Module:
    """A net of this project by its name, as the package `naming` has it; 1000 classes, in inference mode."""
    models = _torchvision_models()
    if naming == "torchvision":
        net = getattr(models, model)()
    elif naming == "efficientnet_lite_pytorch":
        from efficientnet_lite_pytorch import EfficientNet

        net = EfficientNet.from_name(model.replace("_", "-"))
    else:
        import timm

        own = {"mobilenet_v2": "mobilenetv2_100"}.get(model, model)
        net = timm.create_model(f"tf_{own}" if own.startswith("efficientnet_lite") else own)
    return net.eval()


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """Draws what a fresh net has as zeros or ones: biases, normalisation with its statistics, layer scale."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, leaf in [*net.named_parameters(), *net.named_buffers()]:
            last = name.rpartition(".")[2]
            if (
                last == "running_var"
                or (last == "weight" and leaf.ndim == 1)
                or last in ("gamma", "layer_scale")
            ):
                leaf.uniform_(0.6, 1.4, generator=random)
            elif last in ("bias", "running_mean"):
                leaf.normal_(0, 0.1, generator=random)
    return net


def layers_model(
    topology: Mapping[str, Any], arrays: Mapping[str, np.ndarray], images: torch.Tensor
) -> torch.Tensor:
    """Runs a layers model of TensorFlow.js as its `model.json` describes it, up to the softmax.

    Args:
      topology: the content of model.json.
      arrays: name -> array, in Keras' layout.
      images: (batch, channels, height, width), as the model expects them.
    """

    def leaf(name: str) -> torch.Tensor:
        return torch.from_numpy(arrays[name])

    def step(layer: Mapping[str, Any], x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        config, name = layer["config"], layer["name"]
        match layer["class_name"]:
            case "ZeroPadding2D":
                (top, bottom), (left, right) = config["padding"]
                return F.pad(x, (left, right, top, bottom))
            case "Conv2D":
                assert config["padding"] == "valid" or config["strides"] == [1, 1]
                padding = config["kernel_size"][0] // 2 if config["padding"] == "same" else 0
                kernel = leaf(f"{name}/kernel").permute(3, 2, 0, 1)
                return F.conv2d(x, kernel, leaf(f"{name}/bias"), config["strides"], padding)
            case "BatchNormalization":
                own = [
                    leaf(f"{name}/{last}")
                    for last in ("moving_mean", "moving_variance", "gamma", "beta")
                ]
                return F.batch_norm(x, *own, eps=config["epsilon"])
            case "Activation":
                assert config["activation"] == "relu"
                return F.relu(x)
            case "MaxPooling2D":
                return F.max_pool2d(x, config["pool_size"], config["strides"])
            case "Add":
                return x + others[0]
            case "GlobalAveragePooling2D":
                return x.mean((2, 3))
            case "Dense":
                return x @ leaf(f"{name}/kernel") + leaf(f"{name}/bias")
        raise ValueError(layer["class_name"])

    outputs: dict[str, torch.Tensor] = {}
    for layer in topology["modelTopology"]["model_config"]["config"]["layers"]:
        inputs = [outputs[node[0]] for nodes in layer["inbound_nodes"] for node in nodes]
        x = step(layer, *inputs) if inputs else images
        outputs[layer["name"]] = x
    return x
