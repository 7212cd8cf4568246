"""Algorithmic cost of an update: 2 x multiply-adds, the same on every platform."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex_core

from convtl.models.network import Network
from convtl.transfer.plan import Phase, Plan


@lru_cache(32)  # tracing takes long, and plans are many more than nets
def multiply_adds(network: Network) -> dict[str, int]:
    """Unit name -> multiply-adds of its forward pass on one image.

    Counted in the traced program. Build the network with `plain=True`: other forms of convolution do more
    arithmetic than the algorithm.
    """
    counts = {}
    for index, name in enumerate(network.names):
        x = jax.ShapeDtypeStruct((1, *network.shape_before(index)), jnp.float32)
        traced = jax.make_jaxpr(lambda v, x, i=index: network.apply(v, x, start=i, stop=i + 1)[0])(
            network.abstract_variables, x
        )
        counts[name] = sum(map(_of_equation, _equations(traced.jaxpr)))
    return counts


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Equations of a program and of all programs inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values())):
            if isinstance(value, jex_core.ClosedJaxpr | jex_core.Jaxpr):
                yield from _equations(getattr(value, "jaxpr", value))


def _of_equation(equation: Any) -> int:
    """Multiply-adds: outputs times the products that make one of them."""
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        per_output = np.prod([equation.invars[0].aval.shape[axis] for axis in contracted])
    elif equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        out_axis = equation.params["dimension_numbers"].rhs_spec[0]
        per_output = np.prod(kernel) // kernel[out_axis]
    else:
        return 0
    return int(np.prod(equation.outvars[0].aval.shape) * per_output)


def flops_per_update(network: Network, plan: Plan, batch_size: int, start: int) -> int:
    """Floating-point operations of one update, averaged over a plan's phases.

    Forward from unit `start` on (a cached prefix is not counted); backward through every unit above the
    lowest trained one; and the weight gradients of trained units. Augmentation and averages are not counted.
    """
    counts = multiply_adds(network)

    def cost(phase: Phase) -> int:
        lowest = min(network.index(unit) for unit in phase.trained)
        forward, through = network.names[start:], network.names[lowest + 1 :]
        return sum(counts[name] for name in (*forward, *through, *phase.trained))

    total = sum(cost(phase) * (phase.stop - phase.first) for phase in plan.phases)
    return round(2 * batch_size * total / plan.updates)
