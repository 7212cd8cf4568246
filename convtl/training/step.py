"""One update of one net, as a pure function."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from convtl.models.lowering import trained_at_a_time
from convtl.models.network import Variables
from convtl.training.augment import augment, blend
from convtl.training.runs import Recipe
from convtl.transfer.optim import Averaged, add_to_averages, make_transform, start_averages
from convtl.transfer.plan import Phase

Params = dict[str, Any]

_AUGMENT = 10_000  # Folded into an update's key for augmentation; units fold in their index.


class Batch(NamedTuple):
    """Images or features, and labels; with MixUp the partners' labels, too."""

    images: Float[Array, "batch ..."]
    labels: Int[Array, "batch"]
    partners: Int[Array, "batch"] | None = None


def params_of(variables: Variables) -> Params:
    """Unit name -> its weights, for the units that have any."""
    return {unit: kinds["params"] for unit, kinds in variables.items() if "params" in kinds}


@dataclass(frozen=True)
class Step:
    """Gradient step of a phase on the mean cross-entropy of a batch."""

    recipe: Recipe
    phase: Phase

    def init(self, variables: Variables) -> Any:
        """Fresh optimiser state of the phase; frozen units have none."""
        params = params_of(variables)
        state = make_transform(self.recipe.optim, self.phase, params, 1.0).init(params)
        if self.recipe.optim.ema is None:
            return state
        kinds = ("params",) if self._held else ("params", "batch_stats")
        return start_averages(state, variables, self.phase.trained, kinds)

    def __call__(
        self,
        variables: Variables,
        opt_state: Any,
        rate: Float[Array, ""],
        batch: Batch,
        key: jax.Array | None = None,
    ) -> tuple[Variables, Any, Float[Array, ""]]:
        """Return variables and optimiser state after the step, and the loss before (nats).

        Gradients are taken with respect to the trained units only; frozen variables are returned as they came in.

        Args:
          variables: of the units from the recipe's `start` on.
          key: of this update; augmentation without one is a ValueError.
        """
        optim, units = self.recipe.optim, self.phase.trained
        params, share = params_of(variables), None
        trained = {unit: params[unit] for unit in units}
        if (config := self.recipe.augment) is not None:
            if key is None:
                raise ValueError("augmentation needs a key")
            changing, blending = jax.random.split(jax.random.fold_in(key, _AUGMENT))
            batch = batch._replace(images=augment(changing, batch.images, config))
            if config.mixup:
                images, partners, share = blend(blending, *batch[:2], config.mixup)
                batch = Batch(images, batch.labels, partners)
        loss_of, statistics = partial(self._loss, variables, share), self._statistics(variables)
        parts = len(batch.labels) // self.rows_at_once(len(batch.labels))
        loss, statistics, gradients = _gradients(loss_of, trained, statistics, batch, key, parts)
        gradients = jax.tree.map(jnp.zeros_like, params) | gradients
        optimiser = opt_state if optim.ema is None else opt_state.optimiser
        transform = make_transform(optim, self.phase, params, rate)
        steps, optimiser = transform.update(gradients, optimiser, params)
        moved = optax.apply_updates(trained, {unit: steps[unit] for unit in trained})
        variables = variables | {
            unit: variables[unit] | statistics[unit] | {"params": moved[unit]} for unit in moved
        }
        if optim.ema is None:
            return variables, optimiser, loss
        totals = add_to_averages(opt_state.totals, variables, units, optim.ema)
        return variables, Averaged(optimiser, totals), loss

    @property
    def _held(self) -> bool:
        """Return whether batch normalisation of trained units keeps its statistics."""
        return self.recipe.norm_mode == "frozen"

    def rows_at_once(self, rows: int) -> int:
        """Number of images of a batch of `rows` that are differentiated together."""
        network = self.recipe.network
        maps = network.has_maps(self.recipe.start)
        if not maps or network.mixes_batch(self.phase.trained, held=self._held):
            return rows
        return trained_at_a_time(rows, network.input_shape)

    def _statistics(self, variables: Variables) -> Variables:
        """Variables of trained units that are not weights: running statistics."""
        return {
            unit: {kind: value for kind, value in variables[unit].items() if kind != "params"}
            for unit in self.phase.trained
        }

    def _loss(
        self,
        variables: Variables,
        share: Float[Array, ""] | None,
        trained: Params,
        statistics: Variables,
        batch: Batch,
        key: jax.Array | None,
    ) -> tuple[Float[Array, ""], Variables]:
        """Mean cross-entropy, with MixUp the blend of two, and statistics after the batch."""
        network, names = self.recipe.network, self.phase.trained
        merged = variables | {
            unit: statistics[unit] | {"params": params} for unit, params in trained.items()
        }
        images = batch.images
        if self.recipe.precision == "bfloat16":  # gradients come back through the cast, as float32
            halved = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params_of(merged))
            merged |= {unit: merged[unit] | {"params": half} for unit, half in halved.items()}
            images = images.astype(jnp.bfloat16)
        first = min(map(network.index, names), default=len(network.units))
        entering = network.infer(merged, images, start=self.recipe.start, stop=first)
        logits, updated, _ = network.apply(
            merged, entering, start=first, train=names, held=self._held, rngs=key
        )
        logits = logits.astype(jnp.float32)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()
        if share is not None:
            other = optax.softmax_cross_entropy_with_integer_labels(logits, batch.partners).mean()
            loss = share * loss + (1 - share) * other
        return loss, self._statistics(updated)


def _gradients(
    loss_of: Callable[..., Any],
    trained: Params,
    statistics: Variables,
    batch: Batch,
    key: jax.Array | None,
    parts: int,
) -> tuple[Float[Array, ""], Variables, Params]:
    """Loss, statistics and gradients of a batch, taken in `parts` equal parts."""
    with_gradients = jax.value_and_grad(loss_of, has_aux=True)
    if parts == 1:
        (loss, statistics), gradients = with_gradients(trained, statistics, batch, key)
        return loss, statistics, gradients

    def body(carry: Any, part: Batch) -> tuple[Any, None]:
        total, sums = carry
        (loss, _), gradients = with_gradients(trained, statistics, part, key)
        return (total + loss, jax.tree.map(jnp.add, sums, gradients)), None

    pieces = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), batch)
    zero = jnp.zeros_like(batch.labels[0], jnp.float32)  # on the same devices as the losses will be
    (total, sums), _ = jax.lax.scan(body, (zero, jax.tree.map(jnp.zeros_like, trained)), pieces)
    return total / parts, statistics, jax.tree.map(lambda leaf: leaf / parts, sums)
