"""What an update costs by the algorithm: 2 x multiply-adds, the same on every platform.

XLA's own figure is another matter: a banded convolution multiplies zeros, too.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex_core

from convtl.models.network import Network
from convtl.transfer.plan import Phase, Plan


def multiply_adds(network: Network) -> dict[str, int]:
    """Unit name -> multiply-adds of its forward pass on one image.

    Counted in the traced program, so it holds for any unit. Build the network with `plain=True`:
    other forms of convolution do more arithmetic than the algorithm.
    """
    counts = {}
    for index, name in enumerate(network.names):
        x = jax.ShapeDtypeStruct((1, *network.shape_before(index)), jnp.float32)
        traced = jax.make_jaxpr(lambda v, x, i=index: network.apply(v, x, start=i, stop=i + 1)[0])(
            network.abstract_variables, x
        )
        counts[name] = _count(traced.jaxpr)
    return counts


_multiply_adds = lru_cache(32)(multiply_adds)
"""Tracing takes long, and plans are many more than nets."""


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Equations of a program and of all programs inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if isinstance(inner, jex_core.ClosedJaxpr):
                    yield from _equations(inner.jaxpr)
                elif isinstance(inner, jex_core.Jaxpr):
                    yield from _equations(inner)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in _equations(jaxpr):
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            sizes = [equation.invars[0].aval.shape[axis] for axis in contracted]
            total += int(np.prod(equation.outvars[0].aval.shape) * np.prod(sizes))
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out_axis = equation.params["dimension_numbers"].rhs_spec[0]
            per_output = int(np.prod(kernel)) // kernel[out_axis]
            total += int(np.prod(equation.outvars[0].aval.shape)) * per_output
    return total


def flops_per_update(network: Network, plan: Plan, batch_size: int, start: int) -> int:
    """Floating-point operations of one update of `batch_size` images, averaged over a plan's phases.

    Forward from unit `start` on (a cached prefix is not counted); backward through every unit above the
    lowest trained one; and the weight gradients of trained units. Parts of a batch cost together what the
    batch costs. Not counted: what costs less than a forward pass (augmentation, averages of weights) or is done
    once (`convtl.training.adapt`).
    """
    counts = _multiply_adds(network)
    total = sum(
        _phase_cost(network, counts, phase, start) * (phase.stop - phase.first)
        for phase in plan.phases
    )
    return round(2 * batch_size * total / plan.updates)


def _phase_cost(network: Network, counts: dict[str, int], phase: Phase, start: int) -> int:
    lowest = min(network.index(unit) for unit in phase.trained)
    forward = sum(counts[name] for name in network.names[start:])
    through = sum(counts[name] for name in network.names[lowest + 1 :])
    return forward + through + sum(counts[unit] for unit in phase.trained)
