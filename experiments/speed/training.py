"""Updates of LeNet-5 and of real nets, and features, against PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np
from comparing import Result, interleaved, ratios

from convtl.cli import compose
from convtl.config.models import FileWeights
from convtl.config.parsing import parse
from convtl.config.schema import Config
from convtl.data.inputs import batch_indices
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.models.weights import import_weights, network_of
from convtl.training.devices import Layout
from convtl.training.features import passes
from convtl.training.loop import Trainer
from convtl.training.runs import Recipe, Run
from convtl.transfer.plan import make_plan, resolve_depth

RATE = 1e-3
_BATCH, _CLASSES = 64, 12
"""Of LeNet-5."""
CLOSE = 5e-3
"""Largest difference of losses, and of features, as a share of the largest."""
_COMPARED = 20
"""Updates whose losses are compared; later ones differ by rounding."""
_NETS = {
    "resnet18": ("ResNet-18", "stage4", "torchvision"),
    "efficientnet_lite0": ("EfficientNet-Lite0", "block16", "timm"),
}
"""Name -> in words, first unit of the last stage, naming of its leaves."""


@dataclass(frozen=True)
class Amounts:
    """Amounts of work to be timed.

    Attributes:
      rounds: of each comparison; updates: of LeNet-5 in one run; images: whose features are computed.
      scratch: folder for temporary files; smoke: whether to take the smoke study.
    """

    rounds: int
    updates: int
    images: int
    scratch: Path
    smoke: bool = False


def _trainer(
    settings: Config, network: Network, depth: int | str, batch: int, updates: int, **options: Any
) -> Trainer:
    """Make a trainer of the last units at a constant rate, frozen part included."""
    layout = options.pop("layout", None)
    plan = make_plan(network, settings.regimes["fine_tune"], resolve_depth(network, depth), updates)
    recipe = Recipe(
        network=network,
        start=0,
        plan=plan,
        optim=settings.optim,
        schedule=replace(settings.schedule, kind="constant"),
        batch_size=batch,
        runs_per_device=options.get("runs", 1),
        steps_per_call=settings.steps_per_call,
    )
    return Trainer(recipe, layout)


def _difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Describe the difference of two arrays; empty where they are close."""
    share = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    return "" if share <= CLOSE else f"differs by {share:.1e} of the largest"


def lenet(amounts: Amounts, torch: bool) -> list[Result]:
    """Full fine-tuning of LeNet-5: many runs in one program, and one run alone."""
    title = "LeNet-5, all layers, batch 64: {}, images/s"
    results = [
        Result("lenet batched", title.format("runs batched over trials"), 2.0),
        Result("lenet alone", title.format("one run alone"), 1.3),
    ]
    if not torch:
        return results
    settings, updates = parse(compose([])), amounts.updates
    network = build_network(settings.models["lenet5"], (28, 28, 1), _CLASSES)
    variables = jax.tree.map(np.asarray, jax.jit(network.init)(jax.random.key(0)))
    setting, theirs = _torch_lenet(variables, updates)
    make_trainer = partial(_trainer, settings, network, "all", _BATCH, updates)
    one_device = Layout((jax.local_devices()[0],))
    trainers = [make_trainer(runs=settings.runs_per_device), make_trainer(layout=one_device)]
    sides = {
        result.name: partial(trainer.train, [Run(variables, RATE, _batches)] * trainer.width)
        for result, trainer in zip(results, trainers, strict=True)
    }
    losses = theirs()[:_COMPARED]
    wrong = [_difference(train()[0].losses[:_COMPARED], losses) for train in sides.values()]
    times = interleaved(sides | {"torch": theirs}, amounts.rounds)
    shown = updates * _BATCH
    return [
        replace(
            result,
            ours=f"{width * shown / median(times[result.name]):,.0f} ({width} at once)",
            theirs=f"{shown / median(times['torch']):,.0f} ({setting})",
            figures=ratios(times[result.name], times["torch"], width),
            wrong=difference,
        )
        for result, width, difference in zip(
            results, (trainer.width for trainer in trainers), wrong, strict=True
        )
    ]


_IMAGES = np.random.default_rng(0).standard_normal((512, 28, 28, 1), np.float32)


