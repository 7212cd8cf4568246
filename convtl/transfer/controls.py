"""Control nets: what is left of a pretrained net when one thing that it has is taken away.

- `shuffled`: every array keeps its values but not their places, so that nothing that was learned about the
  images is left, while every moment of the weights is (Neyshabur et al. 2020 shuffle the input instead).
- `statistics`: fresh Gaussian weights with each array's mean and standard deviation (Raghu et al. 2019).
- `rescaled`: another net whose units are scaled until their outputs are as large as the source's, so that a
  net is not told from the source by saturation alone (Maennel et al. 2020).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from convtl.models.network import Network, Variables

_BISECTIONS = 40
_LARGEST_FACTOR = 2.0**10


def shuffled(variables: Variables, rng: np.random.Generator) -> Variables:
    """Each array of weights with its entries permuted; statistics (BatchNorm) are left as they are."""
    return _each_weight(variables, lambda leaf: rng.permutation(leaf.ravel()).reshape(leaf.shape))


def statistics_matched(variables: Variables, rng: np.random.Generator) -> Variables:
    """Each array of weights drawn anew from a normal distribution with its mean and standard deviation."""
    return _each_weight(
        variables, lambda leaf: rng.normal(leaf.mean(), leaf.std(), leaf.shape).astype(leaf.dtype)
    )


def _each_weight(variables: Variables, change: Any) -> Variables:
    def new(own: dict[str, Any]) -> dict[str, Any]:
        return own | {"params": jax.tree.map(lambda leaf: change(np.asarray(leaf)), own["params"])}

    return {unit: new(own) if "params" in own else own for unit, own in variables.items()}


def rescaled(
    network: Network, variables: Variables, reference: Variables, images: Float[np.ndarray, "n ..."]
) -> Variables:
    """`variables` with each unit's weights scaled by one factor, found from the first unit upwards, so that
    the root mean square of the unit's output is that of the same unit in `reference`.

    The head is left alone: it is replaced anyway. A factor is sought between 2^-10 and 2^10; where an
    activation saturates below the reference's size, or normalisation undoes the scaling, the nearest is kept.

    Args:
      images: standardised; the reference sees the same.
    """
    x, wanted = jnp.asarray(images), jnp.asarray(images)
    result: Variables = {}
    for index, name in enumerate(network.names):
        wanted = network.apply(reference, wanted, start=index, stop=index + 1)[0]
        own = variables[name]
        if "params" in own and name != network.head:
            own = own | {"params": _scaled(network, index, own, x, float(_rms(wanted)))}
        result[name] = own
        x = network.apply(result, x, start=index, stop=index + 1)[0]
    return jax.tree.map(np.asarray, result)


def _scaled(network: Network, index: int, own: dict[str, Any], x: jax.Array, wanted: float) -> Any:
    name = network.names[index]

    @jax.jit
    def size(factor: jax.Array) -> jax.Array:
        changed = own | {"params": jax.tree.map(lambda leaf: leaf * factor, own["params"])}
        return _rms(network.apply({name: changed}, x, start=index, stop=index + 1)[0])

    low, high = 1 / _LARGEST_FACTOR, _LARGEST_FACTOR
    for _ in range(_BISECTIONS):
        middle = float(np.sqrt(low * high))
        if float(size(jnp.float32(middle))) < wanted:
            low = middle
        else:
            high = middle
    factor = np.float32(np.sqrt(low * high))
    return jax.tree.map(lambda leaf: np.asarray(leaf) * factor, own["params"])


def _rms(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(x)))
