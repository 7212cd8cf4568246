"""Many training runs in one program.

A lane is one run: its own weights, rate and batches. A program has a constant number of lanes on each
device; missing lanes are padded with copies and thrown away. At a fixed width a lane's numbers do not
depend on which others travel with it (tested bit for bit), so any grouping gives the same results.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from convtl.models.lowering import on_cpu
from convtl.models.network import Variables
from convtl.training.cost import flops_per_update
from convtl.training.devices import chosen
from convtl.training.layout import Layout
from convtl.training.recipe import Batches, Between, Lane, Moment, Paused, Recipe, Trained
from convtl.training.step import init_state, update
from convtl.transfer.average import Averaged, averages
from convtl.transfer.optim import carry_state, schedule_values
from convtl.transfer.plan import Phase

__all__ = ["Batches", "Between", "Lane", "Moment", "Paused", "Recipe", "Trained", "Trainer"]

_CHUNKS_AHEAD = 2
"""Chunks that may be on their way while a chunk is computed."""

_BYTES_AT_ONCE = 2**26
"""Of one lane's images in one call of a program: fewer updates than `chunk` where images are big."""

_FLOPS_AT_ONCE = 10**12
"""Of all lanes of a device in one call: a signal waits for its end, some seconds on a core."""

_QUICK_SECONDS = 2.0
"""A chunk that takes longer than this has no other on its way behind it, for which a signal would wait too."""


