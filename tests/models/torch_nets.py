"""The nets as their authors wrote them for PyTorch, with random weights and statistics: what imports are held to."""

import torch
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
