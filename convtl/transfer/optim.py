"""Labels to `optax.multi_transform`: a transform for each trained unit, zeros for frozen ones.

Rates are arrays: a transform is built inside the (vmapped) step around a traced rate, so that runs with different
rates share one compiled program. Its state does not depend on the rate.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from convtl.config.training import OptimConfig, ScheduleConfig
from convtl.transfer.average import Averaged
from convtl.transfer.penalty import l2_sp
from convtl.transfer.plan import FROZEN, Phase, leaf_labels


def make_transform(
    config: OptimConfig, phase: Phase, params: Mapping[str, Any], rate: Float[Array, ""] | float
) -> optax.GradientTransformation:
    """The optimiser of one phase over the `params` of a slice of units.

    In order: the penalties' gradients are added, the trained units' gradients clipped, each unit's step made.
    Clipping looks at the gradients of trained units only: a norm over all of them would bring the whole
    backward pass back and make the clipping depend on what is frozen.
    """
    transforms: dict[str, optax.GradientTransformation] = {
        unit: optax.chain(_direction(config), optax.scale(-rate * factor))
        for unit, factor in phase.rate_factors
    }
    transforms[FROZEN] = optax.set_to_zero()
    labels = leaf_labels(phase, params)
    parts = [optax.multi_transform(transforms, labels)]
    if config.clip is not None:
        trained = jax.tree.map(lambda label: label != FROZEN, labels)
        parts.insert(0, optax.masked(optax.clip_by_global_norm(config.clip), trained))
    if phase.to_start or phase.to_zero:
        parts.insert(0, l2_sp(phase.to_start, phase.to_zero))
    chained = optax.chain(*parts)

    def update(
        gradients: Any, state: optax.OptState, params: Any = None
    ) -> tuple[Any, optax.OptState]:
        with jax.numpy_dtype_promotion("standard"):  # optax mixes floats with integer counts
            return chained.update(gradients, state, params)

    return optax.GradientTransformation(chained.init, update)


def _direction(config: OptimConfig) -> optax.GradientTransformation:
    """The step for rate 1, before its sign."""
    if config.kind == "sgd":
        return optax.trace(decay=config.momentum) if config.momentum else optax.identity()
    adam = optax.scale_by_adam()
    if config.kind == "adam" or not config.weight_decay:
        return adam
    # Biases and normalisation scales are not decayed.
    matrices = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)  # noqa: E731
    return optax.chain(adam, optax.add_decayed_weights(config.weight_decay, mask=matrices))


def carry_state(old: Any, new: Any, phase: Phase) -> Any:
    """The state at a phase's start: units that stay keep theirs, those that join start fresh.

    Averages are kept even when the optimiser starts afresh.

    Args:
      old: state at the end of the phase before.
      new: fresh state of `phase`.
    """
    if isinstance(new, Averaged):
        return Averaged(carry_state(old.optimiser, new.optimiser, phase), new.totals | old.totals)
    if phase.restart:
        return new
    *others, units = new
    staying = {
        unit: old[-1].inner_states[unit] for unit in phase.trained if unit in old[-1].inner_states
    }
    return (*others, units._replace(inner_states=units.inner_states | staying))


@lru_cache(maxsize=256)  # each call would compile a program anew
def _warmup_cosine(length: int, warmup: int) -> Float[np.ndarray, "updates"]:
    """Multipliers counted from 1, so that no update has rate 0."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, max(length, warmup) + 1)
    values = np.array(
        jax.jit(jax.vmap(schedule))(jnp.arange(1, length + 1, dtype=jnp.float32)), np.float32
    )
    values.flags.writeable = False
    return values


def schedule_values(config: ScheduleConfig, phase: Phase) -> Float[np.ndarray, "updates"]:
    """The rate's multiplier (peak 1) for each update of a phase; every phase warms up and decays anew.

    >>> schedule_values(ScheduleConfig(kind="constant"), Phase(10, 13, ()))
    array([1., 1., 1.], dtype=float32)
    """
    length = phase.stop - phase.first
    if config.kind == "constant":
        return np.ones(length, np.float32)
    warmup = max(1, round(config.warmup * length))
    if config.kind == "staircase":
        done = np.arange(1, length + 1)
        decays = sum((10 * (done - 1) >= tenths * length).astype(int) for tenths in (3, 6, 9))
        return (np.minimum(1, done / warmup) * 0.1**decays).astype(np.float32)
    return _warmup_cosine(length, warmup)
