"""Exponential moving average of the trained weights, beside the optimiser's state."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from convtl.transfer.plan import Plan


class Averaged(NamedTuple):
    """State of an optimiser whose weights are averaged.

    Attributes:
      totals: unit -> kind -> decay-weighted sums, from 0: after T updates sum over t of (1 - d) d^(T - t) w_t.
    """

    optimiser: Any
    totals: dict[str, dict[str, Any]]


def started(
    optimiser: Any, variables: Mapping[str, Any], units: Collection[str], kinds: Collection[str]
) -> Averaged:
    """Sums of zero for the units' variables of these kinds (`params`, `batch_stats`)."""
    averaged = {
        unit: {kind: variables[unit][kind] for kind in kinds if kind in variables[unit]}
        for unit in units
    }
    return Averaged(optimiser, jax.tree.map(jnp.zeros_like, averaged))


def added(
    totals: dict[str, Any], variables: Mapping[str, Any], units: Collection[str], decay: float
) -> dict[str, Any]:
    """The sums after an update of `units`; those of other units are left as they are."""
    before = {unit: totals[unit] for unit in units}
    now = {unit: {kind: variables[unit][kind] for kind in before[unit]} for unit in before}
    return totals | jax.tree.map(lambda total, w: decay * total + (1 - decay) * w, before, now)


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
