"""Many training runs in one program: scans of updates, with callbacks between them.

A program has a constant number of runs on each device; missing runs are padded with copies. At a fixed
width a run's numbers do not depend on the others (tested bit for bit), so any grouping gives the same results.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from convtl.models.network import Variables
from convtl.training.devices import chosen
from convtl.training.layout import Layout
from convtl.training.recipe import Call, Recipe, one_after_another
from convtl.training.runs import Callback, CallEnd, Run, RunResult, RunState
from convtl.training.step import Batch, Step
from convtl.transfer.average import Averaged, averages
from convtl.transfer.optim import carry_state, schedule_values
from convtl.transfer.plan import Phase

_CALLS_AHEAD = 2
"""Calls that may be queued while one is computed."""

_QUICK_SECONDS = 2.0
"""A call that takes longer has none queued behind it, for which a signal would wait too."""


@dataclass
class _Progress:
    """Runs between calls: arrays on the devices, with the runs as first axis."""

    variables: Any
    opt_state: Any = None
    phase: Phase | None = None
    losses: list[Any] = field(default_factory=list)
    update: int = 0

    def all_losses(self) -> Float[np.ndarray, "runs updates"]:
        return np.concatenate([np.asarray(loss) for loss in self.losses], axis=1)


class Trainer:
    """The compiled programs of one recipe, one for each phase."""

    def __init__(self, recipe: Recipe, layout: Layout | None = None) -> None:
        """Prepare the programs; nothing is compiled before it is used.

        Args:
          layout: None takes the devices as `devices_as` has chosen them.

        Raises:
          UserError: the batch cannot be shared evenly.
        """
        self.recipe = recipe
        self.layout = chosen() if layout is None else layout
        self.layout.check(recipe.batch_size)
        self.width = recipe.lanes * self.layout.copies
        steps = {phase: recipe.step(phase) for phase in recipe.plan.phases}
        self._programs = {
            phase: self.layout.program(_over_runs(recipe, partial(_scan, step)))
            for phase, step in steps.items()
        }
        self._init = {phase: self.layout.fresh(step.init) for phase, step in steps.items()}
        self._quick = False

    def train(self, runs: Sequence[Run], callback: Callback | None = None) -> list[RunResult]:
        """Train up to `width` runs through all phases.

        Args:
          runs: all after the same number of updates.
          callback: called after every call of a program but the last.

        Raises:
          ValueError: no runs, too many, or runs at different updates.
        """
        if not 0 < len(runs) <= self.width:
            raise ValueError(f"{len(runs)} runs for a program of {self.width}")
        padded = [*runs, *[runs[0]] * (self.width - len(runs))]
        progress = self._begin(padded)
        with np.errstate(over="ignore"):  # a rate beyond float32 is infinite: its run diverges
            rates = self.layout.by_run([np.float32(run.rate) for run in padded])
        seeds = self.layout.by_run([np.uint32(run.seed) for run in padded])
        updates = self.recipe.plan.phases[-1].stop
        for call in self.recipe.calls():
            if call.first < progress.update:
                continue
            self._advance(progress, call, rates, seeds, padded)
            if callback is not None and call.stop < updates:
                states = partial(self._states, progress, len(runs))
                results = partial(self._results, progress, len(runs))
                callback(CallEnd(call.stop, updates, states, results))
        return self._results(progress, len(runs))

    def resumes(self, state: RunState) -> bool:
        """Whether a run of this recipe can continue there: between two of its calls, shapes equal."""
        phase = self._phase_before(state.update)
        if phase is None:
            return False
        names = self.recipe.network.names[self.recipe.start :]
        variables = {name: self.recipe.network.abstract_variables[name] for name in names}
        stacked = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((self.width, *leaf.shape), leaf.dtype), variables
        )
        leaves = jax.tree.leaves(jax.eval_shape(partial(self._state_in, phase), stacked))
        shapes = {f"{place:03}": (leaf.shape[1:], leaf.dtype) for place, leaf in enumerate(leaves)}
        return _shapes(state.variables) == _shapes(variables) and _shapes(state.state) == shapes

    def _phase_before(self, update: int) -> Phase | None:
        """Phase of the call that ends with this many updates done."""
        return next((call.phase for call in self.recipe.calls() if call.stop == update), None)

    def _begin(self, padded: Sequence[Run]) -> _Progress:
        """All runs on their devices, at their first update or where they stopped."""
        states = [run.state for run in padded if run.state is not None]
        if not states:
            return _Progress(self.layout.by_run([run.variables for run in padded]))
        if len(states) < len(padded) or len({state.update for state in states}) > 1:
            raise ValueError("runs of one program must have done the same updates")
        phase = self._phase_before(states[0].update)
        assert phase is not None
        variables = self.layout.by_run([state.variables for state in states])
        structure = jax.tree.structure(jax.eval_shape(partial(self._state_in, phase), variables))
        leaves = self.layout.by_run([state.state for state in states])
        opt_state = jax.tree.unflatten(structure, [leaves[name] for name in sorted(leaves)])
        losses = [np.stack([state.losses for state in states])]
        return _Progress(variables, opt_state, phase, losses, states[0].update)

    def _advance(
        self, progress: _Progress, call: Call, rates: Array, seeds: Array, padded: Sequence[Run]
    ) -> None:
        """Queue one call, and wait for an earlier one."""
        began = time.monotonic()
        if call.phase != progress.phase:
            progress.opt_state = self._entered(progress.opt_state, progress.variables, call.phase)
            progress.phase = call.phase
        images, labels = self._batches(padded, call.first, call.stop)
        multipliers = schedule_values(self.recipe.schedule, call.phase)[call.within]
        scale = self.layout.shared(multipliers)
        numbers = self.layout.shared(np.arange(call.first, call.stop, dtype=np.uint32))
        progress.variables, progress.opt_state, loss = self._programs[call.phase](
            progress.variables, progress.opt_state, rates, seeds, scale, numbers, images, labels
        )
        progress.losses.append(loss)
        progress.update = call.stop
        ahead = _CALLS_AHEAD if self._quick else 0
        if len(progress.losses) > ahead:  # else all calls are queued before a callback can act
            jax.block_until_ready(progress.losses[-1 - ahead])
        self._quick |= time.monotonic() - began < _QUICK_SECONDS

    def _entered(self, opt_state: Any, variables: Variables, phase: Phase) -> Any:
        """Optimiser state at the beginning of a phase: fresh, or carried over."""
        fresh = self._init[phase](variables)
        return fresh if opt_state is None else carry_state(opt_state, fresh, phase)

    def _state_in(self, last: Phase, variables: Variables) -> Any:
        """Optimiser state in phase `last`, to be traced for its shapes."""
        phases = self.recipe.plan.phases
        state = None
        for phase in phases[: phases.index(last) + 1]:
            state = self._entered(state, variables, phase)
        return state

    def _batches(self, runs: Sequence[Run], first: int, stop: int) -> tuple[jax.Array, jax.Array]:
        size = self.recipe.batch_size
        rows = self.layout.own_rows(size)
        arguments = (first, stop) if rows == slice(0, size) else (first, stop, rows)
        drawn = {
            batches: batches(*arguments) for batches in dict.fromkeys(run.batches for run in runs)
        }
        images, labels = zip(*(drawn[run.batches] for run in runs), strict=True)
        return (
            self.layout.put_batches(np.stack(images), size),
            self.layout.put_batches(np.stack(labels), size),
        )

    def _states(self, progress: _Progress, count: int) -> list[RunState]:
        leaves = jax.tree.leaves(progress.opt_state)
        variables, leaves = jax.tree.map(np.asarray, (progress.variables, leaves))
        losses = progress.all_losses()
        return [
            RunState(
                progress.update,
                _nth(variables, index),
                {f"{place:03}": leaf[index].copy() for place, leaf in enumerate(leaves)},
                losses[index].copy(),
            )
            for index in range(count)
        ]

    def _results(self, progress: _Progress, count: int) -> list[RunResult]:
        losses = progress.all_losses()
        variables = jax.tree.map(np.asarray, progress.variables)
        decay, opt_state = self.recipe.optim.ema, progress.opt_state
        if decay is not None and isinstance(opt_state, Averaged):
            means = averages(opt_state.totals, self.recipe.plan, decay, progress.update)
            variables = variables | {unit: variables[unit] | mean for unit, mean in means.items()}
        return [RunResult(_nth(variables, index), losses[index]) for index in range(count)]


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def _nth(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index].copy(), tree)


def _over_runs(recipe: Recipe, scan: Callable[..., Any]) -> Callable[..., Any]:
    """`scan` for all runs of a device, which share multipliers and numbers of the updates."""
    if not one_after_another(recipe):
        return jax.vmap(scan, in_axes=(0, 0, 0, 0, None, None, 0, 0))

    def mapped(*arguments: Any) -> Any:
        *runs, multipliers, numbers, images, labels = arguments
        return jax.lax.map(
            lambda run: scan(*run[:-2], multipliers, numbers, *run[-2:]), (*runs, images, labels)
        )

    return mapped


def _scan(
    step: Step,
    variables: Variables,
    opt_state: Any,
    rate: Float[Array, ""],
    seed: UInt32[Array, ""],
    multipliers: Float[Array, "updates"],
    numbers: UInt32[Array, "updates"],
    images: Float[Array, "updates batch ..."],
    labels: Int[Array, "updates batch"],
) -> tuple[Variables, Any, Float[Array, "updates"]]:
    """The updates of one call of one run."""
    run_key = jax.random.key(seed)

    def body(carry: tuple[Variables, Any], inputs: tuple[Array, ...]) -> tuple[Any, Array]:
        multiplier, number, *batch = inputs
        key = jax.random.fold_in(run_key, number)
        variables, opt_state, loss = step(*carry, rate * multiplier, Batch(*batch), key)
        return (variables, opt_state), loss

    inputs = (multipliers, numbers, images, labels)
    (variables, opt_state), losses = jax.lax.scan(body, (variables, opt_state), inputs)
    return variables, opt_state, losses
