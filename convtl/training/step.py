"""One update of one net, as a pure function: read this to know what training is here."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from convtl.config import OptimConfig
from convtl.models.network import Network, Variables
from convtl.transfer.optim import make_transform
from convtl.transfer.plan import Phase

Params = dict[str, Any]


def params_of(variables: Variables) -> Params:
    """Unit name -> its weights, for the units that have any."""
    return {unit: own["params"] for unit, own in variables.items() if "params" in own}


def init_state(config: OptimConfig, phase: Phase, variables: Variables) -> Any:
    """Fresh optimiser state of a phase; frozen units have none."""
    params = params_of(variables)
    return make_transform(config, phase, params, 1.0).init(params)


def update(
    network: Network,
    start: int,
    phase: Phase,
    config: OptimConfig,
    variables: Variables,
    state: Any,
    rate: Float[Array, ""],
    images: Float[Array, "batch ..."],
    labels: Int[Array, "batch"],
    key: jax.Array | None = None,
) -> tuple[Variables, Any, Float[Array, ""]]:
    """One gradient step on the mean cross-entropy of a batch.

    Gradients are taken with respect to the trained units only, so nothing is computed for the frozen ones
    but their forward pass; what is frozen is returned as the very arrays that came in.

    Args:
      start: index of the unit that `images` (or cached features) enter.
      variables: of the units from `start` on.
      key: of this update, for trained units that draw (dropout); without one such units cannot be trained.

    Returns:
      Variables and optimiser state after the step, and the loss before it (nats).
    """
    params = params_of(variables)
    trained = {unit: params[unit] for unit in phase.trained}

    def loss_of(trained: Params) -> tuple[Float[Array, ""], Variables]:
        merged = variables | {unit: variables[unit] | {"params": own} for unit, own in trained.items()}
        logits, updated, _ = network.apply(merged, images, start=start, train=phase.trained, rngs=key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updated

    (loss, updated), gradients = jax.value_and_grad(loss_of, has_aux=True)(trained)
    everything = jax.tree.map(jnp.zeros_like, params) | gradients
    steps, state = make_transform(config, phase, params, rate).update(everything, state, params)
    moved = optax.apply_updates(trained, {unit: steps[unit] for unit in trained})
    return variables | {unit: updated[unit] | {"params": own} for unit, own in moved.items()}, state, loss
