"""What a training run is made of, and what it leaves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from convtl.config import OptimConfig, ScheduleConfig, dump
from convtl.config.training import AugmentConfig, NormMode, Precision
from convtl.errors import UserError
from convtl.models.network import Network, Variables
from convtl.training.step import Options
from convtl.transfer.plan import Plan

Batches = Callable[..., tuple[np.ndarray, np.ndarray]]
"""(first, stop) -> images (updates, batch, ...) float32 and labels (updates, batch) int32; (first, stop, slice) ->
those places of the batches only."""


@dataclass(frozen=True)
class Recipe:
    """All that shapes the compiled programs of a training run; equal recipes share them.

    Attributes:
      start: index of the unit that the batches enter: the plan's boundary when features are cached.
      lanes: lanes on each device.
      chunk: updates in one call of a program.
      norm_mode: `adapt` is `frozen` here: statistics are adapted before (`convtl.training.adapt`).

    Raises:
      UserError: images are to be augmented where features are cached; or a batch has no such equal parts.
    """

    network: Network
    start: int
    plan: Plan
    optim: OptimConfig
    schedule: ScheduleConfig
    batch_size: int
    lanes: int
    chunk: int
    norm_mode: NormMode = "train"
    augment: AugmentConfig | None = None
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if self.augment is not None and self.start:
            raise UserError(
                f"augment: got {dump(self.augment)}, with features cached up to {self.network.names[self.start]}; "
                "accepted with cache_prefix=false or depth=all"
            )
        if self.batch_size % self.optim.accumulate:
            raise UserError(
                f"optim.accumulate: got {self.optim.accumulate}; "
                f"accepted: a divisor of batch_size, {self.batch_size}"
            )

    @property
    def options(self) -> Options:
        return Options(self.norm_mode, self.augment, self.precision)


@dataclass(frozen=True)
class Paused:
    """A run between two chunks: all that it takes to go on with the same bits, as NumPy arrays.

    Attributes:
      update: how many updates are done.
      state: leaves of the optimiser's state in the order of `jax.tree.leaves`, by number ("000", "001", ...).
      losses: of the updates that are done.
    """

    update: int
    variables: Variables
    state: dict[str, np.ndarray]
    losses: Float[np.ndarray, "done"]

    def arrays(self) -> dict[str, Any]:
        """What is to be kept on disk."""
        return {"variables": self.variables, "state": self.state, "losses": self.losses}

    @classmethod
    def of(cls, update: int, arrays: dict[str, Any]) -> "Paused":
        return cls(update, arrays["variables"], arrays["state"], arrays["losses"])


@dataclass(frozen=True)
class Lane:
    """One run to be trained.

    Attributes:
      variables: of the units from `recipe.start` on.
      seed: of what is drawn in updates (augmentation, dropout of trained units), 0 to 2^32 - 1; each update
        draws anew. Runs that draw nothing ignore it; runs of one seed share what they draw.
      begun: where it goes on; None begins with `variables`.
    """

    variables: Variables
    rate: float
    batches: Batches
    seed: int = 0
    begun: Paused | None = None

    @property
    def update(self) -> int:
        """How many updates are done."""
        return 0 if self.begun is None else self.begun.update


@dataclass(frozen=True)
class Trained:
    """What a lane left: variables of its units (NumPy), and the loss before each update (nats).

    With a moving average (`optim.ema`) the variables are the averages.
    """

    variables: Variables
    losses: Float[np.ndarray, "updates"]

    @property
    def finite(self) -> bool:
        """Whether every loss and every weight is a number."""
        leaves = jax.tree.leaves(self.variables)
        return bool(
            np.isfinite(self.losses).all() and all(np.isfinite(leaf).all() for leaf in leaves)
        )


@dataclass(frozen=True)
class Moment:
    """Between two chunks of updates of some lanes.

    Attributes:
      update: how many updates are done, of `updates`.
      paused: copies what it takes to go on from here, a lane each; waits for the devices.
      trained: what the lanes would leave if they ended here.
    """

    update: int
    updates: int
    paused: Callable[[], list[Paused]]
    trained: Callable[[], list[Trained]]


Between = Callable[[Moment], None]
"""Whoever looks at runs between chunks; what it raises ends them."""
