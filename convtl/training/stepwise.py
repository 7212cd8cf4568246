"""Training runs update by update, each lane by itself: for convolutions on CPU.

Inside a loop (`lax.scan`, even of one step) XLA's CPU convolution runs 25 to 50 times slower than outside, and
under `vmap` over weights 4 times: two 3x3 convolutions of 64 channels on 16 images of 28x28, forward and back, took
0.05-0.08 s alone, 1.6-3.7 s in a scan, and 0.2-0.3 s a lane with two lanes side by side (JAX 0.10, 2 busy cores);
one lane under `vmap` took what it took without. So here a program is one update of one lane, and lanes go round the
devices.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from convtl.models.network import Variables
from convtl.training.recipe import Lane, Recipe, one_update
from convtl.training.step import init_state
from convtl.transfer.optim import carry_state, schedule_values
from convtl.transfer.plan import Phase


class Stepwise:
    """As `convtl.training.lanes.Scanned`, without loops in programs. No lane can touch another's numbers."""

    def __init__(self, recipe: Recipe, devices: Sequence[jax.Device]) -> None:
        self.recipe, self._devices = recipe, devices
        self._programs = {
            phase: jax.jit(partial(_one, recipe, phase), donate_argnums=(0, 1))
            for phase in recipe.plan.phases
        }
        self._fresh = {
            phase: jax.jit(partial(init_state, recipe.optim, phase, norm_mode=recipe.norm_mode))
            for phase in recipe.plan.phases
        }

    def train(self, lanes: Sequence[Lane]) -> list[tuple[Variables, Any, np.ndarray]]:
        """Variables, optimiser state and losses of each lane, in NumPy."""
        places = [self._devices[index % len(self._devices)] for index in range(len(lanes))]
        # Copies: on CPU a device may take NumPy's own memory, which is then given away.
        runs: list[tuple[Variables, Any]] = [
            (jax.device_put(jax.tree.map(np.array, lane.variables), place), None)
            for lane, place in zip(lanes, places, strict=True)
        ]
        losses: list[list[jax.Array]] = [[] for _ in lanes]
        for phase in self.recipe.plan.phases:
            runs = [(variables, self._state(phase, variables, state)) for variables, state in runs]
            multipliers = schedule_values(self.recipe.schedule, phase)
            for number in range(phase.first, phase.stop):
                for index, lane in enumerate(lanes):
                    step = self._step(lane, number, float(multipliers[number - phase.first]), places[index])
                    *run, loss = self._programs[phase](*runs[index], *step)
                    runs[index] = (run[0], run[1])
                    losses[index].append(loss)
        return [
            (*jax.tree.map(np.array, run), np.asarray([float(loss) for loss in lost], np.float32))
            for run, lost in zip(runs, losses, strict=True)
        ]

    def _state(self, phase: Phase, variables: Variables, state: Any) -> Any:
        fresh = self._fresh[phase](variables)
        return fresh if state is None else carry_state(state, fresh, phase)

    def _step(self, lane: Lane, number: int, multiplier: float, place: jax.Device) -> tuple[jax.Array, ...]:
        """What an update takes beside the run: rate, seed, number, images, labels."""
        images, labels = lane.batches(number, number + 1)
        with np.errstate(over="ignore"):  # as in lanes
            rate = np.float32(lane.rate) * np.float32(multiplier)
        given = (rate, np.uint32(lane.seed), np.uint32(number), np.array(images[0]), np.array(labels[0]))
        return jax.device_put(given, place)


def _one(
    recipe: Recipe,
    phase: Phase,
    variables: Variables,
    state: Any,
    rate: Float[Array, ""],
    seed: UInt32[Array, ""],
    number: UInt32[Array, ""],
    images: Float[Array, "batch ..."],
    labels: Int[Array, "batch"],
) -> tuple[Variables, Any, Float[Array, ""]]:
    """One update of one lane."""
    return one_update(recipe, phase, jax.random.key(seed), variables, state, rate, number, images, labels)
