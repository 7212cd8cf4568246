"""All devices on every run: the numbers of one device, and less memory on each."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from small_nets import BATCH, CHAIN, LENET, recipe, run

from convtl.config.training import AugmentConfig, OptimConfig
from convtl.errors import UserError
from convtl.training.devices import Layout
from convtl.training.loop import Trainer
from convtl.training.runs import Recipe, Run, RunResult

CASES: dict[str, Recipe] = {
    "statistics of the batch": recipe(CHAIN, 3, updates=6, optim=OptimConfig(kind="sgd")),
    "statistics as they are": dataclasses.replace(recipe(CHAIN, 3, updates=6), norm_mode="frozen"),
    "a part of the net": recipe(CHAIN, 2, updates=6, optim=OptimConfig(kind="sgd", clip=1.0)),
    "maps": recipe(LENET, 5, updates=6),
    "augmented": dataclasses.replace(
        recipe(LENET, 5, updates=6, optim=OptimConfig(ema=0.9)),
        augment=AugmentConfig(crop=(0.5, 1.0), flip=True, colour=0.2, mixup=0.2),
    ),
}


def _over(split: Any, count: int) -> Layout:
    return Layout(tuple(jax.local_devices()[:count]), split)


def _runs(given: Recipe, count: int) -> list[Run]:
    return [run(given.network, seed, rate=0.003 * (seed + 1)) for seed in range(count)]


def _apart(one: RunResult, other: RunResult, start: Any) -> float:
    """How far two runs end from each other, as a share of the way that they went.

    Weights one by one may be farther apart: Adam makes the same step of any gradient but 0.
    """

    def norm(first: Any, second: Any) -> float:
        pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
        return float(np.sqrt(sum(np.square(np.asarray(a, float) - b).sum() for a, b in pairs)))

    return norm(one.variables, other.variables) / norm(one.variables, start)


def _close(one: RunResult, other: RunResult, start: Any) -> None:
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-3)
    assert _apart(one, other, start) < 1e-3


@pytest.mark.parametrize(
    "case",
    [
        case if case == "statistics of the batch" else pytest.param(case, marks=pytest.mark.slow)
        for case in CASES
    ],
)
def test_a_batch_over_two_devices_is_that_of_one(case: str) -> None:
    runs = _runs(CASES[case], 2)
    one, both = (Trainer(CASES[case], _over("batch", count)) for count in (1, 2))
    assert one.width == both.width == CASES[case].runs_per_device
    shared = both.train(runs)
    for alone in (one.train(runs), Trainer(CASES[case], _over("trials", 1)).train(runs)):
        for index, own in enumerate(runs):
            _close(alone[index], shared[index], own.variables)


def test_each_device_has_its_share_of_every_batch() -> None:
    layout = _over("batch", 2)
    images = layout.put(np.zeros((2, 3, BATCH, 4, 4, 1), np.float32), layout.batches)
    assert {shard.data.shape for shard in images.addressable_shards} == {
        (2, 3, BATCH // 2, 4, 4, 1)
    }
    layout = _over("trials", 2)
    images = layout.put(np.zeros((2, 3, BATCH, 4, 4, 1), np.float32), layout.batches)
    assert {shard.data.shape for shard in images.addressable_shards} == {(1, 3, BATCH, 4, 4, 1)}


def test_a_batch_with_a_remainder_is_refused() -> None:
    given = dataclasses.replace(recipe(CHAIN, 1), batch_size=7)
    line = "batch_size: got 7 with devices.split=batch on 2 devices; accepted: a multiple of 2"
    with pytest.raises(UserError, match=line):
        Trainer(given, _over("batch", 2))
    Trainer(given, _over("trials", 2))
