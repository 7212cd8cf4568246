"""Labels -> `optax.multi_transform`: each trained unit has its own transform, the rest none.

Rates are arrays: a transform is built inside the (vmapped) step around a traced rate, so that lanes with
different rates share one compiled program. Its state does not depend on the rate.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from convtl.config import OptimConfig, ScheduleConfig
from convtl.transfer.plan import FROZEN, Phase, leaf_labels


def make_transform(
    config: OptimConfig, phase: Phase, params: Mapping[str, Any], rate: Float[Array, ""] | float
) -> optax.GradientTransformation:
    """The optimiser of one phase over the `params` of a slice of units.

    Clipping looks at the gradients of trained units only: a norm over all of them would bring the whole
    backward pass back and make the clipping depend on what is frozen.
    """
    transforms: dict[str, optax.GradientTransformation] = {
        unit: optax.chain(_direction(config), optax.scale(-rate * factor))
        for unit, factor in phase.rate_factors
    }
    transforms[FROZEN] = optax.set_to_zero()
    labels = leaf_labels(phase, params)
    by_unit = optax.multi_transform(transforms, labels)
    if config.clip is None:
        return by_unit
    trained = jax.tree.map(lambda label: label != FROZEN, labels)
    return optax.chain(optax.masked(optax.clip_by_global_norm(config.clip), trained), by_unit)


def _direction(config: OptimConfig) -> optax.GradientTransformation:
    """The step for rate 1, before its sign."""
    if config.kind == "sgd":
        return optax.trace(decay=config.momentum) if config.momentum else optax.identity()
    adam = optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps)
    if config.kind == "adam" or not config.weight_decay:
        return adam
    # Biases and normalisation scales are not decayed.
    matrices = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)  # noqa: E731
    return optax.chain(adam, optax.add_decayed_weights(config.weight_decay, mask=matrices))


def carry_state(old: Any, new: Any, phase: Phase) -> Any:
    """The state at a phase's start: units that stay keep theirs, those that join start fresh.

    Args:
      old: state at the end of the phase before.
      new: fresh state of `phase`.
    """
    if phase.restart:
        return new
    kept = {
        unit: old_state
        for unit, old_state in _by_unit(old).inner_states.items()
        if unit in phase.trained and unit in _by_unit(new).inner_states
    }
    merged = _by_unit(new)._replace(inner_states={**_by_unit(new).inner_states, **kept})
    return (new[0], merged) if _is_chain(new) else merged


def _is_chain(state: Any) -> bool:
    return not hasattr(state, "inner_states")


def _by_unit(state: Any) -> Any:
    return state[1] if _is_chain(state) else state


def schedule_values(config: ScheduleConfig, phase: Phase) -> Float[np.ndarray, "updates"]:
    """The rate's multiplier (peak 1) for each update of a phase."""
    length = phase.stop - phase.first
    if config.kind == "constant":
        return np.ones(length, np.float32)
    warmup = max(1, round(config.warmup * length))
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, max(length, warmup) + 1)
    # Counted from 1, so that neither the first nor the last update is wasted on a rate of 0.
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.arange(1, length + 1)), np.float32)
