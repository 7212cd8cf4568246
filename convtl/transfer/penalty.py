"""Penalties on weights, as gradients added to the loss's."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from convtl.transfer.plan import Strengths


class Anchors(NamedTuple):
    """State of `l2_sp`: the starting weights of each unit in `to_start`."""

    weights: dict[str, Any]


def l2_sp(to_start: Strengths, to_zero: Strengths) -> optax.GradientTransformation:
    """L2-SP (Li, Grandvalet & Davoine 2018): adds the gradient of a penalty to that of the loss.

    The penalty is alpha/2 ||w - w0||^2 over the weights and biases of each unit in `to_start`, whose w0 are
    the parameters given to `init`, and beta/2 ||w||^2 over those of each unit in `to_zero`. It belongs to the
    loss, as in the paper: it is not decoupled, and Adam rescales it with the rest.

    Args:
      to_start: (unit, alpha) pairs.
      to_zero: (unit, beta) pairs.

    >>> penalty = l2_sp(to_start=(("fc", 0.5),), to_zero=())
    >>> state = penalty.init({"fc": jnp.array([1.0])})
    >>> penalty.update({"fc": jnp.array([0.0])}, state, {"fc": jnp.array([3.0])})[0]
    {'fc': Array([1.], dtype=float32)}
    """

    def init(params: dict[str, Any]) -> Anchors:
        anchored = {unit: params[unit] for unit, _ in to_start}
        return Anchors(jax.tree.map(jnp.copy, anchored))  # one buffer cannot be donated twice

    def update(
        gradients: dict[str, Any], state: Anchors, params: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], Anchors]:
        if params is None:
            raise ValueError("a penalty on the weights needs the weights")
        sums = dict(gradients)
        for unit, alpha in to_start:
            anchored = (gradients[unit], params[unit], state.weights[unit])
            sums[unit] = jax.tree.map(lambda g, w, w0, a=alpha: g + a * (w - w0), *anchored)
        for unit, beta in to_zero:
            sums[unit] = jax.tree.map(lambda g, w, b=beta: g + b * w, gradients[unit], params[unit])
        return sums, state

    return optax.GradientTransformation(init, update)
