"""A run's numbers depend on nothing but the run: not on its company, its place or the chunks."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from small_nets import CHAIN, LENET, batches, drawn, recipe, run, same_bits

from convtl.config.training import OptimConfig, RegimeConfig, ScheduleConfig
from convtl.training import runs as runs_module
from convtl.training.devices import Layout
from convtl.training.features import Forward
from convtl.training.loop import Trainer, programs
from convtl.training.runs import Run, RunResult, flops_per_update
from convtl.training.step import Step
from convtl.transfer.plan import Phase, Plan

CONSTANT = ScheduleConfig(kind="constant")
ALL = tuple((unit, 1.0) for unit in CHAIN.names)


def _same(one: RunResult, other: RunResult) -> bool:
    return same_bits(
        {"variables": one.variables, "losses": one.losses},
        {"variables": other.variables, "losses": other.losses},
    )


@pytest.fixture(scope="module")
def trainers() -> dict[int, Trainer]:
    """LeNet-5 at two depths, four runs on two devices."""
    return {depth: Trainer(recipe(LENET, depth)) for depth in (1, 5)}


def _run(seed: int) -> Run:
    return run(LENET, seed, rate=0.003 * (seed + 1))


@pytest.mark.parametrize("depth", [1, 5])
def test_company_changes_no_bit(depth: int, trainers: dict[int, Trainer]) -> None:
    trainer = trainers[depth]
    assert trainer.width == 4
    four = [_run(seed) for seed in range(4)]
    together = trainer.train(four)
    assert all(result.finite for result in together)
    for order in ([3, 2, 1, 0], [1, 3, 0, 2]):
        permuted = trainer.train([four[index] for index in order])
        assert all(_same(permuted[place], together[index]) for place, index in enumerate(order))
    replaced = trainer.train([_run(9), four[1], _run(8), _run(7)])
    assert _same(replaced[1], together[1])
    assert not _same(replaced[0], together[0])
    for places in ([0], [1], [2, 0, 3]):
        padded = trainer.train([four[index] for index in places])
        assert len(padded) == len(places)
        assert all(
            _same(result, together[index]) for index, result in zip(places, padded, strict=True)
        )


def test_a_lane_that_diverges_leaves_its_neighbours_alone(trainers: dict[int, Trainer]) -> None:
    four = [_run(seed) for seed in range(4)]
    wild = [
        dataclasses.replace(own, rate=1e38) if place == 1 else own for place, own in enumerate(four)
    ]
    calm, stormy = trainers[5].train(four), trainers[5].train(wild)
    assert [result.finite for result in stormy] == [True, False, True, True]
    assert all(_same(stormy[place], calm[place]) for place in (0, 2, 3))


@pytest.mark.parametrize("where", ["losses", "weights"])
def test_a_run_with_anything_that_is_no_number_is_not_finite(where: str) -> None:
    good = RunResult({"head": {"params": {"kernel": np.ones(2)}}, "pool": {}}, np.ones(3))
    assert good.finite
    for bad in (np.nan, np.inf):
        if where == "losses":
            assert not dataclasses.replace(good, losses=np.array([1, bad])).finite
        else:
            assert not dataclasses.replace(
                good, variables={"a": {"params": {"b": np.array([bad])}}}
            ).finite


def test_chunks_change_no_bit() -> None:
    """Also where the updates are no multiple of the chunk."""
    four = [run(CHAIN, seed) for seed in range(4)]
    expected = Trainer(recipe(CHAIN, 2)).train(four)
    for chunk in (1, 3):
        found = Trainer(recipe(CHAIN, 2, steps_per_call=chunk)).train(four)
        assert all(_same(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.slow
def test_one_run_at_a_time_gives_the_same_run() -> None:
    four = [_run(seed) for seed in range(4)]
    together = Trainer(recipe(LENET, 5, updates=20, steps_per_call=10)).train(four)
    one_at_a_time = Trainer(
        recipe(LENET, 5, updates=20, runs_per_device=1, steps_per_call=10),
        Layout(tuple(jax.local_devices()[:1])),
    )
    images = batches(LENET.input_shape, 99)(0, 25)[0].reshape(200, 28, 28, 1)
    predict = Forward(LENET, 0)
    for own, batched in zip(four, together, strict=True):
        (alone,) = one_at_a_time.train([own])
        np.testing.assert_allclose(alone.losses, batched.losses, atol=1e-4)
        guesses = [predict(result.variables, images).argmax(1) for result in (alone, batched)]
        assert np.sum(guesses[0] != guesses[1]) <= 1


@pytest.mark.parametrize("depth", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_cached_prefix_gives_the_same_run(depth: int) -> None:
    """The frozen part computed once, against computed anew in every update."""
    updates, size, count = 20, 8, 40
    rng = np.random.default_rng(5)
    images = rng.normal(size=(count, 28, 28, 1)).astype(np.float32)
    labels = rng.integers(0, 4, count).astype(np.int32)
    order = rng.integers(0, count, (updates, size))
    whole = recipe(LENET, depth, updates=updates, runs_per_device=1, steps_per_call=10)
    boundary = whole.plan.boundary
    variables = drawn(LENET, 3)
    features = Forward(LENET, 0, boundary)(variables, images)

    def train(start: int, inputs: np.ndarray) -> RunResult:
        own = {name: variables[name] for name in LENET.names[start:]}
        run = Run(
            own, 0.01, lambda first, stop: (inputs[order[first:stop]], labels[order[first:stop]])
        )
        return Trainer(dataclasses.replace(whole, start=start)).train([run])[0]

    uncached, cached = train(0, images), train(boundary, features)
    assert set(cached.variables) == set(LENET.names[boundary:])
    np.testing.assert_allclose(cached.losses, uncached.losses, atol=1e-4)
    unseen = rng.normal(size=(200, 28, 28, 1)).astype(np.float32)
    predict = Forward(LENET, 0)
    tuned = variables | cached.variables
    guesses = [predict(own, unseen).argmax(1) for own in (tuned, uncached.variables)]
    assert np.sum(guesses[0] != guesses[1]) <= 1
    assert not same_bits(cached.variables["fc5"], variables["fc5"])


def _in_phases(turn: int | None, restart: bool = False) -> Plan:
    if turn is None:
        return Plan((Phase(0, 4, ALL),), 0)
    return Plan((Phase(0, turn, ALL), Phase(turn, 4, ALL, restart)), 0)


def test_the_optimiser_is_carried_across_phases_unless_restarted() -> None:
    def train(plan: Plan) -> RunResult:
        given = recipe(CHAIN, plan, schedule=CONSTANT, optim=OptimConfig(clip=0.5))
        return Trainer(given).train([run(CHAIN, 0), run(CHAIN, 1)])[1]

    unbroken = train(_in_phases(None))
    assert _same(train(_in_phases(2)), unbroken)
    assert not _same(train(_in_phases(2, restart=True)), unbroken)


def test_two_phases_are_two_runs_one_after_the_other() -> None:
    """LP-FT: the head alone, then all, with a fresh optimiser and schedule."""
    own = run(CHAIN, 0, rate=0.05)
    whole = recipe(CHAIN, 2, regime=RegimeConfig("lp_ft"), updates=8)
    (result,) = Trainer(whole).train([own])
    probe, tune = whole.plan.phases
    (probed,) = Trainer(recipe(CHAIN, Plan((probe,), 2))).train([own])
    assert same_bits(probed.variables["b"], own.variables["b"])
    assert not same_bits(probed.variables["head"], own.variables["head"])
    rest = dataclasses.replace(own, variables=probed.variables)
    (tuned,) = Trainer(recipe(CHAIN, Plan((tune,), 1))).train([rest])
    assert same_bits(result.variables, tuned.variables)
    assert same_bits(result.losses, np.concatenate([probed.losses, tuned.losses]))


def test_a_net_learns() -> None:
    shape = CHAIN.input_shape
    images, labels = (array[0] for array in batches(shape, 0)(0, 1))
    run = Run(
        drawn(CHAIN, 0),
        0.05,
        lambda first, stop: (
            np.stack([images] * (stop - first)),
            np.stack([labels] * (stop - first)),
        ),
    )
    (result,) = Trainer(recipe(CHAIN, 3, updates=60, runs_per_device=1, steps_per_call=30)).train(
        [run]
    )
    assert result.losses[0] > 1
    assert result.losses[-1] < 0.1


def test_runs_that_differ_in_rate_data_or_weights_share_a_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traced = []
    update = Step.__call__

    def counted(*given: Any) -> Any:
        traced.append(given)
        return update(*given)

    monkeypatch.setattr(Step, "__call__", counted)
    programs.cache_clear()
    trainer = Trainer(recipe(CHAIN, 2))
    trainer.train([run(CHAIN, 0)])
    once = len(traced)
    assert once >= 1
    trainer.train([run(CHAIN, seed, rate=10.0**-seed) for seed in range(1, 5)])
    trainer.train([run(CHAIN, seed, rate=0.3) for seed in range(5, 8)])
    assert len(traced) == once


def test_batches_are_asked_for_once_and_chunk_by_chunk() -> None:
    asked: list[tuple[int, int]] = []
    own = run(CHAIN, 0)

    def listened(first: int, stop: int) -> Any:
        asked.append((first, stop))
        return own.batches(first, stop)

    given = recipe(CHAIN, 1, updates=5)
    (result,) = Trainer(given).train([dataclasses.replace(own, batches=listened)])
    assert asked == [(0, 2), (2, 4), (4, 5)]
    assert result.losses.shape == (5,)


def test_a_run_can_be_stopped_between_chunks() -> None:
    own = run(CHAIN, 0)

    def stopped(first: int, stop: int) -> Any:
        if first == 2:
            raise KeyboardInterrupt
        return own.batches(first, stop)

    trainer = Trainer(recipe(CHAIN, 1))
    with pytest.raises(KeyboardInterrupt):
        trainer.train([dataclasses.replace(own, batches=stopped)])
    assert _same(trainer.train([run(CHAIN, 0)])[0], trainer.train([run(CHAIN, 0)])[0])


@pytest.mark.parametrize("count", [0, 5])
def test_more_lanes_than_there_are_and_none_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} runs for a program of 4"):
        Trainer(recipe(CHAIN, 1)).train([run(CHAIN, seed) for seed in range(count)])


def test_calls_have_room_for_fewer_updates_that_cost_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal waits for the end of a call."""
    given = recipe(LENET, 5, updates=2000, steps_per_call=1000, runs_per_device=4)
    flops = flops_per_update(given.network, given.plan, given.batch_size, given.start)
    assert given.updates_per_call == 1000
    assert dataclasses.replace(given, steps_per_call=5000).updates_per_call == 2000
    monkeypatch.setattr(runs_module, "_FLOPS_PER_CALL", 4 * 7 * flops)
    assert given.updates_per_call == 7
    monkeypatch.setattr(runs_module, "_BYTES_PER_CALL", 3 * 4 * given.batch_size * 28 * 28)
    assert given.updates_per_call == 3


def test_one_call_at_most_is_on_its_way_behind_another(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, wait = Trainer(recipe(LENET, 1, updates=8)), jax.block_until_ready
    losses: list[Any] = []
    behind: list[int] = []

    def block(loss: Any) -> Any:
        behind.append(next(n for n, own in enumerate(reversed(losses)) if own is loss))
        return wait(loss)

    def watched(call: Any) -> Any:
        def inner(*given: Any) -> Any:
            after = call(*given)
            losses.append(after[2])
            return after

        return inner

    trainer._programs = {phase: watched(call) for phase, call in trainer._programs.items()}
    monkeypatch.setattr(jax, "block_until_ready", block)
    trainer.train([_run(0)])
    assert len(losses) == 4
    assert behind == [1] * 3
