"""Memory by shapes: what XLA's own analysis of the compiled programs says, roughly."""

from typing import Any

import jax
import pytest
from small_nets import LENET, lane, recipe

from convtl.training import memory
from convtl.training.lanes import Trainer
from convtl.training.memory import device_bytes, lane_bytes, most_lanes


@pytest.mark.parametrize("depth", [1, 5])
def test_what_lanes_take_is_about_what_xla_reserves(depth: int) -> None:
    given = recipe(LENET, depth, lanes=3)
    trainer = Trainer(given, jax.local_devices()[:1])
    (phase,) = given.plan.phases
    program, seen = trainer._programs[phase], list[Any]()

    def watched(*arguments: Any) -> Any:
        seen.append(
            jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), arguments)
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
def test_the_most_lanes_are_what_the_budget_holds(in_turn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    given = recipe(LENET, 5)
    monkeypatch.setattr(memory, "one_after_another", lambda recipe: in_turn)
    for lanes in (1, 2, 7, 100):
        assert most_lanes(given, device_bytes(given, lanes)) == lanes
        assert most_lanes(given, device_bytes(given, lanes + 1) - 1) == lanes
    assert most_lanes(given, 1.0) == 1


def test_a_whole_net_takes_more_than_its_head() -> None:
    assert lane_bytes(recipe(LENET, 5))[1] > lane_bytes(recipe(LENET, 1))[1]
