"""C1: how large the gradient is at each unit (Glorot & Bengio 2010; Hochreiter 1991)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from convtl.models.network import Network, Variables
from convtl.training.probes.bench import Materials, over_replicates, spread
from convtl.training.step import params_of

_SCALE = 1e12
"""The loss is multiplied by it for the backward pass, whose results would else be flushed to 0 far below."""


def gradient_profile(
    network: Network, variables: Variables, images: Float[Array, "n ..."], labels: Int[Array, "n"]
) -> dict[str, dict[str, Array]]:
    """How large the gradient of the cross-entropy is at every weighted unit, for one net.

    Returns:
      `gradient`: unit -> (n,) log10 of the norm of dL_i/dh, L_i the loss of image i and h the unit's output;
      -inf where it is exactly 0. `weights`: unit -> log10 of |dL/dW| / |W|, L the mean loss, W all weights of
      the unit.
    """
    params = params_of(variables)
    shifts = {
        name: jnp.zeros((len(images), *shape))
        for name, shape in zip(network.names, network.output_shapes, strict=True)
        if name in network.weighted
    }

    def loss_of(shifts: Mapping[str, Array], params: Mapping[str, Any]) -> Array:
        x = images
        for index, name in enumerate(network.names):
            own = {name: variables[name] | ({"params": params[name]} if name in params else {})}
            x, _, _ = network.apply(own, x, start=index, stop=index + 1)
            x = x + shifts[name] if name in shifts else x
        chosen = jnp.take_along_axis(jax.nn.log_softmax(x), labels[:, None], axis=1)
        return -_SCALE * chosen.sum()

    by_output, by_weights = jax.grad(loss_of, argnums=(0, 1))(shifts, params)
    each = jax.vmap(lambda leaf: _log_norm(leaf) - np.log10(_SCALE))
    total = np.log10(_SCALE) + np.log10(len(images))
    return {
        "gradient": {name: each(by_output[name]) for name in shifts},
        "weights": {
            name: _log_norm(by_weights[name]) - total - _log_norm(params[name])
            for name in network.weighted
        },
    }


def _log_norm(tree: Any) -> Float[Array, ""]:
    """log10 of the Euclidean norm over all leaves; squares of small numbers do not vanish."""
    leaves = jax.tree.leaves(tree)
    largest = jnp.max(jnp.stack([jnp.abs(leaf).max() for leaf in leaves]))
    safe = jnp.where(largest > 0, largest, 1.0)
    squares = sum((jnp.square(leaf / safe).sum() for leaf in leaves), start=jnp.float32(0))
    return jnp.where(largest > 0, jnp.log10(safe) + 0.5 * jnp.log10(squares), -jnp.inf)


def relative_to_last_hidden(
    gradient: Mapping[str, Float[np.ndarray, "replicates n"]], hidden: tuple[str, ...]
) -> dict[str, Float[np.ndarray, "replicates"]]:
    """R of each hidden unit: the median over images of log10 |dL_i/dh| - log10 |dL_i/dh_last|.

    The median does not mind a few images of which a ReLU net passes nothing on; where it passes nothing on
    for half of them or more, R is not defined (nan), and so is it where a net has diverged.
    """
    last = gradient[hidden[-1]]
    found = {}
    for unit in hidden:
        with np.errstate(
            invalid="ignore"
        ):  # -inf minus -inf: the image's gradient is 0 in both places
            apart = gradient[unit] - last
        middle = np.median(apart, axis=1)  # nan wherever there is one
        found[unit] = np.where(np.isfinite(middle), middle, np.nan)
    return found


def profile_values(
    network: Network, variables: Variables, materials: Materials
) -> list[tuple[str, int, str, np.ndarray]]:
    """(unit, position, quantity, one number a replicate) for all replicates on their probe images.

    Quantities: `relative_gradient` (R, decades; hidden units only, 0 at the last), `weight_gradient`
    (log10 |dL/dW| / |W|). Positions count weighted units from the input, from 1.
    """
    images, labels = (spread(array) for array in materials.probe)
    measured = over_replicates(gradient_profile, network)(variables, images, labels)
    units = network.weighted
    gradient = {unit: np.asarray(value) for unit, value in measured["gradient"].items()}
    relative = relative_to_last_hidden(gradient, units[:-1])
    rows = [
        (unit, place, "relative_gradient", relative[unit])
        for place, unit in enumerate(units[:-1], start=1)
    ]
    rows += [
        (unit, place, "weight_gradient", np.asarray(measured["weights"][unit]))
        for place, unit in enumerate(units, start=1)
    ]
    return rows
