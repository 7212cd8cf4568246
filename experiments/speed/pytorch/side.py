"""PyTorch's way of doing what is timed: the fastest of its usual settings is taken."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timing import seconds
from torch import nn


@dataclass(frozen=True)
class Setting:
    """How a net is run: memory layout, compiled or not, threads."""

    channels_last: bool
    compiled: bool
    threads: int

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        return f"{layout}, {'compiled' if self.compiled else 'eager'}, {self.threads} threads"


def settings(cores: int) -> list[Setting]:
    """What is tried: both layouts, eager, and channels_last compiled; each with one thread and with one a core."""
    eager = [
        Setting(channels_last, False, threads)
        for channels_last in (True, False)
        for threads in sorted({1, cores}, reverse=True)
    ]
    return [*eager, *(Setting(True, True, threads) for threads in sorted({1, cores}, reverse=True))]


@contextmanager
def in_setting(setting: Setting) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(setting.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


Work = Callable[[], Any]


def fastest(make: Callable[[Setting], Work], cores: int, tries: int = 3) -> tuple[Setting, Work]:
    """The fastest setting and its work; a setting that cannot be is passed over.

    After one call of each they take turns, and their best times count: a machine that is slow for a while is not
    to choose.
    """
    found: list[tuple[Setting, Work]] = []
    for setting in settings(cores):
        try:
            work = within(setting, make(setting))
            work()
        except Exception as error:
            if not setting.compiled:  # eager must work; compiling needs a compiler on this machine
                raise
            del error
            continue
        found.append((setting, work))
    taken = [[seconds(work) for _, work in found] for _ in range(tries)]
    best = [min(times) for times in zip(*taken, strict=True)]
    return found[best.index(min(best))]


def within(setting: Setting, work: Work) -> Work:
    """The work with the setting's number of threads."""

    def run() -> Any:
        with in_setting(setting):
            return work()

    return run


def placed(images: np.ndarray, setting: Setting) -> torch.Tensor:
    """(..., height, width, channels) -> (..., channels, height, width), in the setting's layout."""
    moved = np.ascontiguousarray(np.moveaxis(images, -1, -3))
    tensor = torch.from_numpy(moved)
    if not setting.channels_last:
        return tensor
    flat = tensor.reshape(-1, *tensor.shape[-3:]).contiguous(memory_format=torch.channels_last)
    return flat.reshape(tensor.shape) if tensor.ndim == 4 else flat.unflatten(0, tensor.shape[:-3])


def laid_out(net: Any, channels_last: bool) -> Any:
    """A net whose kernels lie as its images do."""
    return net.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


class Fitting:
    """Updates of a net with Adam; `trained` modules learn, all others are frozen and in inference mode.

    Frozen layers have no gradients, so autograd does not go through them.
    """

    def __init__(self, net: nn.Module, trained: Sequence[nn.Module], setting: Setting) -> None:
        self.net = laid_out(net, setting.channels_last)
        self.net.eval().requires_grad_(False)
        for module in trained:
            module.train().requires_grad_(True)
        self._weights = [weight for module in trained for weight in module.parameters()]
        self._forward = torch.compile(self.net) if setting.compiled else self.net
        self.forget()

    def forget(self) -> None:
        """A fresh optimiser."""
        self._optimiser = torch.optim.Adam(self._weights, lr=1e-3, foreach=True)

    def run(
        self, images: Iterable[torch.Tensor], labels: Iterable[torch.Tensor], rates: Sequence[float]
    ) -> list[float]:
        """One update for each rate; the loss before each."""
        losses = []
        for batch, wanted, rate in zip(images, labels, rates, strict=True):
            self._optimiser.param_groups[0]["lr"] = rate
            loss = F.cross_entropy(self._forward(batch), wanted)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self._optimiser.step()
            losses.append(loss.detach())
        return [float(loss) for loss in losses]


def labels_of(labels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(labels, np.int64))


def save_state(net: nn.Module, path: Any) -> None:
    """Writes the weights where `convtl.models.weights` reads them."""
    from safetensors.torch import save_file

    save_file({name: leaf.contiguous() for name, leaf in net.state_dict().items()}, path)


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Scales and statistics that are not all ones and zeros, so that a mistake in them shows."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                statistics: Any = module
                statistics.running_mean.normal_(0, 0.1, generator=random)
                statistics.running_var.uniform_(0.6, 1.4, generator=random)
    return net


def seeded(kind: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A fresh net, always the same one."""
    torch.manual_seed(seed)
    return kind().eval()


def state_of(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: leaf.clone() for name, leaf in net.state_dict().items()}


def inference(
    net: nn.Module, setting: Setting, method: str
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A method of a net in inference mode, in a setting."""
    own = laid_out(deepcopy(net).eval().requires_grad_(False), setting.channels_last)
    call: Callable[[torch.Tensor], torch.Tensor] = getattr(own, method)
    return torch.compile(call) if setting.compiled else call


def outputs(
    net: Callable[[torch.Tensor], torch.Tensor], images: Sequence[torch.Tensor]
) -> np.ndarray:
    """What a net says of batches, without gradients."""
    with torch.inference_mode():
        return torch.cat([net(batch) for batch in images]).numpy()
