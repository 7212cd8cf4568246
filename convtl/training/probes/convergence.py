"""C2: when each unit becomes what it will be, by the likeness of its outputs to its final ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from convtl.models.network import Network, Variables
from convtl.training.probes.bench import Materials, over_replicates, spread

_SAME = 0.999
"""Of the CKA of a representation with itself; it is 0 where the unit says the same of every image."""


def grams(
    network: Network, variables: Variables, materials: Materials
) -> dict[str, Float[np.ndarray, "replicates n n"]]:
    """Centred inner products of the probe images' representations at every weighted unit, of Frobenius norm 1.

    All zeros where a unit says the same of every image.
    """
    measured = over_replicates(_grams, network)(variables, spread(materials.probe[0]))
    return {unit: np.asarray(value) for unit, value in measured.items()}


def _grams(
    network: Network, variables: Variables, images: Float[Array, "n ..."]
) -> dict[str, Array]:
    _, _, taps = network.apply(variables, images, taps=network.weighted)
    found = {}
    for unit in network.weighted:
        flat = taps[unit].reshape(len(images), -1)
        centred = flat - flat.mean(0)
        # Scaled before it is squared: neither the smallest nor the largest outputs then leave float32.
        size = jnp.abs(centred).max()
        scaled = centred / jnp.where(size > 0, size, 1.0)
        product = scaled @ scaled.T
        norm = jnp.linalg.norm(product)
        found[unit] = product / jnp.where(norm > 0, norm, 1.0)
    return found


@dataclass(frozen=True)
class Arrival:
    """When a unit arrived: `update` is nan where it did not move; `moved` is 1 - CKA of beginning and end."""

    update: float
    moved: float


def arrival(
    updates: Sequence[int], alignment: Float[np.ndarray, "times"], *, arrived: float, moved: float
) -> Arrival:
    """First update at which (CKA_t - CKA_0) / (1 - CKA_0) >= `arrived`, linear between two looks.

    Args:
      updates: when the unit was looked at, from 0 to the end.
      alignment: linear CKA with its final self at these times; the last is 1.
      moved: where 1 - CKA_0 is below this, the unit did not move: it is censored, not early.
    """
    start = float(alignment[0])
    if not np.isfinite(alignment).all() or 1 - start < moved or alignment[-1] < _SAME:
        return Arrival(float("nan"), 1 - start)
    share = (np.asarray(alignment, float) - start) / (1 - start)
    share[-1] = 1.0
    after = int(np.argmax(share >= arrived))
    before = after - 1  # share[0] is 0, so there is one
    part = (arrived - share[before]) / (share[after] - share[before])
    return Arrival(updates[before] + part * (updates[after] - updates[before]), 1 - start)


def alignments(
    seen: Sequence[dict[str, Float[np.ndarray, "replicates n n"]]],
) -> dict[str, Float[np.ndarray, "times replicates"]]:
    """Linear CKA of every unit at each time with itself at the last (Kornblith et al. 2019), per replicate.

    Zero (nothing in common) where a unit says the same of every image at one of the two times.
    """
    last = seen[-1]
    return {
        unit: np.stack(
            [np.einsum("rij,rij->r", one[unit], last[unit], dtype=np.float64) for one in seen]
        )
        for unit in last
    }
