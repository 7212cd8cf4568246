"""Many training runs in one program.

A lane is one run: its own weights, rate and batches. A program has a constant number of lanes on each
device; missing lanes are padded with copies and thrown away. At a fixed width a lane's numbers do not
depend on which others travel with it (tested bit for bit), so any grouping gives the same results.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, UInt32

from convtl.config import OptimConfig, ScheduleConfig
from convtl.models.network import Network, Variables
from convtl.training.step import init_state, update
from convtl.transfer.optim import carry_state, schedule_values
from convtl.transfer.plan import Phase, Plan

Batches = Callable[[int, int], tuple[np.ndarray, np.ndarray]]
"""(first, stop) -> images (updates, batch, ...) float32 and labels (updates, batch) int32."""


@dataclass(frozen=True)
class Recipe:
    """All that shapes the compiled programs of a training run; equal recipes share them.

    Attributes:
      start: index of the unit that the batches enter: the plan's boundary when features are cached.
      lanes: lanes on each device.
      chunk: updates in one call of a program.
    """

    network: Network
    start: int
    plan: Plan
    optim: OptimConfig
    schedule: ScheduleConfig
    batch_size: int
    lanes: int
    chunk: int


@dataclass(frozen=True)
class Lane:
    """One run to be trained.

    Attributes:
      variables: of the units from `recipe.start` on.
      seed: of what trained units draw (dropout), 0 to 2^32 - 1; each update draws anew. Nets that draw nothing
        ignore it.
    """

    variables: Variables
    rate: float
    batches: Batches
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """What a lane left: variables of its units (NumPy), and the loss before each update (nats)."""

    variables: Variables
    losses: Float[np.ndarray, "updates"]

    @property
    def finite(self) -> bool:
        """Whether every loss and every weight is a number."""
        leaves = jax.tree.leaves(self.variables)
        return bool(np.isfinite(self.losses).all() and all(np.isfinite(leaf).all() for leaf in leaves))


class Trainer:
    """The compiled programs of one recipe, one for each phase."""

    def __init__(self, recipe: Recipe, devices: Sequence[jax.Device] | None = None) -> None:
        self.recipe = recipe
        devices = jax.local_devices() if devices is None else list(devices)
        self.width = recipe.lanes * len(devices)
        mesh = Mesh(np.asarray(devices), ("lanes",))
        self._by_lane = NamedSharding(mesh, PartitionSpec("lanes"))
        self._shared = NamedSharding(mesh, PartitionSpec())
        self._programs = {phase: self._compile(phase, mesh) for phase in recipe.plan.phases}
        self._fresh = {
            phase: jax.jit(jax.vmap(partial(init_state, recipe.optim, phase)), out_shardings=self._by_lane)
            for phase in recipe.plan.phases
        }

    def _compile(self, phase: Phase, mesh: Mesh) -> Any:
        lanes = PartitionSpec("lanes")
        shared = PartitionSpec()
        chunk = jax.vmap(partial(_run_chunk, self.recipe, phase), in_axes=(0, 0, 0, 0, None, None, 0, 0))
        specs = (lanes, lanes, lanes, lanes, shared, shared, lanes, lanes)
        sharded = jax.shard_map(chunk, mesh=mesh, in_specs=specs, out_specs=lanes)
        return jax.jit(sharded, donate_argnums=(0, 1))

    def train(self, lanes: Sequence[Lane]) -> list[Trained]:
        """Trains up to `width` lanes through all phases."""
        if not 0 < len(lanes) <= self.width:
            raise ValueError(f"{len(lanes)} lanes for a program of {self.width}")
        padded = [*lanes, *[lanes[0]] * (self.width - len(lanes))]
        variables = self._stack([lane.variables for lane in padded])
        with np.errstate(over="ignore"):  # a rate beyond float32 is infinite: its lane diverges
            rates = jax.device_put(np.asarray([lane.rate for lane in padded], np.float32), self._by_lane)
        seeds = jax.device_put(np.asarray([lane.seed for lane in padded], np.uint32), self._by_lane)
        losses, state = [], None
        for phase in self.recipe.plan.phases:
            fresh = self._fresh[phase](variables)
            state = fresh if state is None else carry_state(state, fresh, phase)
            multipliers = schedule_values(self.recipe.schedule, phase)
            for first, stop in _chunks(phase, self.recipe.chunk):
                images, labels = self._batches(padded, first, stop)
                scale = jax.device_put(multipliers[first - phase.first : stop - phase.first], self._shared)
                numbers = jax.device_put(np.arange(first, stop, dtype=np.uint32), self._shared)
                variables, state, loss = self._programs[phase](
                    variables, state, rates, seeds, scale, numbers, images, labels
                )
                losses.append(loss)
        lost = np.concatenate([np.asarray(loss) for loss in losses], axis=1)
        whole = jax.tree.map(np.asarray, variables)
        return [
            Trained(jax.tree.map(lambda leaf, i=index: leaf[i].copy(), whole), lost[index])
            for index in range(len(lanes))
        ]

    def _stack(self, trees: Sequence[Any]) -> Any:
        return jax.tree.map(lambda *leaves: jax.device_put(np.stack(leaves), self._by_lane), *trees)

    def _batches(self, lanes: Sequence[Lane], first: int, stop: int) -> tuple[jax.Array, jax.Array]:
        distinct = {id(lane): lane for lane in lanes}  # for a copy nothing is drawn
        drawn = {known: lane.batches(first, stop) for known, lane in distinct.items()}
        images, labels = zip(*(drawn[id(lane)] for lane in lanes), strict=True)
        return (
            jax.device_put(np.stack(images), self._by_lane),
            jax.device_put(np.stack(labels), self._by_lane),
        )


def _chunks(phase: Phase, chunk: int) -> list[tuple[int, int]]:
    return [(first, min(first + chunk, phase.stop)) for first in range(phase.first, phase.stop, chunk)]


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
            recipe.network, recipe.start, phase, recipe.optim, *carry, rate * multiplier, batch, target, key
        )
        return (own, memory), loss

    steps = (multipliers, numbers, images, labels)
    (variables, state), losses = jax.lax.scan(body, (variables, state), steps)
    return variables, state, losses