def _batches(first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (updates, batch, 28, 28, 1) and labels for LeNet-5, made up."""
    rows = batch_indices(0, ("speed",), len(_IMAGES), _BATCH, first, stop)
    return _IMAGES[rows], (rows % _CLASSES).astype(np.int32)


def _torch_lenet(variables: Variables, updates: int) -> tuple[Any, Callable[[], np.ndarray]]:
    """PyTorch's fastest setting, and a function that trains the same net in it."""
    import torch_side

    def make(setting: torch_side.Setting) -> Callable[[], np.ndarray]:
        net = torch_side.LeNet5(_CLASSES)
        net.load(variables)
        fitting = torch_side.Fitting(net, [net], setting)
        pairs = [
            (setting.placed(x), torch_side.labels_of(y))
            for x, y in zip(*_batches(0, updates), strict=True)
        ]
        return lambda: fitting.run(pairs, [RATE] * updates)

    return torch_side.fastest(make)


def nets(amounts: Amounts, torch: bool) -> list[Result]:
    """Features of a real net, and updates of the last stage of two."""
    blank = [
        Result("lite0 features", "EfficientNet-Lite0, 224 px: features, images/s", 1.0),
        *(
            Result(
                f"{name} last stage",
                f"{words}, 224 px: update of the last stage, batch 32, frozen part included, images/s",
                1.0,
            )
            for name, (words, *_) in _NETS.items()
        ),
    ]
    if not torch:
        return blank
    settings = parse(compose([]))
    results = [_features(blank[0], settings, amounts)]
    return results + [
        _last_stage(result, settings, name, amounts)
        for result, name in zip(blank[1:], _NETS, strict=True)
    ]


def _same_net(settings: Config, name: str, scratch: Path) -> tuple[Network, Variables, Any]:
    """Build both nets with the same random weights and padding, without dropout."""
    import torch_side
    from safetensors.torch import save_file

    net, model = torch_side.real_net(name), settings.models[name]
    if name == "efficientnet_lite0":
        model = replace(model, padding="symmetric")
    path, naming = scratch / f"{name}.safetensors", _NETS[name][2]
    save_file({key: leaf.contiguous() for key, leaf in net.state_dict().items()}, path)
    weights = FileWeights(model=name, naming=naming, path=str(path))
    network = network_of(weights, model)
    return network, import_weights(weights, network).variables, net


def _photographs(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 224, 224, 3), np.float32)


def _features(result: Result, settings: Config, amounts: Amounts) -> Result:
    import torch_side

    network, variables, net = _same_net(settings, "efficientnet_lite0", amounts.scratch)
    images, boundary = _photographs(amounts.images), network.index(network.head)
    setting, theirs = torch_side.fastest(
        lambda setting: torch_side.features(net, setting, images, batch=32)
    )

    def ours() -> np.ndarray:
        return np.concatenate(list(passes(network, variables, 0, boundary, images)))

    wrong = _difference(ours(), theirs())
    times = interleaved({"ours": ours, "torch": theirs}, (amounts.rounds + 1) // 2)
    return replace(
        result,
        ours=f"{len(images) / median(times['ours']):.1f}",
        theirs=f"{len(images) / median(times['torch']):.1f} ({setting})",
        figures=ratios(times["ours"], times["torch"]),
        wrong=wrong,
    )


def _last_stage(result: Result, settings: Config, name: str, amounts: Amounts) -> Result:
    """Time updates of the last stage: ours a run a device, PyTorch's on all cores."""
    import torch_side

    batch, updates = 32, 4
    network, variables, net = _same_net(settings, name, amounts.scratch)
    trainer = _trainer(settings, network, _NETS[name][1], batch, updates)
    images, labels = _photographs(batch), (np.arange(batch) % 10).astype(np.int32)

    def batches(first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (stop - first, *images.shape)
        return np.broadcast_to(images, shape), np.broadcast_to(labels, shape[:2])

    def make(setting: torch_side.Setting) -> Callable[[], np.ndarray]:
        fitting = torch_side.Fitting(net, torch_side.last_stage(net), setting)
        pair = setting.placed(images), torch_side.labels_of(labels)
        return lambda: fitting.run([pair] * updates, [RATE] * updates)

    setting, theirs = torch_side.fastest(make)
    train = partial(trainer.train, [Run(variables, RATE, batches)] * trainer.width)
    wrong = _difference(train()[0].losses, theirs())
    times = interleaved({"ours": train, "torch": theirs}, (amounts.rounds + 1) // 2)
    shown = updates * batch
    return replace(
        result,
        ours=f"{trainer.width * shown / median(times['ours']):.1f} ({trainer.width} runs at once)",
        theirs=f"{shown / median(times['torch']):.1f} ({setting})",
        figures=ratios(times["ours"], times["torch"], trainer.width),
        wrong=wrong,
    )
