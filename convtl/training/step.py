"""One update of one net, as a pure function: what training is here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from convtl.config.training import AugmentConfig, NormMode, OptimConfig, Precision
from convtl.models.lowering import trained_at_a_time
from convtl.models.network import Network, Variables
from convtl.training.augment import augmented
from convtl.transfer.average import Averaged, added, started
from convtl.transfer.optim import make_transform
from convtl.transfer.plan import Phase

Params = dict[str, Any]

_AUGMENT, _PART = 10_000, 20_000
"""Folded into an update's key for augmentation and for parts of a batch; units fold in their index."""


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
    """A gradient step on the mean cross-entropy of a batch.

    Attributes:
      start: index of the unit that images (or cached features) enter.
      phase: which units are trained, and their rates relative to the learning rate.
    """

    network: Network
    start: int
    phase: Phase
    optim: OptimConfig
    norm_mode: NormMode = "train"
    augment: AugmentConfig | None = None
    precision: Precision = "float32"

    def init(self, variables: Variables) -> Any:
        """Fresh optimiser state of the phase; frozen units have none."""
        params = params_of(variables)
        state = make_transform(self.optim, self.phase, params, 1.0).init(params)
        if self.optim.ema is None:
            return state
        kinds = ("params", "batch_stats") if self.norm_mode == "train" else ("params",)
        return started(state, variables, self.phase.trained, kinds)

    def __call__(
        self,
        variables: Variables,
        opt_state: Any,
        rate: Float[Array, ""],
        batch: Batch,
        key: jax.Array | None = None,
    ) -> tuple[Variables, Any, Float[Array, ""]]:
        """Variables and optimiser state after the step, and the loss before it (nats).

        Gradients are taken with respect to the trained units only, so nothing is computed for frozen ones
        but their forward pass; frozen variables are returned as the very arrays that came in. The loss is
        the mean cross-entropy of the augmented images without label smoothing, so that it can be compared
        between runs with and without; with MixUp the blend of the two labels' cross-entropies.

        Args:
          variables: of the units from `start` on.
          key: of this update, for dropout and augmentation. Without one, neither is possible.

        Raises:
          ValueError: augmentation without a key.
        """
        params = params_of(variables)
        trained = {unit: params[unit] for unit in self.phase.trained}
        parts = len(batch.labels) // self.rows_at_once(len(batch.labels))
        share = None
        if self.augment is not None:
            if key is None:
                raise ValueError("augmentation needs a key")
            augmenting = jax.random.fold_in(key, _AUGMENT)
            images, partners, share = augmented(augmenting, *batch[:2], self.augment)
            batch = Batch(images, batch.labels, partners)
        loss_of = partial(self._loss, variables, share)
        statistics = self._statistics(variables)
        loss, statistics, gradients = _gradients(loss_of, trained, statistics, batch, key, parts)
        gradients = jax.tree.map(jnp.zeros_like, params) | gradients
        averaged = isinstance(opt_state, Averaged)
        optimiser = opt_state.optimiser if averaged else opt_state
        transform = make_transform(self.optim, self.phase, params, rate)
        steps, optimiser = transform.update(gradients, optimiser, params)
        moved = optax.apply_updates(trained, {unit: steps[unit] for unit in trained})
        variables = variables | {
            unit: variables[unit] | statistics[unit] | {"params": moved[unit]} for unit in moved
        }
        if not averaged or self.optim.ema is None:
            return variables, optimiser, loss
        totals = added(opt_state.totals, variables, self.phase.trained, self.optim.ema)
        return variables, Averaged(optimiser, totals), loss

    @property
    def held(self) -> tuple[str, ...]:
        """Trained units whose batch normalisation keeps its running statistics."""
        return self.phase.trained if self.norm_mode != "train" else ()

    def rows_at_once(self, rows: int) -> int:
        """Number of images of a batch of `rows` that are differentiated together."""
        rows //= self.optim.accumulate
        maps = self.network.has_maps(self.start)
        if not maps or self.network.mixes_batch(self.phase.trained, self.held):
            return rows
        return trained_at_a_time(rows, self.network.input_shape)

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
    ) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Variables]]:
        """Objective, reported loss, and statistics after the batch."""
        network, names = self.network, self.phase.trained
        merged = variables | {
            unit: statistics[unit] | {"params": params} for unit, params in trained.items()
        }
        images = batch.images
        if self.precision == "bfloat16":  # gradients come back through the cast, as float32
            halved = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params_of(merged))
            merged |= {unit: merged[unit] | {"params": half} for unit, half in halved.items()}
            images = images.astype(jnp.bfloat16)
        first = min(map(network.index, names), default=len(network.units))
        entering = network.infer(merged, images, start=self.start, stop=first)
        logits, updated, _ = network.apply(
            merged, entering, start=first, train=names, held=self.held, rngs=key
        )
        logits = logits.astype(jnp.float32)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()
        if share is not None:
            other = optax.softmax_cross_entropy_with_integer_labels(logits, batch.partners).mean()
            loss = share * loss + (1 - share) * other
        objective, smoothing = loss, self.optim.label_smoothing
        if smoothing:
            uniform = -jax.nn.log_softmax(logits).mean()
            objective = (1 - smoothing) * loss + smoothing * uniform
        return objective, (loss, self._statistics(updated))


def _gradients(
    loss_of: Callable[..., Any],
    trained: Params,
    statistics: Variables,
    batch: Batch,
    key: jax.Array | None,
    parts: int,
) -> tuple[Float[Array, ""], Variables, Params]:
    """Loss, statistics and gradients of a batch, in equal parts one after the other.

    Batch normalisation in training mode sees parts, not the batch; its statistics go from part to part.
    """
    with_gradients = jax.value_and_grad(loss_of, has_aux=True)
    if parts == 1:
        (_, (loss, statistics)), gradients = with_gradients(trained, statistics, batch, key)
        return loss, statistics, gradients

    def body(carry: Any, step: Any) -> tuple[Any, None]:
        total, before, sums = carry
        number, part = step
        part_key = None if key is None else jax.random.fold_in(key, _PART + number)
        (_, (loss, after)), gradients = with_gradients(trained, before, part, part_key)
        return (total + loss, after, jax.tree.map(jnp.add, sums, gradients)), None

    pieces = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), batch)
    zero = jnp.zeros_like(batch.labels[0], jnp.float32)  # on the same devices as the losses will be
    carry = (zero, statistics, jax.tree.map(jnp.zeros_like, trained))
    (total, statistics, sums), _ = jax.lax.scan(body, carry, (jnp.arange(parts), pieces))
    return total / parts, statistics, jax.tree.map(lambda leaf: leaf / parts, sums)
