"""A study's trials as a good PyTorch program would run them: one after another, frozen layers without gradients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from pytorch.nets import LeNet5, load_lenet5
from pytorch.side import laid_out

UNITS = ("conv1", "conv2", "fc3", "fc4", "fc5")


@dataclass(frozen=True)
class TorchTrial:
    """All that one trial is, as arrays.

    Attributes:
      variables: the net that it starts from, as convtl has it.
      depth: number of last units that are trained.
      images, labels: of training; `batches` are places in them, (updates, batch).
      factors: the schedule, one for each update; `rates` are the learning rates that are tried.
      validation, test: images and labels.
    """

    variables: Mapping[str, Any]
    depth: int
    images: np.ndarray
    labels: np.ndarray
    batches: np.ndarray
    factors: np.ndarray
    rates: Sequence[float]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def run_trial(trial: TorchTrial) -> tuple[float, float]:
    """Trains at every rate, chooses on validation, and reads the test images once.

    Returns:
      The chosen rate, and the accuracy on the test images.
    """
    images, labels = _images(trial.images), _labels(trial.labels)
    batches = torch.from_numpy(np.asarray(trial.batches, np.int64))
    held_out = _images(trial.validation[0]), _labels(trial.validation[1])
    best: tuple[tuple[float, float], float, LeNet5] | None = None
    for rate in trial.rates:
        net = _trained(trial, images, labels, batches, rate)
        with torch.inference_mode():
            logits = net(held_out[0])
            score = _accuracy(logits, held_out[1]), -float(F.cross_entropy(logits, held_out[1]))
        if best is None or score > best[0]:
            best = score, rate, net
    assert best is not None
    with torch.inference_mode():
        return best[1], _accuracy(best[2](_images(trial.test[0])), _labels(trial.test[1]))


def _trained(
    trial: TorchTrial,
    images: torch.Tensor,
    labels: torch.Tensor,
    batches: torch.Tensor,
    rate: float,
) -> LeNet5:
    net = LeNet5(int(np.asarray(trial.variables["fc5"]["params"]["dense"]["bias"]).shape[0]))
    load_lenet5(net, trial.variables)
    net = laid_out(net, True)
    net.requires_grad_(False)
    trained = UNITS[-trial.depth :]
    for unit in trained:
        getattr(net, unit).requires_grad_(True)
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    optimiser = torch.optim.Adam(weights, lr=rate, foreach=True)
    for places, factor in zip(batches, trial.factors, strict=True):
        optimiser.param_groups[0]["lr"] = rate * float(factor)
        loss = F.cross_entropy(net(images[places]), labels[places])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return net


def _images(images: np.ndarray) -> torch.Tensor:
    moved = torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))
    return moved.contiguous(memory_format=torch.channels_last)


def _labels(labels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(labels, np.int64))


def _accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return float((logits.argmax(1) == labels).float().mean())
