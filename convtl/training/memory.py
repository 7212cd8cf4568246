"""How much memory training takes, from shapes alone."""

from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from convtl.models.network import Variables
from convtl.training.lanes import one_after_another, updates_at_once
from convtl.training.recipe import Recipe
from convtl.training.step import at_a_time, held_units, init_state
from convtl.transfer.plan import Phase


def lane_bytes(recipe: Recipe) -> tuple[int, int]:
    """Bytes of one lane: what every lane has all the time, and what a lane at work has beside it.

    The first are weights, the optimiser's state and the batches of a chunk; the second what the backward pass
    keeps of the forward pass, gradients, and, where one lane after another is taken out of all, the first once
    more. Of several phases the largest. What single operations need comes on top.
    """
    network = recipe.network
    variables = {name: network.abstract_variables[name] for name in network.names[recipe.start :]}
    image = network.shape_before(recipe.start)
    batches = 4 * recipe.batch_size * (prod(image) + 1) * updates_at_once(recipe)
    there, at_work = [], []
    for phase in recipe.plan.phases:
        state = jax.eval_shape(
            lambda own, phase=phase: init_state(recipe.optim, phase, own, recipe.norm_mode),
            variables,
        )
        there.append(_bytes(variables) + _bytes(state) + batches)
        gradients = _bytes({unit: variables[unit]["params"] for unit in phase.trained})
        rows = at_a_time(
            network, recipe.start, phase, recipe.batch_size, recipe.optim, recipe.norm_mode
        )
        sums = 0 if rows == recipe.batch_size else gradients  # of the pieces that are done
        at_work.append(_kept(recipe, phase, variables, (rows, *image)) + gradients + sums)
    return max(there), max(at_work) + (max(there) if one_after_another(recipe) else 0)


def device_bytes(recipe: Recipe, lanes: int) -> int:
    """Bytes that so many lanes take on a device. Taken one after another, one is at work at a time."""
    there, at_work = lane_bytes(recipe)
    return lanes * there + (at_work if one_after_another(recipe) else lanes * at_work)


def most_lanes(recipe: Recipe, budget: float) -> int:
    """How many lanes `budget` bytes of a device hold; at least one."""
    none, one = device_bytes(recipe, 0), device_bytes(recipe, 1)
    return max(1, int((budget - none) // (one - none)))


def _kept(recipe: Recipe, phase: Phase, variables: Variables, entering: tuple[int, ...]) -> int:
    """Bytes that differentiation keeps between the forward pass and the backward pass."""
    held = held_units(phase, recipe.norm_mode)

    def kept(trained: Variables, images: jax.Array) -> Any:
        frozen = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)

        def forward(trained: Variables) -> jax.Array:
            whole = frozen | {
                unit: frozen[unit] | {"params": trained[unit]} for unit in phase.trained
            }
            logits, _, _ = recipe.network.apply(
                whole,
                images,
                start=recipe.start,
                train=phase.trained,
                held=held,
                rngs=jax.random.key(0),
            )
            return logits

        return jax.vjp(forward, trained)[1]

    trained = {unit: variables[unit]["params"] for unit in phase.trained}
    return _bytes(jax.eval_shape(kept, trained, jax.ShapeDtypeStruct(entering, jnp.float32)))


def _bytes(tree: Any) -> int:
    return sum(prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
