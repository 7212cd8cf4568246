"""Many training runs in one program, in calls with callbacks between them.

A program has a constant number of runs on each device, padded with copies. A run's numbers depend neither on the
others nor on where calls end.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int, UInt32

from convtl.models.network import Variables
from convtl.training.devices import Layout, chosen_layout
from convtl.training.runs import Callback, Recipe, Run, RunResult, RunState, TrainState, numbered
from convtl.training.step import Batch, Step
from convtl.transfer.optim import carry_state, schedule_values
from convtl.transfer.plan import Phase

_CALLS_AHEAD = 1  # Calls that may be queued while one is computed; a signal waits for them too.


@lru_cache(maxsize=8)
def programs(recipe: Recipe, layout: Layout) -> tuple[dict[Phase, Any], dict[Phase, Any]]:
    """Return programs by phase: for the initial optimiser state, and for a call."""
    steps = {phase: Step(recipe, phase) for phase in recipe.plan.phases}
    sharding = NamedSharding(layout.mesh, layout.runs)
    init = {
        phase: jax.jit(jax.vmap(step.init), out_shardings=sharding) for phase, step in steps.items()
    }
    return init, {phase: layout.compile_call(partial(_call, step)) for phase, step in steps.items()}


class Trainer:
    """The compiled programs of one recipe, one for each phase."""

    def __init__(self, recipe: Recipe, layout: Layout | None = None) -> None:
        """Prepare the programs, by default for the layout that `devices_as` set."""
        self.recipe = recipe
        self.layout = chosen_layout() if layout is None else layout
        self.layout.check(recipe.batch_size)
        copies = len(self.layout.devices) if self.layout.split == "trials" else 1
        self.width = recipe.runs_per_device * copies
        self._size = recipe.updates_per_call
        self._init, calls = programs(recipe, self.layout)
        self._programs = dict(calls)

    def train(self, runs: Sequence[Run], callback: Callback | None = None) -> list[RunResult]:
        """Train up to `width` runs at the same update; call back between calls."""
        if not 0 < len(runs) <= self.width:
            raise ValueError(f"{len(runs)} runs for a program of {self.width}")
        padded = [*runs, *[runs[0]] * (self.width - len(runs))]
        with np.errstate(over="ignore"):  # a rate beyond float32 is infinite: its run diverges
            rates = self.layout.put_runs([np.float32(run.rate) for run in padded])
        seeds = self.layout.put_runs([np.uint32(run.seed) for run in padded])
        now = self._begin(padded, len(runs))
        while now.update < self.recipe.plan.updates:
            first = now.update
            phase = next(one for one in self.recipe.plan.phases if first < one.stop)
            if first == phase.first:
                now.opt_state = self._enter(phase, now.opt_state, now.variables)
            stop = min(first + self._size, phase.stop)
            inputs = (rates, seeds, *self._inputs(padded, phase, first, stop))
            now.variables, now.opt_state, loss = self._programs[phase](
                now.variables, now.opt_state, *inputs
            )
            now.losses.append((loss, stop - first))
            now.update = stop
            if len(now.losses) > _CALLS_AHEAD:  # else all are queued before a callback can act
                jax.block_until_ready(now.losses[-1 - _CALLS_AHEAD][0])
            if callback is not None and stop < self.recipe.plan.updates:
                callback(now)
        return now.results()

    def resumes(self, state: RunState) -> bool:
        """Return whether a run of this recipe can continue from a state."""
        if not 0 < state.update < self.recipe.plan.updates:
            return False
        variables, opt_state = self._abstract(state.update)
        stacked, given = (variables, numbered(opt_state)), (state.variables, state.state)
        expected = jax.tree.map(lambda leaf: (leaf.shape[1:], leaf.dtype), stacked)
        return bool(expected == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), given))

    def _begin(self, padded: Sequence[Run], count: int) -> TrainState:
        """Put all runs on their devices, at their first update or where they stopped."""
        variables = self.layout.put_runs([(run.state or run).variables for run in padded])
        now = TrainState(self.recipe, count, variables, update=self.recipe.plan.phases[0].first)
        states = [run.state for run in padded if run.state is not None]
        if states:
            now.update = states[0].update
            if len(states) < len(padded) or any(one.update != now.update for one in states):
                raise ValueError("runs of one program must have done the same updates")
            leaves = self.layout.put_runs([state.state for state in states])
            structure = jax.tree.structure(self._abstract(now.update)[1])
            ordered = [leaves[name] for name in sorted(leaves, key=int)]
            now.opt_state = jax.tree.unflatten(structure, ordered)
            now.losses = [(np.stack([state.losses for state in states]), now.update)]
        return now

    def _enter(self, phase: Phase, opt_state: Any, variables: Variables) -> Any:
        """Optimiser state at the beginning of a phase: fresh, or carried over."""
        fresh = self._init[phase](variables)
        return fresh if opt_state is None else carry_state(opt_state, fresh, phase)

    def _abstract(self, update: int) -> tuple[Variables, Any]:
        """Shapes of all runs' variables and optimiser state after `update` updates."""
        network, opt_state = self.recipe.network, None
        variables = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((self.width, *leaf.shape), leaf.dtype),
            {name: network.abstract_variables[name] for name in network.names[self.recipe.start :]},
        )
        for phase in self.recipe.plan.phases:
            if phase.first < update:
                opt_state = jax.eval_shape(partial(self._enter, phase), opt_state, variables)
        return variables, opt_state

    def _inputs(self, runs: Sequence[Run], phase: Phase, first: int, stop: int) -> list[Array]:
        """Images, labels, multipliers (zeros after the last update), first and count."""
        count, offset = stop - first, first - phase.first
        drawn = {draw: draw(first, stop) for draw in dict.fromkeys(run.batches for run in runs)}
        inputs = []
        for arrays in zip(*(drawn[run.batches] for run in runs), strict=True):
            values = np.zeros((len(runs), self._size, *arrays[0].shape[1:]), arrays[0].dtype)
            np.stack(arrays, out=values[:, :count])
            inputs.append(self.layout.put(values, self.layout.batches))
        multipliers = np.zeros(self._size, np.float32)
        multipliers[:count] = schedule_values(self.recipe.schedule, phase)[offset : offset + count]
        shared = (multipliers, np.asarray(first, np.uint32), np.asarray(count, np.int32))
        return inputs + [self.layout.put(value) for value in shared]


