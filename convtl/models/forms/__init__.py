"""Convolutions in forms that are fast on a CPU, and their common parts.

The gradient of a matrix product here has the same bits whatever the number of threads.
"""

import jax
from jaxtyping import Array, Float

Sides = tuple[tuple[int, int], tuple[int, int]]
"""Zeros around an image: (above, below), (left, right)."""


@jax.custom_vjp
def row_product(
    rows: Float[Array, "rows in"], weights: Float[Array, "in out"]
) -> Float[Array, "rows out"]:
    """Multiply many rows by a matrix; only reverse-mode differentiation is possible."""
    return rows @ weights


def sum_of_outer_products(
    rows: Float[Array, "*places rows in"], others: Float[Array, "*places rows out"]
) -> Float[Array, "*places in out"]:
    """Return `rows.T @ others` for each place.

    XLA on CPU hands a product of a transpose to Eigen, which cuts a long sum into as many parts as there are threads.
    So the narrower operand is transposed in memory; barriers keep XLA from folding that into the product (JAX 0.12).
    """
    narrow, wide = (others, rows) if others.shape[-1] <= rows.shape[-1] else (rows, others)
    in_memory = jax.lax.optimization_barrier(narrow.swapaxes(-1, -2))
    product = jax.lax.optimization_barrier(in_memory @ wide)
    return product.swapaxes(-1, -2) if narrow is others else product


def _forward(rows: Array, weights: Array) -> tuple[Array, tuple[Array, Array]]:
    return rows @ weights, (rows, weights)


def _backward(saved: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    rows, weights = saved
    return cotangent @ weights.T, sum_of_outer_products(rows, cotangent)


row_product.defvjp(_forward, _backward)
