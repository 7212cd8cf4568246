"""LeNet-5 as studies train it, on made-up images: runs of some depth, batch size and number of lanes."""

from collections.abc import Sequence

import jax
import numpy as np

from convtl.config.schema import Config
from convtl.data.batches import batch_indices
from convtl.models.registry import build_network
from convtl.training.cost import flops_per_update
from convtl.training.features import Forward
from convtl.training.layout import Layout
from convtl.training.loop import Trainer
from convtl.training.recipe import Recipe
from convtl.training.runs import Run, RunResult
from convtl.transfer.optim import schedule_values
from convtl.transfer.plan import make_plan

_IMAGES = 512
_SHAPE = (28, 28, 1)
RATE = 1e-3


class LeNetRuns:
    """Training runs of one depth; `train` runs as many lanes as the programs are wide.

    Args:
      depth: number of trained units; 5 is all of them.
      cached: whether what is frozen is computed once, before the runs.
      devices: all of JAX's without.

    Attributes:
      width: lanes in one call.
      flops: of one update of one lane, by the algorithm (`convtl.training.cost`).
    """

    def __init__(
        self,
        settings: Config,
        *,
        depth: int = 5,
        batch_size: int,
        updates: int,
        lanes: int,
        cached: bool = False,
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        model, classes = settings.models["lenet5"], settings.classes or 12
        network = build_network(model, _SHAPE, classes)
        plan = make_plan(network, settings.regimes["fine_tune"], depth, updates)
        start = plan.boundary if cached else 0
        self.recipe = Recipe(
            network=network,
            start=start,
            plan=plan,
            optim=settings.optim,
            schedule=settings.schedule,
            batch_size=batch_size,
            lanes=lanes,
            chunk=settings.chunk,
        )
        self._trainer = Trainer(self.recipe, Layout(tuple(devices)) if devices else None)
        self.width, self.updates = self._trainer.width, updates
        plain = build_network(model, _SHAPE, classes, plain=True)
        self.flops = flops_per_update(plain, plan, batch_size, start)
        rng = np.random.default_rng(0)
        self.images = rng.standard_normal((_IMAGES, *_SHAPE), np.float32)
        self.labels = (np.arange(_IMAGES) % classes).astype(np.int32)
        self.variables = jax.tree.map(np.asarray, jax.jit(network.init)(jax.random.key(0)))
        self._inputs = (
            Forward(network, 0, start)(self.variables, self.images) if start else self.images
        )
        self._own = {name: self.variables[name] for name in network.names[start:]}

    @property
    def multiplied(self) -> int:
        """Like `flops`, with what the lowering multiplies beside it, such as the zeros of a band."""
        recipe = self.recipe
        return flops_per_update(recipe.network, recipe.plan, recipe.batch_size, recipe.start)

    def batches(self, first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """What enters the first trained unit, or the net."""
        chosen = batch_indices(0, ("speed",), _IMAGES, self.recipe.batch_size, first, stop)
        return self._inputs[chosen], self.labels[chosen]

    def rates(self) -> list[float]:
        """The rate of each update of the first lane."""
        (phase,) = self.recipe.plan.phases
        return [RATE * float(value) for value in schedule_values(self.recipe.schedule, phase)]

    def train(self) -> list[RunResult]:
        """All lanes, each at a rate of its own; nothing is shared between them but the images."""
        lanes = [
            Run(self._own, RATE * (1 + number / 100), self.batches) for number in range(self.width)
        ]
        return self._trainer.train(lanes)
