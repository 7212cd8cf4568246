"""Real nets against PyTorch: features of many images, and updates of the last stage."""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from context import Context
from lenet_runs import RATE
from result import Result, difference, not_measured
from timing import interleaved, ratio

from convtl.config.models import ModelConfig
from convtl.config.weights import FileWeights
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.models.weights import import_weights, network_of
from convtl.runtime.cores import core_count
from convtl.study.shared_features import passes
from convtl.training.cost import flops_per_update, multiply_adds
from convtl.training.loop import Trainer
from convtl.training.recipe import Recipe
from convtl.training.runs import Run
from convtl.transfer.plan import make_plan, resolve_depth

_BATCH = 32
_ALIKE = 1e-3
_FEATURES = "EfficientNet-Lite0, 224 px: features of {} images, images/s"
_UPDATE = "{}, 224 px: update of the last stage, batch 32, frozen part computed each time, images/s"
_NETS = {
    "resnet18": ("ResNet-18", "stage4", "torchvision"),
    "efficientnet_lite0": ("EfficientNet-Lite0", "block16", "timm"),
}
"""Name -> in words, the first unit of its last stage, whose names its leaves have."""


def real_nets(context: Context) -> list[Result]:
    if context.no_torch is not None:
        return [
            not_measured(
                "lite0 features", _FEATURES.format(context.speed.images), context.no_torch, 1.0
            ),
            *(
                not_measured(f"{name} last stage", _UPDATE.format(words), context.no_torch, 1.0)
                for name, (words, *_) in _NETS.items()
            ),
        ]
    return [features(context), *(last_stage(context, name) for name in _NETS)]


def _model(context: Context, name: str) -> ModelConfig:
    """The model without what is drawn, and padded as PyTorch pads best: the same on every side."""
    model: Any = context.settings.models[name]
    return (
        replace(model, dropout=0.0, padding="symmetric") if name == "efficientnet_lite0" else model
    )


def _same_net(context: Context, name: str) -> tuple[Network, Variables, Any]:
    """Our net and PyTorch's, with the same random weights."""
    from pytorch import nets as torch_nets
    from pytorch import side as torch_side

    kinds = {"resnet18": torch_nets.ResNet18, "efficientnet_lite0": torch_nets.EfficientNetLite0}
    net = torch_side.randomise(torch_side.seeded(kinds[name]))
    path = Path(context.scratch) / f"{name}.safetensors"
    torch_side.save_state(net, path)
    naming: Any = _NETS[name][2]
    weights = FileWeights(model=name, naming=naming, path=str(path))
    network = network_of(weights, _model(context, name))
    return network, import_weights(weights, network).variables, net


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 224, 224, 3), np.float32)


def features(context: Context) -> Result:
    """The frozen part of a big net over many images, as studies compute it."""
    from pytorch import side as torch_side

    name = "efficientnet_lite0"
    network, variables, net = _same_net(context, name)
    images = _images(context.speed.images)
    boundary = network.index(network.head)

    def make(setting: torch_side.Setting) -> torch_side.Work:
        own = torch_side.inference(net, setting, "features")
        batches = [
            torch_side.placed(images[at : at + _BATCH], setting)
            for at in range(0, len(images), _BATCH)
        ]
        return partial(torch_side.outputs, own, batches)

    setting, theirs = torch_side.fastest(make, core_count(), tries=2)

    def ours() -> np.ndarray:
        return np.concatenate(list(passes(network, variables, 0, boundary, images)))

    found, wanted = ours(), theirs()
    off = float((np.abs(found - wanted).max(1) / np.abs(wanted).max(1)).max())
    taken = interleaved({"ours": ours, "torch": theirs}, max(1, context.speed.repeats // 2))
    plain = build_network(_model(context, name), (224, 224, 3), 1000, plain=True)
    operations = 2 * sum(multiply_adds(plain).values()) * len(images)
    return Result(
        "lite0 features",
        _FEATURES.format(len(images)),
        ours=f"{len(images) / median(taken['ours']):.1f}",
        theirs=f"{len(images) / median(taken['torch']):.1f} ({setting})",
        ratio=ratio(taken, "ours", "torch"),
        goal=1.0,
        limit=context.machine.share(operations, median(taken["ours"]))
        + "; depthwise units move memory instead",
        wrong=None if off <= _ALIKE else f"features differ by {off:.1e} of the largest",
    )


def last_stage(context: Context, name: str) -> Result:
    """Updates of the last stage; a run on each device here, one run on all cores there."""
    from pytorch import side as torch_side

    words, first, _ = _NETS[name]
    network, variables, net = _same_net(context, name)
    updates = context.speed.net_updates
    plan = make_plan(
        network, context.settings.regimes["fine_tune"], resolve_depth(network, first), updates
    )
    recipe = Recipe(
        network=network,
        start=0,
        plan=plan,
        optim=context.settings.optim,
        schedule=replace(context.settings.schedule, kind="constant"),
        batch_size=_BATCH,
        lanes=1,
        chunk=updates,
    )
    trainer = Trainer(recipe)
    images = _images(_BATCH)
    labels = (np.arange(_BATCH) % 10).astype(np.int32)

    def batches(begin: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        several = (stop - begin, *images.shape)
        return np.broadcast_to(images, several), np.broadcast_to(labels, several[:2])

    lanes = [Run(variables, RATE, batches) for _ in range(trainer.width)]
    state = torch_side.state_of(net)

    def make(setting: torch_side.Setting) -> torch_side.Work:
        own = deepcopy(net)  # each setting lays out its net in its own way
        fitting = torch_side.Fitting(own, own.last_stage(), setting)
        batch, wanted = torch_side.placed(images, setting), torch_side.labels_of(labels)

        def work() -> list[float]:
            own.load_state_dict(state)
            fitting.forget()
            return fitting.run([batch] * updates, [wanted] * updates, [RATE] * updates)

        return work

    setting, theirs = torch_side.fastest(make, core_count(), tries=2)
    train = partial(trainer.train, lanes)
    ours, wanted = train()[0].losses, theirs()
    worst = int(np.argmax(np.abs(ours - wanted)))
    taken = interleaved({"ours": train, "torch": theirs}, max(1, context.speed.repeats // 2))
    plain = build_network(_model(context, name), (224, 224, 3), 1000, plain=True)
    operations = flops_per_update(plain, plan, _BATCH, 0) * updates * trainer.width
    shown = updates * _BATCH
    return Result(
        f"{name} last stage",
        _UPDATE.format(words),
        ours=f"{trainer.width * shown / median(taken['ours']):.1f}",
        theirs=f"{shown / median(taken['torch']):.1f} ({setting})",
        ratio=ratio(taken, "ours", "torch", trainer.width),
        goal=1.0,
        limit=context.machine.share(operations, median(taken["ours"])),
        wrong=difference(
            float(ours[worst]), wanted[worst], 5 * _ALIKE, f"loss before update {worst + 1}"
        ),
        note=f"{trainer.width} runs at once; in studies the frozen part is computed once before",
    )
