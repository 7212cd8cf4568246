"""Regime and depth -> what is trained when: a static tuple of phases.

A plan is a pure function of its arguments. Nothing is ever frozen or thawed by a hook, so a resumed run
cannot disagree with an unbroken one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from convtl.config import RegimeConfig
from convtl.errors import UserError, nearest
from convtl.models.network import Network

FROZEN = "frozen"


@dataclass(frozen=True)
class Phase:
    """A stretch of updates in which the same units are trained.

    Attributes:
      first: number of the phase's first update.
      stop: number of the first update after it.
      rate_factors: (unit, factor on the learning rate) for every trained unit; all others are frozen.
      restart: whether the optimiser starts afresh; otherwise the states of units that stay are kept.
    """

    first: int
    stop: int
    rate_factors: tuple[tuple[str, float], ...]
    restart: bool = False

    @property
    def trained(self) -> tuple[str, ...]:
        return tuple(unit for unit, _ in self.rate_factors)


@dataclass(frozen=True)
class Plan:
    """Phases, and the boundary: index of the lowest unit that is trained in any phase."""

    phases: tuple[Phase, ...]
    boundary: int

    @property
    def updates(self) -> int:
        return self.phases[-1].stop

    @property
    def trained(self) -> frozenset[str]:
        return frozenset(unit for phase in self.phases for unit in phase.trained)


def resolve_depth(network: Network, depth: int | str) -> int:
    """Number of trained weighted units that a `depth` as typed stands for.

    Args:
      depth: 1 (the head) ... number of weighted units, `all`, or the name of the lowest trained unit.

    Raises:
      UserError: no such depth in this network.
    """
    units = network.weighted
    if depth == "all":
        return len(units)
    if isinstance(depth, str) and depth in units:
        return len(units) - units.index(depth)
    if isinstance(depth, int) and 1 <= depth <= len(units):
        return depth
    raise UserError(
        f"depth: got {depth!r}; accepted: 1 to {len(units)}, all, or a unit of {', '.join(units)}."
        f"{nearest(str(depth), units) if isinstance(depth, str) else ''}"
    )


def make_plan(network: Network, regime: RegimeConfig, depth: int, updates: int) -> Plan:
    """Lays out the phases of one trial.

    Regimes: `fine_tune` trains the last `depth` weighted units at one rate; `lp_ft` first the head alone,
    then all of them, with a fresh optimiser and schedule (Kumar et al. 2022); `discriminative` divides the
    rate by `rate_factor` for each unit further down (Howard & Ruder 2018); `surgical` trains the named
    units and the fresh head (Lee et al. 2022), whatever `depth` says.

    Raises:
      UserError: `surgical` names no unit or an unknown one; `lp_ft` has too few updates for two phases.
      ValueError: `depth` is not what `resolve_depth` gives.
    """
    if regime.kind != "surgical" and not 1 <= depth <= len(network.weighted):
        raise ValueError(f"depth {depth} of {len(network.weighted)}")
    chosen = network.weighted[-depth:]
    if regime.kind == "surgical":
        chosen = _surgical_units(network, regime)
    factors = dict.fromkeys(chosen, 1.0)
    if regime.kind == "discriminative":
        factors = {unit: regime.rate_factor ** -(len(chosen) - 1 - i) for i, unit in enumerate(chosen)}
    everything = tuple(factors.items())
    if regime.kind == "lp_ft":
        turn = round(updates * regime.probe_share)
        if not 0 < turn < updates:
            raise UserError(f"updates: got {updates}; accepted with regime lp_ft: enough for two phases")
        phases: tuple[Phase, ...] = (
            Phase(0, turn, ((network.head, 1.0),)),
            Phase(turn, updates, everything, restart=True),
        )
    else:
        phases = (Phase(0, updates, everything),)
    return Plan(phases, min(network.index(unit) for unit in chosen))


def _surgical_units(network: Network, regime: RegimeConfig) -> tuple[str, ...]:
    for unit in regime.units:
        if unit not in network.weighted:
            raise UserError(
                f"regimes.*.units: got '{unit}'; accepted: {', '.join(network.weighted)}."
                f"{nearest(unit, network.weighted)}"
            )
    if not regime.units:
        raise UserError(f"regimes.*.units: got []; accepted: one or more of {', '.join(network.weighted)}")
    return tuple(unit for unit in network.weighted if unit in regime.units or unit == network.head)


def leaf_labels(phase: Phase, variables: Mapping[str, Any]) -> dict[str, Any]:
    """A label for every leaf, weights and statistics alike: its unit's name, or `frozen`.

    Raises:
      ValueError: a trained unit is not among the variables, so that its label would cover nothing; or its
        name is the label of what is frozen.
    """
    if FROZEN in phase.trained:
        raise ValueError(f"a unit named {FROZEN!r} cannot be trained")
    missing = set(phase.trained) - set(variables)
    if missing:
        raise ValueError(f"trained units without variables: {sorted(missing)}")
    trained = set(phase.trained)
    return {
        unit: jax.tree.map(lambda _, label=unit if unit in trained else FROZEN: label, own)
        for unit, own in variables.items()
    }
