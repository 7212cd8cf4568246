"""What is asked of GPUs and TPUs: how far batching over trials goes, and single nets against `torch.compile`."""

from statistics import median

import jax
from context import CPUS_ONLY, Context
from lenet_runs import LeNetRuns
from result import Result, not_measured
from timing import interleaved, ratio

_LANES = 256
_BATCHED = f"LeNet-5, all layers, batch 32: {_LANES} runs in one program against one, runs a second"
_NETS = {
    "resnet50 update": "ResNet-50, bfloat16, all layers: an update against torch.compile",
    "resnet50 features": "ResNet-50, bfloat16: features against torch.compile",
    "lite0 update": "EfficientNet-Lite0, bfloat16, all layers: an update against torch.compile",
    "lite0 features": "EfficientNet-Lite0, bfloat16: features against torch.compile",
}


def accelerator(context: Context) -> list[Result]:
    """Lines without a figure where there is none to measure."""
    if jax.default_backend() == "cpu":
        none = "no GPU or TPU here"
        batched = not_measured("accelerator lanes", _BATCHED, none, 30.0)
    else:
        none = CPUS_ONLY
        batched = _lanes(context)
    return [
        batched,
        *(not_measured(f"accelerator {name}", what, none, 0.95) for name, what in _NETS.items()),
    ]


def _lanes(context: Context) -> Result:
    settings, updates = context.settings, context.speed.updates
    one, many = (
        LeNetRuns(
            settings, batch_size=32, updates=updates, lanes=lanes, devices=jax.local_devices()[:1]
        )
        for lanes in (1, _LANES)
    )
    taken = interleaved({"one": one.train, "many": many.train}, context.speed.repeats)
    return Result(
        "accelerator lanes",
        _BATCHED,
        ours=f"{_LANES / median(taken['many']):.1f}",
        theirs=f"{1 / median(taken['one']):.2f}",
        ratio=ratio(taken, "many", "one", _LANES),
        goal=30.0,
        limit=context.machine.share(_LANES * many.flops * updates, median(taken["many"])),
    )
