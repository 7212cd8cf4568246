"""Training runs: recipe, input, state between two calls, result."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from convtl.config.training import UpdateConfig
from convtl.models.lowering import on_cpu
from convtl.models.network import Network, Variables, multiply_adds
from convtl.transfer.optim import averages
from convtl.transfer.plan import Phase, Plan

_BYTES_PER_CALL = 2**26
"""Of one run's images in one call: fewer updates than `steps_per_call` for big images."""

_FLOPS_PER_CALL = 3 * 10**11
"""All runs of a device in one call; a signal waits for its end, some seconds on a core."""

Batches = Callable[[int, int], tuple[np.ndarray, np.ndarray]]
"""(first, stop) -> images (updates, batch, ...) float32 and labels (updates, batch) int32."""


@dataclass(frozen=True)
class Recipe(UpdateConfig):
    """Identity of the compiled programs of training runs."""

    network: Network
    start: int  # index of the unit that batches enter: the plan's boundary when features are cached
    plan: Plan
    runs_per_device: int
    steps_per_call: int  # at most
    vectorised: bool = False  # runs side by side also where one after another is faster

    @classmethod
    def of(cls, config: UpdateConfig, **program: Any) -> "Recipe":
        """Return the recipe of a study's updates, or of its pretraining's."""
        update = {key.name: getattr(config, key.name) for key in fields(UpdateConfig)}
        return cls(**update, **program)

    @property
    def sequential(self) -> bool:
        """Return whether a device takes its runs one after another.

        On a CPU maps of several leave a core's cache. LeNet-5, batch 32, 4 runs on each of 2 cores, in parallel and
        sequentially: all layers 50 and 36 us an image, the last three on cached features 3.1 and 3.6.
        """
        return not self.vectorised and on_cpu() and self.network.has_maps(self.start)

    @property
    def updates_per_call(self) -> int:
        """Updates of a call: below `steps_per_call` where images or FLOPs are many."""
        images = 4 * self.batch_size * int(np.prod(self.network.shape_before(self.start)))
        flops = flops_per_update(self.network, self.plan, self.batch_size, self.start)
        longest = max(phase.stop - phase.first for phase in self.plan.phases)
        cheap = _FLOPS_PER_CALL // max(1, self.runs_per_device * flops)
        return max(1, min(longest, self.steps_per_call, _BYTES_PER_CALL // images, cheap))


class RunState(NamedTuple):
    """State of a run between two calls (NumPy), from which it continues to the bit."""

    variables: Variables
    state: dict[str, np.ndarray]  # leaves of the optimiser's state, see `numbered`
    losses: Float[np.ndarray, "done"]

    @property
    def update(self) -> int:
        """Number of updates done."""
        return len(self.losses)


@dataclass(frozen=True)
class Run:
    """One net to be trained at one learning rate."""

    variables: Variables  # of the units from `recipe.start` on
    rate: float
    batches: Batches
    seed: int = 0  # of augmentation and dropout, which runs of one seed share; below 2^32
    state: RunState | None = None  # where it continues; None starts from `variables`


@dataclass(frozen=True)
class RunResult:
    """Variables of a trained run (NumPy), and the loss before each update (nats)."""

    variables: Variables  # with `optim.ema` averages
    losses: Float[np.ndarray, "updates"]

    @property
    def finite(self) -> bool:
        """Return whether every loss and every weight is finite."""
        leaves = [self.losses, *jax.tree.leaves(self.variables)]
        return all(bool(np.isfinite(leaf).all()) for leaf in leaves)


@dataclass
class TrainState:
    """All runs of a program between two calls, on the devices."""

    recipe: Recipe
    count: int  # of runs that are no padding; these come first
    variables: Any
    opt_state: Any = None
    losses: list[tuple[Any, int]] = field(default_factory=list)  # of calls, with their updates
    update: int = 0  # number of updates done

    def states(self) -> list[RunState]:
        """Copy the state of each run; waits for the devices."""
        arrays = (self.variables, numbered(self.opt_state), self._losses())
        return [RunState(*one) for one in self._by_run(arrays)]

    def results(self) -> list[RunResult]:
        """Copy the result of each run, as if it ended here; waits for the devices."""
        variables, decay = jax.tree.map(np.asarray, self.variables), self.recipe.optim.ema
        if decay is not None:
            means = averages(self.opt_state.totals, self.recipe.plan, decay, self.update)
            variables |= {unit: variables[unit] | mean for unit, mean in means.items()}
        return [RunResult(*one) for one in self._by_run((variables, self._losses()))]

    def _losses(self) -> Float[np.ndarray, "runs updates"]:
        return np.concatenate([np.asarray(loss)[:, :count] for loss, count in self.losses], axis=1)

    def _by_run(self, arrays: Any) -> list[Any]:
        arrays = jax.tree.map(np.asarray, arrays)
        indices = range(self.count)
        return [jax.tree.map(lambda leaf, at=n: leaf[at].copy(), arrays) for n in indices]


def numbered(opt_state: Any) -> dict[str, Any]:
    """Name leaves of an optimiser's state by number ("000", ...), for checkpoints."""
    return {f"{place:03}": leaf for place, leaf in enumerate(jax.tree.leaves(opt_state))}


def flops_per_update(network: Network, plan: Plan, batch_size: int, start: int) -> int:
    """Floating-point operations of one update, averaged over a plan's phases.

    Forward from unit `start` on; backward through every unit above the lowest trained one; weight gradients of trained
    units. Augmentation and averages are not counted.
    """
    counts = multiply_adds(network)

    def cost(phase: Phase) -> int:
        lowest = min(network.index(unit) for unit in phase.trained)
        forward, through = network.names[start:], network.names[lowest + 1 :]
        return sum(counts[name] for name in (*forward, *through, *phase.trained))

    total = sum(cost(phase) * (phase.stop - phase.first) for phase in plan.phases)
    return round(2 * batch_size * total / plan.updates)


Callback = Callable[[TrainState], None]
"""Called between calls of a program; an exception it raises ends the runs."""
