"""Source weights to target net."""

from collections.abc import Collection
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from convtl.models.network import Network, Variables


@partial(jax.jit, static_argnums=(0, 2))  # else a net takes dozens of small programs
def fresh_variables(
    network: Network, key: jax.Array, head_init: Literal["zeros", "model"]
) -> Variables:
    """Variables of an untrained net; the head as `head_init` says (zeros: Kolesnikov et al. 2020)."""
    variables = dict(network.init(key))
    if head_init == "zeros":
        variables[network.head] = jax.tree.map(jnp.zeros_like, variables[network.head])
    return variables


def graft(
    network: Network, source: Variables, fresh: Variables, taken: Collection[str]
) -> Variables:
    """The target net at the start of fine-tuning.

    Args:
      source: variables of the pretrained net, of the same model.
      fresh: variables of the target net.
      taken: names of the units that come from the source.

    Raises:
      ValueError: a unit of the source is missing or of another shape; nothing is loaded partially.
    """
    for name in [name for name in network.names if name in taken]:
        given, expected = _shapes(source.get(name)), _shapes(fresh[name])
        if given != expected:
            raise ValueError(f"unit {name}: the source has {given}, not {expected}")
    return {name: source[name] if name in taken else fresh[name] for name in network.names}


def _shapes(variables: Any) -> Any:
    return jax.tree.map(lambda leaf: tuple(leaf.shape), variables)
