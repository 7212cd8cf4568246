"""The same nets for PyTorch, as somebody who knows it would write them; leaves are named as torchvision and timm do."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

_LITE_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""(blocks, kernel size, stride of the first, expansion, features), as in `convtl.models.efficientnet`."""


class LeNet5(nn.Module):
    """28x28 grey images; units as in `convtl.models.lenet`, the same default activation and pooling."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc3, self.fc4, self.fc5 = (
            nn.Linear(400, 120),
            nn.Linear(120, 84),
            nn.Linear(84, classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.avg_pool2d(torch.tanh(self.conv1(x)), 2)
        x = F.avg_pool2d(torch.tanh(self.conv2(x)), 2)
        x = torch.tanh(self.fc3(x.flatten(1)))
        return self.fc5(torch.tanh(self.fc4(x)))


def load_lenet5(net: LeNet5, variables: Mapping[str, Any]) -> None:
    """Gives the net the weights of ours."""
    with torch.no_grad():
        for unit in ("conv1", "conv2"):
            own = variables[unit]["params"]["conv"]
            getattr(net, unit).weight.copy_(_tensor(np.transpose(own["kernel"], (3, 2, 0, 1))))
            getattr(net, unit).bias.copy_(_tensor(own["bias"]))
        for unit in ("fc3", "fc4", "fc5"):
            own = variables[unit]["params"]["dense"]
            kernel = np.asarray(own["kernel"])
            if (
                unit == "fc3"
            ):  # what it sees is flattened height, width, maps here, and maps first there
                kernel = kernel.reshape(5, 5, 16, -1).transpose(2, 0, 1, 3).reshape(400, -1)
            getattr(net, unit).weight.copy_(_tensor(kernel.T))
            getattr(net, unit).bias.copy_(_tensor(own["bias"]))


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


class _Basic(nn.Module):
    """Two 3x3 convolutions round which the input is added (He et al. 2016)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(x)).add_(kept), inplace=True)


class ResNet18(nn.Module):
    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        for number, (before, after) in enumerate(((64, 64), (64, 128), (128, 256), (256, 512)), 1):
            first = _Basic(before, after, 1 if number == 1 else 2)
            setattr(self, f"layer{number}", nn.Sequential(first, _Basic(after, after, 1)))
        self.fc = nn.Linear(512, classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return x.mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x))

    def last_stage(self) -> tuple[Any, ...]:
        return self.layer4, self.fc


class _Inverted(nn.Module):
    """Expand, filter each map by itself, project (Sandler et al. 2018)."""

    def __init__(self, before: int, after: int, size: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        self.expands, self.adds = expansion != 1, stride == 1 and before == after
        if self.expands:
            self.conv_pw, self.bn1 = nn.Conv2d(before, wide, 1, bias=False), _norm(wide)
        depthwise = nn.Conv2d(wide, wide, size, stride, size // 2, groups=wide, bias=False)
        project = nn.Conv2d(wide, after, 1, bias=False)
        if self.expands:
            self.conv_dw, self.bn2, self.conv_pwl, self.bn3 = (
                depthwise,
                _norm(wide),
                project,
                _norm(after),
            )
        else:
            self.conv_dw, self.bn1, self.conv_pw, self.bn2 = (
                depthwise,
                _norm(wide),
                project,
                _norm(after),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        if self.expands:
            y = F.relu6(self.bn1(self.conv_pw(y)), inplace=True)
            y = F.relu6(self.bn2(self.conv_dw(y)), inplace=True)
            y = self.bn3(self.conv_pwl(y))
        else:
            y = F.relu6(self.bn1(self.conv_dw(y)), inplace=True)
            y = self.bn2(self.conv_pw(y))
        return y.add_(x) if self.adds else y


def _norm(maps: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(maps, eps=1e-3)


class EfficientNetLite0(nn.Module):
    """With the same padding on every side, for which PyTorch needs no further operation."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = nn.Conv2d(3, 32, 3, 2, 1, bias=False), _norm(32)
        stages, before = [], 32
        for count, size, stride, expansion, after in _LITE_STAGES:
            blocks = []
            for place in range(count):
                blocks.append(_Inverted(before, after, size, 1 if place else stride, expansion))
                before = after
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head, self.bn2 = nn.Conv2d(before, 1280, 1, bias=False), _norm(1280)
        self.classifier = nn.Linear(1280, classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(F.relu6(self.bn1(self.conv_stem(x)), inplace=True))
        return F.relu6(self.bn2(self.conv_head(x)), inplace=True).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x))

    def last_stage(self) -> tuple[Any, ...]:
        """The last block of the last stage, what comes after, and the head."""
        return self.blocks[-1], self.conv_head, self.bn2, self.classifier
