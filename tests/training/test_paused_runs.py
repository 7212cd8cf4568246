"""A run that is paused between two chunks goes on to the very bits of an unbroken one."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from small_nets import CHAIN, LENET, batches, drawn, recipe, run, same_bits

from convtl.config.training import AugmentConfig, OptimConfig, RegimeConfig, ScheduleConfig
from convtl.storage import checkpoint
from convtl.training.loop import Trainer
from convtl.training.runs import Recipe, Run, RunResult, RunState, TrainState

EMA = OptimConfig(ema=0.9)
CASES = {
    "Adam": recipe(CHAIN, 2, updates=6),
    "momentum": recipe(CHAIN, 3, updates=8, optim=OptimConfig(kind="sgd")),
    "decay and clipping": recipe(
        CHAIN, 3, updates=8, optim=OptimConfig(kind="adamw", weight_decay=0.1, clip=1.0)
    ),
    "an average": recipe(CHAIN, 3, updates=6, optim=EMA),
    "head first": recipe(CHAIN, 3, updates=8, regime=RegimeConfig("lp_ft"), optim=EMA),
    "unit by unit": recipe(CHAIN, 3, updates=12, regime=RegimeConfig("gradual"), optim=EMA),
    "pulled to the source": recipe(CHAIN, 3, updates=6, regime=RegimeConfig("l2_sp")),
    "on features": recipe(CHAIN, 1, updates=6, start=2),
    "maps, augmented": dataclasses.replace(
        recipe(LENET, 5, updates=6, regime=RegimeConfig("fine_tune"), optim=EMA),
        augment=AugmentConfig(crop=(0.5, 1.0), flip=True, colour=0.2, mixup=0.2),
    ),
}


def _runs(given: Recipe, count: int = 3) -> list[Run]:
    made = [run(given.network, seed, rate=0.003 * (seed + 1)) for seed in range(count)]
    if not given.start:
        return [dataclasses.replace(own, seed=7) for own in made]
    features = [run(CHAIN, seed) for seed in range(count)]
    shape = given.network.shape_before(given.start)
    return [
        Run({"head": drawn(CHAIN, seed)["head"]}, own.rate, batches(shape, seed))
        for seed, own in enumerate(features)
    ]


def _unbroken(
    trainer: Trainer, runs: Sequence[Run]
) -> tuple[list[RunResult], dict[int, list[RunState]]]:
    """What runs leave, and how they stood after each chunk."""
    stood: dict[int, list[RunState]] = {}

    def between(end: TrainState) -> None:
        stood[end.update] = end.states()

    return trainer.train(runs, between), stood


def _same(one: RunResult, other: RunResult) -> bool:
    return same_bits((one.variables, one.losses), (other.variables, other.losses))


SLOW = (
    "momentum",
    "decay and clipping",
    "an average",
    "head first",
    "unit by unit",
    "maps, augmented",
)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in CASES],
)
def test_a_paused_run_goes_on_bit_for_bit(case: str, tmp_path) -> None:
    trainer = Trainer(CASES[case])
    runs = _runs(CASES[case])
    left, stood = _unbroken(trainer, runs)
    assert all(_same(one, other) for one, other in zip(trainer.train(runs), left, strict=True))
    updates = CASES[case].plan.phases[-1].stop
    assert list(stood) == list(range(2, updates, 2))
    for update, paused in stood.items():
        assert all(trainer.resumes(one) for one in paused)
        # In another order and company, and by way of the disk.
        kept = []
        for number, one in enumerate(paused):
            checkpoint.save(tmp_path / f"{update}-{number}", one._asdict(), {})
            kept.append(RunState(**checkpoint.load(tmp_path / f"{update}-{number}")[0]))
        again = trainer.train(
            [dataclasses.replace(runs[index], state=kept[index]) for index in (2, 0)]
        )
        assert _same(again[0], left[2])
        assert _same(again[1], left[0])


def test_what_is_seen_between_is_what_a_shorter_run_leaves() -> None:
    """With a constant rate; averages are those of the updates that are done."""
    seen: dict[int, list[RunResult]] = {}
    constant = ScheduleConfig(kind="constant")
    runs = [run(CHAIN, 0), run(CHAIN, 1)]

    def between(end: TrainState) -> None:
        seen[end.update] = end.results()

    Trainer(recipe(CHAIN, 2, updates=8, optim=EMA, schedule=constant)).train(runs, between)
    shorter = Trainer(recipe(CHAIN, 2, updates=4, optim=EMA, schedule=constant)).train(runs)
    assert all(_same(one, other) for one, other in zip(shorter, seen[4], strict=True))


def test_lanes_at_different_updates_do_not_travel_together() -> None:
    trainer = Trainer(recipe(CHAIN, 2, updates=8))
    runs = [run(CHAIN, 0), run(CHAIN, 1)]
    _, stood = _unbroken(trainer, runs)
    for begun in ((stood[2][0], stood[4][1]), (stood[2][0], None)):
        mixed = [
            dataclasses.replace(own, state=paused) for own, paused in zip(runs, begun, strict=True)
        ]
        with pytest.raises(ValueError, match="have done the same updates"):
            trainer.train(mixed)


def test_a_state_of_another_recipe_is_not_resumed() -> None:
    trainer = Trainer(recipe(CHAIN, 2, updates=8))
    _, stood = _unbroken(trainer, [run(CHAIN, 0)])
    (state,) = stood[4]
    assert trainer.resumes(state)
    assert trainer.resumes(state._replace(losses=state.losses[:3]))
    for update in (0, 8, 9):
        assert not trainer.resumes(state._replace(losses=np.zeros(update, np.float32)))
    for other in (recipe(CHAIN, 3), recipe(CHAIN, 2, optim=EMA), recipe(LENET, 2)):
        assert not Trainer(other).resumes(state._replace(losses=state.losses[:2]))
