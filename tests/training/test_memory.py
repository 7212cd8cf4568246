"""Memory by shapes: what XLA's own analysis of the compiled programs says, roughly."""

from math import prod
from typing import Any

import jax
import pytest
from small_nets import BATCH, LENET, lane, recipe

from convtl.config import OptimConfig
from convtl.training import memory
from convtl.training.lanes import Recipe, Trainer, one_after_another
from convtl.training.layout import Layout
from convtl.training.memory import device_bytes, lane_bytes, most_lanes
from convtl.training.step import params_of


@pytest.mark.parametrize("depth", [1, 5])
def test_what_lanes_take_is_about_what_xla_reserves(depth: int) -> None:
    given = recipe(LENET, depth, lanes=3)
    trainer = Trainer(given, Layout(tuple(jax.local_devices()[:1])))
    (phase,) = given.plan.phases
    program, seen = trainer._programs[phase], list[Any]()

    def watched(*arguments: Any) -> Any:
        seen.append(
            jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), arguments
            )
        )
        return program(*arguments)

    trainer._programs[phase] = watched
    trainer.train([lane(LENET, seed) for seed in range(3)])
    reserved = max(
        (program.lower(*arguments).compile().memory_analysis() for arguments in seen),
        key=lambda found: found.argument_size_in_bytes,
    )
    there, _ = lane_bytes(given)
    assert 3 * there == pytest.approx(reserved.argument_size_in_bytes, rel=0.05)
    whole = reserved.argument_size_in_bytes + reserved.temp_size_in_bytes
    assert whole / 2 < device_bytes(given, 3) < 1.2 * whole


@pytest.mark.parametrize("in_turn", [True, False])
def test_the_most_lanes_are_what_the_budget_holds(
    in_turn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = recipe(LENET, 5)
    monkeypatch.setattr(memory, "one_after_another", lambda recipe: in_turn)
    for lanes in (1, 2, 7, 100):
        assert most_lanes(given, device_bytes(given, lanes)) == lanes
        assert most_lanes(given, device_bytes(given, lanes + 1) - 1) == lanes
    assert most_lanes(given, 1.0) == 1


def test_a_whole_net_takes_more_than_its_head() -> None:
    assert lane_bytes(recipe(LENET, 5))[1] > lane_bytes(recipe(LENET, 1))[1]


def test_what_is_frozen_keeps_nothing_for_the_backward_pass() -> None:
    """Maps of units that no gradient goes through come and go."""
    image = 4 * prod(LENET.input_shape)
    kept = {depth: _kept_of(recipe(LENET, depth)) for depth in (1, 5)}
    assert kept[1] < BATCH * image < kept[5]


def test_pieces_keep_their_own_maps_only() -> None:
    whole = recipe(LENET, 5, optim=OptimConfig(kind="sgd"))
    parts = recipe(LENET, 5, optim=OptimConfig(kind="sgd", accumulate=4))
    assert _kept_of(parts) < 0.7 * _kept_of(whole)


def _kept_of(given: Recipe) -> int:
    """What one lane at work has beside what every lane has, but for copies of the latter and gradients."""
    there, at_work = lane_bytes(given)
    (phase,) = given.plan.phases
    weights = params_of(given.network.abstract_variables)
    gradients = sum(
        4 * prod(leaf.shape) for unit in phase.trained for leaf in jax.tree.leaves(weights[unit])
    )
    return at_work - (there if one_after_another(given) else 0) - gradients