class Trainer:
    """The compiled programs of one recipe, one for each phase."""

    def __init__(self, recipe: Recipe, layout: Layout | None = None) -> None:
        """Nothing is compiled before it is used.

        Args:
          layout: None takes the devices as `devices_as` has chosen them.

        Raises:
          UserError: the batch cannot be shared evenly.
        """
        self.recipe = recipe
        self.layout = chosen() if layout is None else layout
        self.layout.check(recipe.batch_size)
        self.width = recipe.lanes * self.layout.copies
        self._programs = {phase: self._compile(phase) for phase in recipe.plan.phases}
        self._fresh = {phase: self._compile_fresh(phase) for phase in recipe.plan.phases}
        self._quick = False

    def _compile(self, phase: Phase) -> Any:
        return self.layout.program(
            _over_lanes(self.recipe, partial(_run_chunk, self.recipe, phase))
        )

    def _compile_fresh(self, phase: Phase) -> Any:
        return self.layout.fresh(
            partial(init_state, self.recipe.optim, phase, norm_mode=self.recipe.norm_mode)
        )

    def train(self, lanes: Sequence[Lane], between: Between | None = None) -> list[Trained]:
        """Trains up to `width` lanes through all phases.

        Args:
          lanes: all as far as each other: fresh, or paused after the same update.
          between: called after every chunk of updates but the last.
        """
        if not 0 < len(lanes) <= self.width:
            raise ValueError(f"{len(lanes)} lanes for a program of {self.width}")
        padded = [*lanes, *[lanes[0]] * (self.width - len(lanes))]
        runs = self._begin(padded)
        with np.errstate(over="ignore"):  # a rate beyond float32 is infinite: its lane diverges
            rates = self.layout.by_lane([np.float32(lane.rate) for lane in padded])
        seeds = self.layout.by_lane([np.uint32(lane.seed) for lane in padded])
        for piece in self._left(runs.update):
            began = time.monotonic()
            self._enter(runs, piece.phase)
            images, labels = self._batches(padded, piece.first, piece.stop)
            multipliers = schedule_values(self.recipe.schedule, piece.phase)[piece.within]
            scale = self.layout.shared(multipliers)
            numbers = self.layout.shared(np.arange(piece.first, piece.stop, dtype=np.uint32))
            runs.variables, runs.state, loss = self._programs[piece.phase](
                runs.variables, runs.state, rates, seeds, scale, numbers, images, labels
            )
            runs.losses.append(loss)
            runs.update = piece.stop
            ahead = _CHUNKS_AHEAD if self._quick else 0
            if len(runs.losses) > ahead:  # else all chunks are on their way before anybody can look
                jax.block_until_ready(runs.losses[-1 - ahead])
            self._quick |= time.monotonic() - began < _QUICK_SECONDS
            if between is not None and piece.stop < self._updates:
                paused, trained = (
                    partial(self._paused, runs, lanes),
                    partial(self._trained, runs, lanes),
                )
                between(Moment(piece.stop, self._updates, paused, trained))
        return self._trained(runs, lanes)

    @property
    def _updates(self) -> int:
        return self.recipe.plan.phases[-1].stop

    def _pieces(self) -> list["_Piece"]:
        at_once = updates_at_once(self.recipe)
        return [
            _Piece(phase, *ends)
            for phase in self.recipe.plan.phases
            for ends in _chunks(phase, at_once)
        ]

    def _left(self, done: int) -> list["_Piece"]:
        """What is left after so many updates."""
        return [piece for piece in self._pieces() if piece.first >= done]

    def resumes(self, paused: Paused) -> bool:
        """Whether runs of this recipe can go on from there: it is between two of their chunks, with their state."""
        phase = next((piece.phase for piece in self._pieces() if piece.stop == paused.update), None)
        if phase is None:
            return False
        names = self.recipe.network.names[self.recipe.start :]
        own = {name: self.recipe.network.abstract_variables[name] for name in names}
        stacked = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((self.width, *leaf.shape), leaf.dtype), own
        )
        state = jax.tree.leaves(jax.eval_shape(partial(self._state_in, phase), stacked))
        shapes = {f"{number:03}": (leaf.shape[1:], leaf.dtype) for number, leaf in enumerate(state)}
        return _shapes(paused.variables) == _shapes(own) and _shapes(paused.state) == shapes

    def _begin(self, padded: Sequence[Lane]) -> "_Runs":
        """All lanes on their devices, where they left off."""
        begun = [lane.begun for lane in padded if lane.begun is not None]
        if not begun:
            return _Runs(self.layout.by_lane([lane.variables for lane in padded]))
        if len(begun) < len(padded) or len({paused.update for paused in begun}) > 1:
            raise ValueError("lanes that travel together have done the same updates")
        phase = next(piece.phase for piece in self._pieces() if piece.stop == begun[0].update)
        variables = self.layout.by_lane([paused.variables for paused in begun])
        structure = jax.tree.structure(jax.eval_shape(partial(self._state_in, phase), variables))
        leaves = self.layout.by_lane([paused.state for paused in begun])
        state = jax.tree.unflatten(structure, [leaves[name] for name in sorted(leaves)])
        losses = [np.stack([paused.losses for paused in begun])]
        return _Runs(variables, state, phase, losses, begun[0].update)

    def _state_in(self, last: Phase, variables: Variables) -> Any:
        """Shapes of the state in phase `last`, whatever was carried over to it."""
        state = None
        for phase in self.recipe.plan.phases:
            fresh = self._fresh[phase](variables)
            state = fresh if state is None else carry_state(state, fresh, phase)
            if phase == last:
                break
        return state

    def _enter(self, runs: "_Runs", phase: Phase) -> None:
        """Makes or carries over the optimiser's state where a phase begins."""
        if phase == runs.phase:
            return
        fresh = self._fresh[phase](runs.variables)
        runs.state = fresh if runs.state is None else carry_state(runs.state, fresh, phase)
        runs.phase = phase

    def _paused(self, runs: "_Runs", lanes: Sequence[Lane]) -> list[Paused]:
        variables, state = jax.tree.map(np.asarray, (runs.variables, jax.tree.leaves(runs.state)))
        lost = runs.lost()
        return [
            Paused(
                runs.update,
                _lane_of(variables, index),
                {f"{number:03}": leaf[index].copy() for number, leaf in enumerate(state)},
                lost[index].copy(),
            )
            for index in range(len(lanes))
        ]

    def _trained(self, runs: "_Runs", lanes: Sequence[Lane]) -> list[Trained]:
        lost = runs.lost()
        variables = self._averaged(
            jax.tree.map(np.asarray, runs.variables), runs.state, runs.update
        )
        return [Trained(_lane_of(variables, index), lost[index]) for index in range(len(lanes))]

    def _averaged(self, variables: Variables, state: Any, done: int) -> Variables:
        """The averages of what was trained in the updates that are done, where there are any."""
        decay = self.recipe.optim.ema
        if decay is None or not isinstance(state, Averaged):
            return variables
        found = averages(state.totals, self.recipe.plan, decay, done)
        return variables | {unit: variables[unit] | own for unit, own in found.items()}

    def _batches(self, lanes: Sequence[Lane], first: int, stop: int) -> tuple[jax.Array, jax.Array]:
        size = self.recipe.batch_size
        own = self.layout.own_rows(size)
        asked = (first, stop) if own == slice(0, size) else (first, stop, own)
        drawn = {
            batches: batches(*asked) for batches in dict.fromkeys(lane.batches for lane in lanes)
        }
        images, labels = zip(*(drawn[lane.batches] for lane in lanes), strict=True)
        return (
            self.layout.put_batches(np.stack(images), size),
            self.layout.put_batches(np.stack(labels), size),
        )


