"""Fresh nets in replicates: their images, training and measures."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from convtl.config.training import OptimConfig, ScheduleConfig
from convtl.data.inputs import batch_indices, standardise
from convtl.data.splits import Domain
from convtl.data.subsets import draw_target, relabel
from convtl.keys import key
from convtl.models.lenet import LeNet5Config, PlainConfig
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.training.devices import Layout, devices
from convtl.training.loop import Trainer
from convtl.training.runs import Recipe, Run, RunResult, TrainState
from convtl.transfer.plan import Phase, Plan

FreshNet = LeNet5Config | PlainConfig
Optimiser = Literal["sgd", "adam"]

PER_CLASS = {"train": 100, "validation": 10, "test": 50}
"""Images a class for training, measures and scores; fewer where the target has fewer."""

_BATCH_SIZE = 16


class ProbeImages(NamedTuple):
    """Images (replicates, n, h, w, c), standardised, and labels (replicates, n)."""

    seed: int
    replicates: int
    classes: int
    splits: dict[str, tuple[np.ndarray, ...]]


def draw_images(domain: Domain, seed: int, classes: int | None, replicates: int) -> ProbeImages:
    """Draw classes and images for every replicate, as a target's are drawn."""
    counts = {split: min(most, domain.counts[split]) for split, most in PER_CLASS.items()}
    held_out: dict[str, Any] = {"n_validation": counts["validation"], "n_test": counts["test"]}
    drawn: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {split: [] for split in counts}
    for replicate in range(replicates):
        draw = draw_target(domain, seed=seed, replicate=replicate, classes=classes, **held_out)
        chosen = (draw.subset(counts["train"]), draw.validation, draw.test)
        splits = domain.splits(seed, replicate)
        for (name, pairs), positions in zip(drawn.items(), chosen, strict=True):
            split = splits[name]
            labels = relabel(split.labels[positions], draw.classes)
            pairs.append((standardise(split.images[positions]), labels))
    stacked = {
        split: tuple(map(np.stack, zip(*pairs, strict=True))) for split, pairs in drawn.items()
    }
    return ProbeImages(seed, replicates, len(draw.classes), stacked)


class Replicates:
    """Untrained nets, stacked by replicate, and their training at one rate."""

    def __init__(
        self, images: ProbeImages, net: FreshNet, optimiser: Optimiser, rate: float
    ) -> None:
        self.net, self.images, self._rate = net, images, rate
        self._optim, self._layout = OptimConfig(kind=optimiser), replicate_layout(images.replicates)
        shape = images.splits["train"][0].shape[2:]
        shared = replace(net, initialiser="lecun_normal")  # so that others share its programs
        self.network = build_network(shared, shape, images.classes)
        keys = [key(images.seed, "probe-init", number) for number in range(images.replicates)]
        # Without `jit`: a deep chain takes longer to compile than one operation a shape.
        init = jax.vmap(build_network(net, shape, images.classes).init)
        self.variables: Variables = jax.tree.map(np.asarray, init(jnp.stack(keys)))

    def train(
        self, moments: Sequence[int], frozen: str | None = None, since: int = 0
    ) -> dict[int, Variables]:
        """Return variables after `moments` updates; `frozen` is frozen from `since` on."""
        last, states = max(moments), {0: self.variables}
        every = tuple((unit, 1.0) for unit in self.network.weighted)
        rest = tuple((unit, factor) for unit, factor in every if unit != frozen)
        phases = (Phase(0, since, every), Phase(since, last, rest))
        recipe = Recipe(
            network=self.network,
            start=0,
            plan=Plan(tuple(phase for phase in phases if phase.first < phase.stop), 0),
            optim=self._optim,
            schedule=ScheduleConfig(kind="constant"),
            batch_size=_BATCH_SIZE,
            runs_per_device=self.images.replicates // len(self._layout.devices),
            steps_per_call=min(100, math.gcd(*moments)),  # each of them ends a call
            vectorised=True,  # the last bits of earlier tables
        )
        runs = [
            Run(
                jax.tree.map(lambda leaf, at=number: leaf[at], self.variables),
                self._rate,
                partial(self._batches, number),
            )
            for number in range(self.images.replicates)
        ]

        def callback(state: TrainState) -> None:
            if state.update in moments:
                states[state.update] = _stacked(state.results())

        if last:
            trainer = _trainer(recipe, self._layout)
            states[last] = _stacked(trainer.train(runs, callback))
        return {moment: states[moment] for moment in moments}

    def _batches(self, replicate: int, first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Return batches that depend on replicate and update alone."""
        images, labels = (array[replicate] for array in self.images.splits["train"])
        stream, count = ("probe-order", replicate), len(images)
        order = batch_indices(self.images.seed, stream, count, _BATCH_SIZE, first, stop)
        return images[order], labels[order]

    def measure(self, function: Callable[..., Any], *arrays: Any) -> Any:
        """Map `function(network, ...)` over the replicates, first axis of all arrays."""
        return jax.tree.map(np.asarray, _measured(function, self.network, self._layout, *arrays))


_trainer = lru_cache(maxsize=4)(Trainer)


def _stacked(results: Sequence[RunResult]) -> Variables:
    trees = [result.variables for result in results]
    return cast(Variables, jax.tree.map(lambda *leaves: np.stack(leaves), *trees))


def replicate_layout(replicates: int) -> Layout:
    """Choose the most devices that share replicates evenly; numbers depend on them."""
    local = devices()
    used = max(number for number in range(1, len(local) + 1) if replicates % number == 0)
    return Layout(tuple(local[:used]))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _measured(function: Callable[..., Any], network: Network, layout: Layout, *arrays: Any) -> Any:
    mapped = jax.vmap(partial(function, network))
    sharded = jax.shard_map(
        mapped, mesh=layout.mesh, in_specs=layout.runs, out_specs=layout.runs, check_vma=False
    )
    return sharded(*arrays)