def _call(
    step: Step,
    variables: Variables,
    opt_state: Any,
    rates: Float[Array, "runs"],
    seeds: UInt32[Array, "runs"],
    images: Float[Array, "runs updates batch ..."],
    labels: Int[Array, "runs updates batch"],
    multipliers: Float[Array, "updates"],
    first: UInt32[Array, ""],
    count: Int[Array, ""],
) -> tuple[Variables, Any, Float[Array, "runs updates"]]:
    """Do updates `first` to `first + count - 1` of all runs of a device."""

    def train(run: tuple[Any, ...]) -> Any:
        variables, opt_state, rate, seed, images, labels = run
        run_key = jax.random.key(seed)

        def body(number: Array, carry: tuple[Any, ...]) -> tuple[Any, ...]:
            variables, opt_state, losses = carry
            at_update = partial(jax.lax.dynamic_index_in_dim, index=number, keepdims=False)
            batch = Batch(at_update(images), at_update(labels))
            key = jax.random.fold_in(run_key, first + number.astype(jnp.uint32))
            scaled = rate * at_update(multipliers)
            variables, opt_state, loss = step(variables, opt_state, scaled, batch, key)
            return variables, opt_state, losses.at[number].set(loss)

        losses = jnp.zeros_like(labels[:, 0], jnp.float32)
        return jax.lax.fori_loop(0, count, body, (variables, opt_state, losses))

    over_runs: Any = partial(jax.lax.map, train) if step.recipe.sequential else jax.vmap(train)
    after: tuple[Variables, Any, Array] = over_runs(
        (variables, opt_state, rates, seeds, images, labels)
    )
    return after
