"""Nets at the start of fine-tuning: fresh, grafted from a source, controls."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convtl.models.network import Network, Variables


@partial(jax.jit, static_argnums=0)  # else a net takes dozens of small programs
def fresh_variables(network: Network, key: jax.Array) -> Variables:
    """Variables of an untrained net, with a head of zeros (Kolesnikov et al. 2020)."""
    variables = network.init(key)
    return {**variables, network.head: jax.tree.map(jnp.zeros_like, variables[network.head])}


def graft(
    network: Network, source: Variables, fresh: Variables, taken: Collection[str]
) -> Variables:
    """Return the net to fine-tune: the units `taken` of the source, and fresh ones.

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


def shuffled(variables: Variables, rng: np.random.Generator) -> Variables:
    """Control with each weight array's entries permuted, so of the same moments."""
    return _each_weight(variables, lambda leaf: rng.permutation(leaf.ravel()).reshape(leaf.shape))


def statistics_matched(variables: Variables, rng: np.random.Generator) -> Variables:
    """Control of normal weights by each array's mean and std (Raghu et al. 2019)."""
    return _each_weight(
        variables, lambda leaf: rng.normal(leaf.mean(), leaf.std(), leaf.shape).astype(leaf.dtype)
    )


def _each_weight(variables: Variables, change: Callable[[np.ndarray], np.ndarray]) -> Variables:
    """Change each array of weights; statistics (BatchNorm) are left as they are."""
    changed = {}
    for unit, kinds in variables.items():  # in this order, which is that of the draws
        params = jax.tree.map(lambda w: change(np.asarray(w)), kinds.get("params", {}))
        changed[unit] = kinds | ({"params": params} if "params" in kinds else {})
    return changed
