"""PyTorch's side: the same nets and updates, in the fastest of its usual settings."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from comparing import seconds
from torch import nn

from convtl.runtime.backend import core_count

UNITS = ("conv1", "conv2", "fc3", "fc4", "fc5")


@dataclass(frozen=True)
class Setting:
    """Memory layout, compiled or eager, threads."""

    channels_last: bool
    compiled: bool
    threads: int

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        return f"{layout}, {'compiled' if self.compiled else 'eager'}, {self.threads} threads"

    def placed(self, images: np.ndarray) -> torch.Tensor:
        """Move channels first: (batch, channels, height, width), in this layout."""
        tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))
        return tensor.to(memory_format=self.layout)

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


def fastest(
    make: Callable[[Setting], Callable[[], Any]], tries: int = 2
) -> tuple[Setting, Callable[[], Any]]:
    """Return the setting with the least time, and its work; skip failing ones."""
    candidates: list[tuple[Setting, Callable[[], Any]]] = []
    for channels_last, compiled in ((True, False), (False, False), (True, True)):
        for threads in sorted({1, core_count()}):
            setting = Setting(channels_last, compiled, threads)
            work = _with_threads(make(setting), threads)
            try:
                work()
            except Exception:
                if not compiled:  # compiling takes a C++ compiler, which may not be here
                    raise
                continue
            candidates.append((setting, work))
    times = [min(seconds(work) for _ in range(tries)) for _, work in candidates]
    return candidates[times.index(min(times))]


def _with_threads(work: Callable[[], Any], threads: int) -> Callable[[], Any]:
    def run() -> Any:
        torch.set_num_threads(threads)
        try:
            return work()
        finally:
            torch.set_num_threads(core_count())

    return run


class LeNet5(nn.Module):
    """LeNet-5 on 28x28 grey images, as `convtl.models.lenet` has it."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc3 = nn.Linear(400, 120)
        self.fc4 = nn.Linear(120, 84)
        self.fc5 = nn.Linear(84, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.avg_pool2d(torch.tanh(self.conv1(x)), 2)
        x = F.avg_pool2d(torch.tanh(self.conv2(x)), 2)
        x = torch.tanh(self.fc3(x.flatten(1)))
        return self.fc5(torch.tanh(self.fc4(x)))

    def load(self, variables: Mapping[str, Any]) -> None:
        """Take over the weights of convtl's net."""
        state = {}
        for unit in UNITS:
            ((layer, leaves),) = variables[unit]["params"].items()
            kernel = np.asarray(leaves["kernel"])
            if unit == "fc3":  # flattened as (height, width, maps) there, maps first here
                kernel = kernel.reshape(5, 5, 16, -1).transpose(2, 0, 1, 3).reshape(400, -1)
            kernel = kernel.transpose((3, 2, 0, 1) if layer == "conv" else (1, 0))
            state[f"{unit}.weight"] = torch.from_numpy(kernel.copy())
            state[f"{unit}.bias"] = torch.from_numpy(np.array(leaves["bias"]))
        self.load_state_dict(state)


def labels_of(labels: np.ndarray) -> torch.Tensor:
    """Labels as PyTorch's cross-entropy takes them."""
    return torch.from_numpy(np.asarray(labels, np.int64))


def real_net(name: str) -> nn.Module:
    """A net of torchvision or timm with random weights and running statistics."""
    torch.manual_seed(0)
    if name == "resnet18":
        from torchvision.models import resnet18

        net = resnet18()
    else:
        from timm import create_model

        net = create_model(name, bn_eps=1e-3)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.6, 1.4)
    return net.eval()


def last_stage(net: Any) -> list[nn.Module]:
    """Modules of the last stage, of those after it, and of the head."""
    if hasattr(net, "layer4"):
        return [net.layer4, net.fc]
    return [net.blocks[-1], net.conv_head, net.bn2, net.classifier]


class Fitting:
    """Updates of a net with Adam; untrained modules are in inference mode."""

    def __init__(self, net: nn.Module, trained: Sequence[nn.Module], setting: Setting) -> None:
        self.net = deepcopy(net).to(memory_format=setting.layout)
        names = [name for name, module in net.named_modules() if module in trained]
        self.net.eval().requires_grad_(False)
        for name in names:
            self.net.get_submodule(name).train().requires_grad_(True)
        self._start = {name: leaf.clone() for name, leaf in self.net.state_dict().items()}
        self._call = torch.compile(self.net) if setting.compiled else self.net

    def run(
        self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], rates: Sequence[float]
    ) -> np.ndarray:
        """Train from the start, an update for each batch; return the loss before each."""
        self.net.load_state_dict(self._start)
        weights = [weight for weight in self.net.parameters() if weight.requires_grad]
        optimiser = torch.optim.Adam(weights, foreach=True)
        losses = []
        for (images, labels), rate in zip(batches, rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate
            loss = F.cross_entropy(self._call(images), labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        return np.array([float(loss) for loss in losses])


def features(net: Any, setting: Setting, images: np.ndarray, batch: int) -> Callable[[], Any]:
    """Return a function that computes pooled features of images, in batches."""
    net = deepcopy(net).requires_grad_(False).to(memory_format=setting.layout)
    net.reset_classifier(0)
    call = torch.compile(net) if setting.compiled else net
    parts = [setting.placed(images[at : at + batch]) for at in range(0, len(images), batch)]

    def work() -> np.ndarray:
        with torch.inference_mode():
            return torch.cat([call(part) for part in parts]).numpy()

    return work


def train_trial(
    depth: int, images: int, updates: int, rates: int, held_out: int, *, batch: int, classes: int
) -> None:
    """Train LeNet-5 as a trial does, at every rate, on made-up images; evaluate."""
    setting = Setting(True, False, 1)
    random = np.random.default_rng(0)
    x = setting.placed(random.standard_normal((images, 28, 28, 1), np.float32))
    y = torch.from_numpy(random.integers(0, classes, images))
    rest = setting.placed(random.standard_normal((held_out, 28, 28, 1), np.float32))
    net = LeNet5(classes)
    fitting = Fitting(net, [getattr(net, unit) for unit in UNITS[-depth:]], setting)
    for _ in range(rates):
        chosen = torch.from_numpy(random.integers(0, images, (updates, batch)))
        fitting.run(((x[rows], y[rows]) for rows in chosen), [1e-3] * updates)
        with torch.inference_mode():
            fitting.net(rest)
