"""All that shapes the compiled programs of training runs, and how many updates one call makes."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from convtl.config.roles import dump
from convtl.config.training import AugmentConfig, NormMode, OptimConfig, Precision, ScheduleConfig
from convtl.errors import UserError
from convtl.models.lowering import on_cpu
from convtl.models.network import Network
from convtl.training.cost import flops_per_update
from convtl.training.step import Options, Step
from convtl.transfer.plan import Phase, Plan

_BYTES_AT_ONCE = 2**26
"""Of one run's images in one call: fewer updates than `chunk` where images are big."""

_FLOPS_AT_ONCE = 10**12
"""Of all runs of a device in one call: a signal waits for its end, some seconds on a core."""


class Call(NamedTuple):
    """The updates of one phase that one call of a program makes."""

    phase: Phase
    first: int
    stop: int

    @property
    def within(self) -> slice:
        """The same, counted from the phase's first update."""
        return slice(self.first - self.phase.first, self.stop - self.phase.first)


@dataclass(frozen=True)
class Recipe:
    """All that shapes the compiled programs of a training run; equal recipes share them.

    Attributes:
      start: index of the unit that the batches enter: the plan's boundary when features are cached.
      lanes: runs on each device.
      chunk: updates in one call of a program.
      norm_mode: `adapt` is `frozen` here: statistics are adapted before (`convtl.training.adapt`).

    Raises:
      UserError: augmentation of cached features; or a batch that has no such equal parts.
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

    def step(self, phase: Phase) -> Step:
        """The update that a phase repeats."""
        options = Options(self.norm_mode, self.augment, self.precision)
        return Step(self.network, self.start, phase, self.optim, options)

    def calls(self) -> list[Call]:
        """The calls that make all updates, in order."""
        size = updates_at_once(self)
        return [
            Call(phase, *ends) for phase in self.plan.phases for ends in _call_ends(phase, size)
        ]


def one_after_another(recipe: Recipe) -> bool:
    """Whether a device takes its runs one after another, and not side by side.

    Accelerators take them side by side (`vmap`), and a CPU where there are no maps but in what enters, so that
    there is little to compute for each operation. Maps of several runs at once leave a core's cache. LeNet-5, batch
    32, 4 runs on each of 2 cores, side by side and one after another: all layers 50 and 36 us an image, the last
    three on cached features 3.1 and 3.6, the last 0.3 and 0.4.
    """
    return on_cpu() and recipe.network.has_maps(recipe.start)


@lru_cache
def updates_at_once(recipe: Recipe) -> int:
    """Updates of one call: `chunk`, or less where images or computations are large; at least two.

    XLA compiles a loop of one step as none, which gives other last bits.
    """
    update = 4 * recipe.batch_size * int(np.prod(recipe.network.shape_before(recipe.start)))
    flops = recipe.lanes * flops_per_update(
        recipe.network, recipe.plan, recipe.batch_size, recipe.start
    )
    return max(2, min(recipe.chunk, _BYTES_AT_ONCE // update, _FLOPS_AT_ONCE // max(1, flops)))


def _call_ends(phase: Phase, size: int) -> list[tuple[int, int]]:
    """(first, stop) of calls of `size` updates; a single last update joins the call before it."""
    starts = list(range(phase.first, phase.stop, size))
    if len(starts) > 1 and phase.stop - starts[-1] < 2:
        starts.pop()
    return list(zip(starts, [*starts[1:], phase.stop], strict=True))
