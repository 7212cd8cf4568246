"""Networks and batches that compile in moments."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from convtl.config.training import OptimConfig, RegimeConfig, ScheduleConfig
from convtl.models.lenet import LeNet5Config
from convtl.models.network import Network, Variables
from convtl.training.runs import Batches, Recipe, Run
from convtl.training.step import Step
from convtl.transfer.plan import Phase, Plan, make_plan


class Normalised(nn.Module):
    """A dense layer with batch normalisation."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.Dense(self.features)(x.reshape(x.shape[0], -1))
        return nn.tanh(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))


class Head(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.Dense(self.features)(x)


CLASSES = 4
BATCH = 8
CHAIN = Network((("a", Normalised(6)), ("b", Normalised(5)), ("head", Head(CLASSES))), (3, 3, 1))
"""Two units with statistics of their own, and a head."""

LENET = LeNet5Config().build((28, 28, 1), CLASSES)


def drawn(network: Network, seed: int) -> Variables:
    """Variables like those of a net that was trained: none is 0 or 1, variances are positive."""
    rng = np.random.default_rng(seed)

    def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        if "var" in jax.tree_util.keystr(path):
            return rng.uniform(0.5, 2, shape.shape).astype(np.float32)
        fan = max(1, int(np.prod(shape.shape[:-1])))
        return (rng.normal(size=shape.shape) / np.sqrt(fan)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(leaf, network.abstract_variables)


def recipe(
    network: Network,
    depth: int | Plan,
    *,
    updates: int = 4,
    regime: RegimeConfig | None = None,
    optim: OptimConfig | None = None,
    schedule: ScheduleConfig | None = None,
    start: int = 0,
    runs_per_device: int = 2,
    steps_per_call: int = 2,
) -> Recipe:
    plan = (
        depth
        if isinstance(depth, Plan)
        else make_plan(network, regime or RegimeConfig("fine_tune"), depth, updates)
    )
    return Recipe(
        network=network,
        start=start,
        plan=plan,
        optim=optim or OptimConfig(),
        schedule=schedule or ScheduleConfig(),
        batch_size=BATCH,
        runs_per_device=runs_per_device,
        steps_per_call=steps_per_call,
    )


def step_of(network: Network, phase: Phase, optim: OptimConfig, **options: Any) -> Step:
    """The update of a phase, from the first unit on."""
    given = recipe(network, Plan((phase,), 0), optim=optim)
    return Step(dataclasses.replace(given, **options), phase)


def batches(shape: tuple[int, ...], seed: int) -> Batches:
    """Made-up batches, each a function of its number."""

    def draw(first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        drawn = [np.random.default_rng([seed, step]) for step in range(first, stop)]
        images = np.stack([rng.normal(size=(BATCH, *shape)).astype(np.float32) for rng in drawn])
        labels = np.stack([rng.integers(0, CLASSES, BATCH).astype(np.int32) for rng in drawn])
        return images, labels

    return draw


def run(network: Network, seed: int, rate: float = 0.01) -> Run:
    return Run(drawn(network, seed), rate, batches(network.input_shape, seed))


def same_bits(one: Any, other: Any) -> bool:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