class _Piece(NamedTuple):
    """Updates of one phase that one call of a program makes."""

    phase: Phase
    first: int
    stop: int

    @property
    def within(self) -> slice:
        """The same, counted from the phase's first update."""
        return slice(self.first - self.phase.first, self.stop - self.phase.first)


@dataclass
class _Runs:
    """Lanes on their way."""

    variables: Any
    state: Any = None
    phase: Phase | None = None
    losses: list[Any] = field(default_factory=list)
    update: int = 0

    def lost(self) -> Float[np.ndarray, "lanes updates"]:
        return np.concatenate([np.asarray(loss) for loss in self.losses], axis=1)


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def _lane_of(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index].copy(), tree)


def _over_lanes(recipe: Recipe, chunk: Callable[..., Any]) -> Callable[..., Any]:
    """The same for all of a device's lanes, which share multipliers of the rates and the updates' numbers."""
    if not one_after_another(recipe):
        return jax.vmap(chunk, in_axes=(0, 0, 0, 0, None, None, 0, 0))

    def mapped(*arguments: Any) -> Any:
        *runs, multipliers, numbers, images, labels = arguments
        return jax.lax.map(
            lambda lane: chunk(*lane[:-2], multipliers, numbers, *lane[-2:]),
            (*runs, images, labels),
        )

    return mapped


def one_after_another(recipe: Recipe) -> bool:
    """Whether a device takes its lanes one after another, and not side by side.

    Accelerators take them side by side (`vmap`), and a CPU where there are no maps but in what enters, so that
    there is little to compute for each operation. Maps of several lanes at once leave a core's cache. LeNet-5, batch
    32, 4 lanes on each of 2 cores, side by side and one after another: all layers 50 and 36 us an image, the last
    three on cached features 3.1 and 3.6, the last 0.3 and 0.4.
    """
    return on_cpu() and recipe.network.has_maps(recipe.start)


@lru_cache
def updates_at_once(recipe: Recipe) -> int:
    """The chunk, or less where its images would be too many, or their updates take too long; two at least.

    XLA compiles a loop of one step as none, which gives other last bits.
    """
    update = 4 * recipe.batch_size * int(np.prod(recipe.network.shape_before(recipe.start)))
    flops = recipe.lanes * flops_per_update(
        recipe.network, recipe.plan, recipe.batch_size, recipe.start
    )
    return max(2, min(recipe.chunk, _BYTES_AT_ONCE // update, _FLOPS_AT_ONCE // max(1, flops)))


def _chunks(phase: Phase, chunk: int) -> list[tuple[int, int]]:
    """(first, stop) of pieces of `chunk` updates; a single last update joins the piece before it."""
    starts = list(range(phase.first, phase.stop, chunk))
    if len(starts) > 1 and phase.stop - starts[-1] < 2:
        starts.pop()
    return list(zip(starts, [*starts[1:], phase.stop], strict=True))


def _run_chunk(
    recipe: Recipe,
    phase: Phase,
    variables: Variables,
    state: Any,
    rate: Float[Array, ""],
    seed: UInt32[Array, ""],
    multipliers: Float[Array, "updates"],
    numbers: UInt32[Array, "updates"],
    images: Float[Array, "updates batch ..."],
    labels: Int[Array, "updates batch"],
) -> tuple[Variables, Any, Float[Array, "updates"]]:
    """A scan over the updates of one chunk of one lane."""

    lane_key = jax.random.key(seed)

    def body(carry: tuple[Variables, Any], step: tuple[Array, ...]) -> tuple[Any, Array]:
        multiplier, number, batch, target = step
        key = jax.random.fold_in(lane_key, number)
        own, memory, loss = update(
            recipe.network,
            recipe.start,
            phase,
            recipe.optim,
            *carry,
            rate * multiplier,
            batch,
            target,
            key,
            recipe.options,
        )
        return (own, memory), loss

    steps = (multipliers, numbers, images, labels)
    (variables, state), losses = jax.lax.scan(body, (variables, state), steps)
    return variables, state, losses
