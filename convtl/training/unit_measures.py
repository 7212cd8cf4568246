"""Measures of one net, unit by unit: size of gradients, likeness of outputs, time of arrival."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from convtl.models.network import Network, Variables
from convtl.training.step import params_of

_SCALE = 1e12
"""The loss is multiplied by it for the backward pass, so that small gradients are not flushed to 0."""

_ARRIVED, _MOVED = 0.9, 0.05
_SAME = 0.999
"""Least CKA of a representation with itself; it is 0 where all outputs of the unit are the same."""


def score(
    network: Network, variables: Variables, images: Float[Array, "n ..."], labels: Int[Array, "n"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Accuracy and mean cross-entropy (nats)."""
    logits, _, _ = network.apply(variables, images)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return (logits.argmax(-1) == labels).mean(), -chosen.mean()


def relative_gradient(
    gradient: Float[np.ndarray, "replicates n"], last: Float[np.ndarray, "replicates n"]
) -> Float[np.ndarray, "replicates"]:
    """Median over images of the distance in decades; nan where it is not finite."""
    with np.errstate(invalid="ignore"):  # -inf minus -inf: an image's gradient is 0 in both places
        median = np.median(gradient - last, axis=1)
    return np.where(np.isfinite(median), median, np.nan)


def gradient_profile(
    network: Network, variables: Variables, images: Float[Array, "n ..."], labels: Int[Array, "n"]
) -> tuple[dict[str, Float[Array, "n"]], dict[str, Float[Array, ""]]]:
    """Size of the cross-entropy's gradient at every weighted unit, for one net.

    Returns:
      Unit -> log10 of the norm of dL_i/dh, L_i the loss of image i and h the unit's output; -inf where it is exactly
      0. Unit -> log10 of |dL/dW| / |W|, L the mean loss, W all weights of the unit.
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
            unit = {name: variables[name] | ({"params": params[name]} if name in params else {})}
            x, _, _ = network.apply(unit, x, start=index, stop=index + 1)
            x = x + shifts[name] if name in shifts else x
        chosen = jnp.take_along_axis(jax.nn.log_softmax(x), labels[:, None], axis=1)
        return -_SCALE * chosen.sum()

    by_output, by_weights = jax.grad(loss_of, argnums=(0, 1))(shifts, params)
    each = jax.vmap(lambda leaf: _log_norm(leaf) - np.log10(_SCALE))
    total = np.log10(_SCALE) + np.log10(len(images))
    return {name: each(by_output[name]) for name in shifts}, {
        name: _log_norm(by_weights[name]) - total - _log_norm(params[name])
        for name in network.weighted
    }


def _log_norm(tree: Any) -> Float[Array, ""]:
    """log10 of the Euclidean norm over all leaves, safe against underflow."""
    leaves = jax.tree.leaves(tree)
    largest = jnp.max(jnp.stack([jnp.abs(leaf).max() for leaf in leaves]))
    safe = jnp.where(largest > 0, largest, 1.0)
    squares = sum((jnp.square(leaf / safe).sum() for leaf in leaves), start=jnp.float32(0))
    return jnp.where(largest > 0, jnp.log10(safe) + 0.5 * jnp.log10(squares), -jnp.inf)


def grams(
    network: Network, variables: Variables, images: Float[Array, "n ..."]
) -> dict[str, Float[Array, "n n"]]:
    """Centred Gram matrices of every weighted unit's outputs, of Frobenius norm 1.

    All zeros where a unit's output is the same for every image.
    """
    _, _, taps = network.apply(variables, images, taps=network.weighted)
    products = {}
    for unit in network.weighted:
        flat = taps[unit].reshape(len(images), -1)
        centred = flat - flat.mean(0)
        # Scaled before it is squared: neither the smallest nor the largest outputs then leave float32.
        size = jnp.abs(centred).max()
        scaled = centred / jnp.where(size > 0, size, 1.0)
        product = scaled @ scaled.T
        norm = jnp.linalg.norm(product)
        products[unit] = product / jnp.where(norm > 0, norm, 1.0)
    return products


def cka(
    products: Sequence[Float[np.ndarray, "replicates n n"]],
) -> Float[np.ndarray, "times replicates"]:
    """Linear CKA of a unit with itself at the last time, from its `grams`."""
    last = products[-1]
    return np.stack([np.einsum("rij,rij->r", one, last, dtype=np.float64) for one in products])


def arrival(updates: Sequence[int], alignment: Float[np.ndarray, "times"]) -> tuple[float, float]:
    """First update with (CKA_t - CKA_0) / (1 - CKA_0) >= 0.9; and 1 - CKA_0.

    It is nan where the unit did not move, 1 - CKA_0 < 0.05, and where the net diverged.

    Args:
      updates: when the unit was measured, from 0 to the end.
      alignment: linear CKA with its final self at these times; the last is 1.
    """
    start = float(alignment[0])
    if not np.isfinite(alignment).all() or 1 - start < _MOVED or alignment[-1] < _SAME:
        return float("nan"), 1 - start
    share = (np.asarray(alignment, float) - start) / (1 - start)
    share[-1] = 1.0
    after = int(np.argmax(share >= _ARRIVED))
    before = after - 1  # share[0] is 0, so there is one
    part = (_ARRIVED - share[before]) / (share[after] - share[before])
    return updates[before] + part * (updates[after] - updates[before]), 1 - start
