"""LeNet-5: full fine-tuning against PyTorch, what depth costs, heads on cached features."""

from statistics import median
from typing import Any

import jax
import numpy as np
from context import Context
from lenet_runs import LeNetRuns
from result import Result, difference, not_measured
from timing import interleaved, ratio

from convtl.runtime.cores import core_count

_BATCH = 64
_ALIKE = 1e-3
"""Largest difference of a loss, as a share of it, in the first updates."""
_COMPARED = 20
_BATCHED = "LeNet-5, all layers, batch 64: runs batched over trials, images/s"
_ALONE = "LeNet-5, all layers, batch 64: one run alone, images/s"


def full_fine_tuning(context: Context) -> list[Result]:
    """An update of the whole net: many runs in one program, and one run alone, against PyTorch's best."""
    if context.no_torch is not None:
        return [
            not_measured("lenet batched", _BATCHED, context.no_torch, 2.0),
            not_measured("lenet alone", _ALONE, context.no_torch, 1.3),
        ]
    settings, updates = context.settings, context.speed.updates
    common: dict[str, Any] = {"batch_size": _BATCH, "updates": updates}
    many = LeNetRuns(settings, lanes=settings.lanes, **common)
    one = LeNetRuns(settings, lanes=1, devices=jax.local_devices()[:1], **common)
    setting, theirs = _torch(one)
    losses = theirs()
    taken = interleaved(
        {"many": many.train, "one": one.train, "torch": theirs}, context.speed.repeats
    )
    images = updates * _BATCH
    return [
        Result(
            name,
            what,
            ours=f"{runs.width * images / median(taken[side]):,.0f}",
            theirs=f"{images / median(taken['torch']):,.0f} ({setting})",
            ratio=ratio(taken, side, "torch", runs.width),
            goal=goal,
            limit=_bound(context, runs, median(taken[side])),
            wrong=_compare(runs, losses),
            note=f"{runs.width} runs at once" if runs is many else "",
        )
        for name, what, side, runs, goal in (
            ("lenet batched", _BATCHED, "many", many, 2.0),
            ("lenet alone", _ALONE, "one", one, 1.3),
        )
    ]


def _bound(context: Context, runs: LeNetRuns, taken: float) -> str:
    """How far from the matrix products' own rate, by the algorithm and by what is really multiplied."""
    done = runs.width * runs.updates
    multiplied = 100 * done * runs.multiplied / taken / context.machine.gemm
    return (
        f"{context.machine.share(done * runs.flops, taken)}; {multiplied:.0f}% with the zeros of bands. The rest: "
        "patches, tanh, pooling and their gradients, which move memory, and drawing batches"
    )


def _torch(runs: LeNetRuns) -> tuple[Any, Any]:
    """PyTorch's fastest setting, and the same run with it: the losses of a fresh net."""
    from pytorch import nets as torch_nets
    from pytorch import side as torch_side

    images, labels = runs.batches(0, runs.updates)
    rates = runs.rates()

    def make(setting: torch_side.Setting) -> torch_side.Work:
        net = torch_nets.LeNet5(int(runs.labels.max()) + 1)
        fitting = torch_side.Fitting(net, [net], setting)
        placed, wanted = torch_side.placed(images, setting), torch_side.labels_of(labels)

        def work() -> list[float]:
            torch_nets.load_lenet5(net, runs.variables)
            fitting.forget()
            return fitting.run(placed, wanted, rates)

        return work

    return torch_side.fastest(make, core_count())


def _compare(runs: LeNetRuns, theirs: list[float]) -> str | None:
    """What is wrong with the first losses, if anything."""
    ours = runs.train()[0].losses[:_COMPARED]
    worst = int(np.argmax(np.abs(ours - theirs[:_COMPARED])))
    return difference(float(ours[worst]), theirs[worst], _ALIKE, f"loss before update {worst + 1}")


def depths(context: Context) -> list[Result]:
    """Whether an update of the last k units takes the share of the whole net's that its arithmetic is."""
    common: dict[str, Any] = {
        "batch_size": context.settings.batch_size,
        "updates": context.speed.updates,
    }
    lanes = context.settings.lanes
    whole = LeNetRuns(context.settings, lanes=lanes, **common)
    parts = {
        (depth, cached): LeNetRuns(
            context.settings, depth=depth, cached=cached, lanes=lanes, **common
        )
        for cached in (False, True)
        for depth in (4, 3, 2, 1)
    }
    sides = {"all": whole.train} | {
        f"{depth} {cached}": runs.train for (depth, cached), runs in parts.items()
    }
    taken = interleaved(sides, context.speed.repeats)
    results = []
    for (depth, cached), runs in parts.items():
        each = ratio(taken, "all", f"{depth} {cached}", whole.flops / runs.flops)
        share = median(taken[f"{depth} {cached}"]) / median(taken["all"])
        results.append(
            Result(
                f"depth {depth}{' cached' if cached else ''}",
                f"LeNet-5, last {depth} of 5 units, frozen part "
                f"{'computed once before' if cached else 'computed in each update'}: share of a whole update, "
                "over the share of its arithmetic",
                ours=f"{100 * share:.2g}% of the time",
                theirs=f"{100 * runs.flops / whole.flops:.2g}% of the arithmetic",
                ratio=each,
                goal=1.2,
                sense="at most",
                limit="the rate of the whole update, beside which its arithmetic is held"
                if not cached or depth > 3
                else _overhead(taken[f"{depth} True"], runs),
            )
        )
    return results


def _overhead(taken: list[float], runs: LeNetRuns) -> str:
    each = median(taken) / runs.updates / runs.width
    return f"{1e6 * each:.0f} µs an update: drawing and copying batches, the loop, Adam; hardly arithmetic"


def heads(context: Context) -> list[Result]:
    """A run of the last layer on cached features against one of the whole net, both batched."""
    settings = context.settings
    common: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "updates": context.speed.updates,
        "lanes": settings.lanes,
    }
    head = LeNetRuns(settings, depth=1, cached=True, **common)
    whole = LeNetRuns(settings, **common)
    taken = interleaved({"head": head.train, "whole": whole.train}, context.speed.repeats)
    return [
        Result(
            "head",
            "LeNet-5: a run of the whole net against one of the head on cached features, seconds",
            ours=f"{1e3 * median(taken['head']) / head.width / head.updates:.3f} ms an update",
            theirs=f"{1e3 * median(taken['whole']) / whole.width / whole.updates:.2f} ms an update, all layers",
            ratio=ratio(taken, "head", "whole"),
            goal=100,
            limit=_overhead(taken["head"], head),
        )
    ]
