"""A training run: its input, its state between two calls of a program, and its result."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from convtl.models.network import Variables

Batches = Callable[..., tuple[np.ndarray, np.ndarray]]
"""(first, stop) -> images (updates, batch, ...) float32 and labels (updates, batch) int32;
(first, stop, slice) -> those places of the batches only."""


@dataclass(frozen=True)
class RunState:
    """A run between two calls: all that continues it with the same bits, as NumPy arrays.

    Attributes:
      update: number of updates done.
      state: leaves of the optimiser's state in the order of `jax.tree.leaves`, by number ("000", "001", ...).
      losses: of the updates done.
    """

    update: int
    variables: Variables
    state: dict[str, np.ndarray]
    losses: Float[np.ndarray, "done"]

    def arrays(self) -> dict[str, Any]:
        """Arrays of a checkpoint."""
        return {"variables": self.variables, "state": self.state, "losses": self.losses}

    @classmethod
    def of(cls, update: int, arrays: dict[str, Any]) -> "RunState":
        return cls(update, arrays["variables"], arrays["state"], arrays["losses"])


@dataclass(frozen=True)
class Run:
    """One net to be trained at one learning rate.

    Attributes:
      variables: of the units from `recipe.start` on.
      seed: of augmentation and dropout of trained units, 0 to 2^32 - 1; each update draws anew. Runs of one
        seed share what they draw.
      state: where it continues; None starts from `variables`.
    """

    variables: Variables
    rate: float
    batches: Batches
    seed: int = 0
    state: RunState | None = None

    @property
    def update(self) -> int:
        """Number of updates done."""
        return 0 if self.state is None else self.state.update


@dataclass(frozen=True)
class RunResult:
    """Variables of a trained run's units (NumPy), and the loss before each update (nats).

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
class CallEnd:
    """Some runs between two calls of a program.

    Attributes:
      update: number of updates done, of `updates`.
      states: copies the state of each run; waits for the devices.
      results: copies the result of each run, as if it ended here.
    """

    update: int
    updates: int
    states: Callable[[], list[RunState]]
    results: Callable[[], list[RunResult]]


Callback = Callable[[CallEnd], None]
"""Called between calls of a program; an exception it raises ends the runs."""
