"""Optimiser of a phase: a transform for each trained unit, zeros for frozen ones.

Rates are arrays: a transform is built inside the (vmapped) step around a traced rate, so that runs with different
rates share one compiled program. Its state does not depend on the rate.
"""

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from convtl.config.training import OptimConfig, ScheduleConfig
from convtl.transfer.plan import FROZEN, Phase, Plan, Strengths, leaf_labels


def make_transform(
    config: OptimConfig, phase: Phase, params: Mapping[str, Any], rate: Float[Array, ""] | float
) -> optax.GradientTransformation:
    """The optimiser of one phase over the `params` of a slice of units.

    In order: the penalties' gradients are added, the trained units' gradients clipped, each unit's step made.
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
            steps: tuple[Any, optax.OptState] = chained.update(gradients, state, params)
            return steps

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


def warmup_cosine(length: int, warmup: int) -> optax.Schedule:
    """The multiplier at updates counted from 1, so that none has rate 0."""
    return optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, max(length, warmup) + 1)


@lru_cache(maxsize=256)  # each call would compile a program anew
def _warmup_cosine(length: int, warmup: int) -> Float[np.ndarray, "updates"]:
    schedule = jax.jit(jax.vmap(warmup_cosine(length, warmup)))
    values = np.array(schedule(jnp.arange(1, length + 1, dtype=jnp.float32)), np.float32)
    values.flags.writeable = False
    return values


def schedule_values(config: ScheduleConfig, phase: Phase) -> Float[np.ndarray, "updates"]:
    """Multiplier of the rate (peak 1) for each update of a phase.

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


# --- L2-SP ---------------------------------------------------------------------------------


class Anchors(NamedTuple):
    """State of `l2_sp`: the starting weights of each unit in `to_start`."""

    weights: dict[str, Any]


def l2_sp(to_start: Strengths, to_zero: Strengths) -> optax.GradientTransformation:
    """Add the gradient of L2-SP's penalty (Li, Grandvalet & Davoine 2018).

    The penalty is alpha/2 ||w - w0||^2 over the weights and biases of each unit in `to_start`, whose w0 are
    given to `init`, and beta/2 ||w||^2 over those in `to_zero`. It is not decoupled: Adam rescales it.

    >>> penalty = l2_sp(to_start=(("fc", 0.5),), to_zero=())
    >>> state = penalty.init({"fc": jnp.array([1.0])})
    >>> penalty.update({"fc": jnp.array([0.0])}, state, {"fc": jnp.array([3.0])})[0]
    {'fc': Array([1.], dtype=float32)}
    """

    def init(params: dict[str, Any]) -> Anchors:
        anchored = {unit: params[unit] for unit, _ in to_start}
        return Anchors(jax.tree.map(jnp.copy, anchored))  # one buffer cannot be donated twice

    def update(
        gradients: dict[str, Any], state: Anchors, params: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], Anchors]:
        if params is None:
            raise ValueError("a penalty on the weights needs the weights")
        sums = dict(gradients)
        for unit, alpha in to_start:
            anchored = (gradients[unit], params[unit], state.weights[unit])
            sums[unit] = jax.tree.map(lambda g, w, w0, a=alpha: g + a * (w - w0), *anchored)
        for unit, beta in to_zero:
            sums[unit] = jax.tree.map(lambda g, w, b=beta: g + b * w, gradients[unit], params[unit])
        return sums, state

    return optax.GradientTransformation(init, update)


# --- state from phase to phase, and averages of weights beside it --------------------------


class Averaged(NamedTuple):
    """State of an optimiser whose weights are averaged.

    Attributes:
      totals: unit -> kind -> decay-weighted sums, from 0: after T updates sum over t of (1 - d) d^(T - t) w_t.
    """

    optimiser: Any
    totals: dict[str, dict[str, Any]]


def start_averages(
    optimiser: Any, variables: Mapping[str, Any], units: Collection[str], kinds: Collection[str]
) -> Averaged:
    """Zero sums for the units' variables of these kinds (`params`, `batch_stats`)."""
    averaged = {
        unit: {kind: variables[unit][kind] for kind in kinds if kind in variables[unit]}
        for unit in units
    }
    return Averaged(optimiser, jax.tree.map(jnp.zeros_like, averaged))


def add_to_averages(
    totals: dict[str, Any], variables: Mapping[str, Any], units: Collection[str], decay: float
) -> dict[str, Any]:
    """Return the sums after an update of `units`; those of others stay."""
    before = {unit: totals[unit] for unit in units}
    now = {unit: {kind: variables[unit][kind] for kind in before[unit]} for unit in before}
    sums = jax.tree.map(lambda total, w: decay * total + (1 - decay) * w, before, now)
    return {**totals, **sums}


def carry_state(old: Any, new: Any, phase: Phase) -> Any:
    """State at a phase's start: averages and staying units keep theirs, else fresh."""
    if isinstance(new, Averaged):
        return Averaged(carry_state(old.optimiser, new.optimiser, phase), new.totals | old.totals)
    if phase.restart:
        return new
    *others, units = new
    staying = {
        unit: old[-1].inner_states[unit] for unit in phase.trained if unit in old[-1].inner_states
    }
    return (*others, units._replace(inner_states=units.inner_states | staying))


def averages(
    totals: Mapping[str, Any], plan: Plan, decay: float, done: int
) -> dict[str, dict[str, Any]]:
    """Unit -> kind -> averages: the sums divided by those of their weights.

    Kingma & Ba 2015, section 3. A unit's average is over those of the first `done` updates in which it was trained.
    """
    means = {}
    for unit, sums in totals.items():
        phases = [phase for phase in plan.phases if unit in phase.trained]
        updates = sum(max(0, min(phase.stop, done) - phase.first) for phase in phases)
        weight = np.float32(1 - decay**updates)
        means[unit] = jax.tree.map(lambda total, by=weight: np.asarray(total) / by, sums)
    return means
