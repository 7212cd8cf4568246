"""Source weights to target net: every unit but the head, unless told otherwise."""

from collections.abc import Collection
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from convtl.models.network import Network, Variables


def fresh_variables(
    network: Network, key: jax.Array, head_init: Literal["zeros", "model"]
) -> Variables:
    """Variables of an untrained net; the head as `head_init` says (zeros: Kolesnikov et al. 2020)."""
    variables = dict(_init(network, key))
    if head_init == "zeros":
        variables[network.head] = jax.tree.map(jnp.zeros_like, variables[network.head])
    return variables


@partial(jax.jit, static_argnums=0)
def _init(network: Network, key: jax.Array) -> Variables:
    """One compiled program; drawn operation by operation, a net takes dozens of small ones."""
    return network.init(key)


def graft(
    network: Network, source: Variables, fresh: Variables, taken: Collection[str] | None = None
) -> Variables:
    """The target net at the start of fine-tuning.

    Args:
      source: variables of the pretrained net, of the same model.
      fresh: variables of the target net.
      taken: names of the units that come from the source; None takes all but the head.

    Raises:
      ValueError: a unit of the source is missing or of another shape; nothing is loaded partially.
    """
    grafted: Variables = {}
    for name in network.names:
        if name == network.head if taken is None else name not in taken:
            grafted[name] = fresh[name]
            continue
        if name not in source or _shapes(source[name]) != _shapes(fresh[name]):
            given = _shapes(source.get(name))
            raise ValueError(f"unit {name}: the source has {given}, not {_shapes(fresh[name])}")
        grafted[name] = source[name]
    return grafted


def _shapes(variables: Any) -> Any:
    return jax.tree.map(lambda leaf: tuple(leaf.shape), variables)
