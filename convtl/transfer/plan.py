"""Phases of a trial by regime and depth; labels of leaves by phase.

A plan is a pure function of its arguments, so a resumed run cannot disagree with an unbroken one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import jax

from convtl.config.training import RegimeConfig
from convtl.errors import UserError, nearest
from convtl.models.network import Network

FROZEN = "frozen"
FIRST = "first"  # In `units` of a surgical regime: the lowest unit with weights, whatever its name.

Strengths = tuple[tuple[str, float], ...]  # (unit, strength of its penalty)


@dataclass(frozen=True)
class Phase:
    """Consecutive updates, `first` to `stop` - 1, in which the same units are trained."""

    first: int
    stop: int
    rate_factors: tuple[tuple[str, float], ...]  # on the rate, of trained units; others are frozen
    restart: bool = False  # of the optimiser; else units that stay keep their state
    to_start: Strengths = ()  # alpha/2 ||w - w0||^2 is added to the loss, w0 where the unit started
    to_zero: Strengths = ()  # and beta/2 ||w||^2

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

    @cached_property
    def trained(self) -> frozenset[str]:
        return frozenset(unit for phase in self.phases for unit in phase.trained)


def resolve_depth(network: Network, depth: int | str) -> int:
    """Number of trained weighted units for a `depth` as typed.

    Args:
      depth: 1 (the head) ... number of weighted units; `all`; the name of the lowest trained unit, or of its stage
        (`stage3` of `stage3_...`).

    Raises:
      UserError: no such depth in this network.
    """
    units = network.weighted
    stage_of = {unit: unit.partition("_")[0] for unit in units if "_" in unit}
    if depth == "all":
        return len(units)
    if isinstance(depth, str):
        lowest = next((unit for unit in units if depth in (unit, stage_of.get(unit))), None)
        if lowest is not None:
            return len(units) - units.index(lowest)
    elif 1 <= depth <= len(units):
        return depth
    stages = tuple(dict.fromkeys(stage_of.values()))
    names = f"a stage of {', '.join(stages)}, or a unit" if stages else "a unit"
    close = nearest(depth, (*units, *stages)) if isinstance(depth, str) else ""
    raise UserError(
        f"depth: got {depth!r}; accepted: 1 to {len(units)}, all, or {names} of {', '.join(units)}.{close}"
    )


def make_plan(network: Network, regime: RegimeConfig, depth: int, updates: int) -> Plan:
    """Return the phases of a trial: `updates` over its last `depth` weighted units.

    - `fine_tune` trains them at one rate.
    - `lp_ft` trains first the head alone, then all of them, with a fresh optimiser (Kumar et al. 2022).
    - `gradual` trains the head alone, then one more unit in each of `depth` equal phases (Howard & Ruder 2018).
      Units that stay keep their optimiser state, those that join start fresh.
    - `discriminative` divides the rate by `rate_factor` for each unit further down (Howard & Ruder 2018).
    - `l2_sp` penalises each unit's distance from its start, and the head's from 0 (Li et al. 2018).
    - `surgical` trains, whatever `depth` says, the named units (Lee et al. 2022) and, with `head`, the head.

    Every phase has its own schedule (`optim.schedule_values`), as in ULMFiT's published code.

    Raises:
      UserError: `surgical` names no unit, an unknown one, or the head although it is kept; too few updates.
      ValueError: `depth` is not what `resolve_depth` gives.
    """
    if regime.kind == "surgical":
        chosen = _surgical_units(network, regime)
    elif 1 <= depth <= len(network.weighted):
        chosen = network.weighted[-depth:]
    else:
        raise ValueError(f"depth {depth} of {len(network.weighted)}")
    phases = _phases(network.head, regime, chosen, updates)
    return Plan(phases, min(network.index(unit) for unit in chosen))


def _phases(
    head: str, regime: RegimeConfig, chosen: tuple[str, ...], updates: int
) -> tuple[Phase, ...]:
    """Phases over the chosen units, with a factor on each unit's rate."""
    count = len(chosen)
    falling = regime.rate_factor if regime.kind == "discriminative" else 1.0
    factors = tuple((unit, falling ** -(count - 1 - i)) for i, unit in enumerate(chosen))
    if regime.kind == "lp_ft":
        turn = round(updates * regime.probe_share)
        if not 0 < turn < updates:
            raise UserError(
                f"updates: got {updates}; accepted with regime lp_ft: enough for two phases"
            )
        return Phase(0, turn, factors[-1:]), Phase(turn, updates, factors, restart=True)
    if regime.kind == "gradual":
        if updates < count:
            raise UserError(
                f"updates: got {updates}; accepted with regime gradual: at least {count}, one for each unit"
            )
        bounds = [updates * number // count for number in range(count + 1)]
        return tuple(
            Phase(first, stop, factors[count - number :])
            for number, (first, stop) in enumerate(pairwise(bounds), start=1)
        )
    if regime.kind == "l2_sp":
        to_start = tuple((unit, regime.alpha) for unit in chosen if unit != head)
        return (Phase(0, updates, factors, to_start=to_start, to_zero=((head, regime.beta),)),)
    return (Phase(0, updates, factors),)


def _surgical_units(network: Network, regime: RegimeConfig) -> tuple[str, ...]:
    units = network.weighted
    accepted = (*(units if regime.head else units[:-1]), FIRST)
    unknown = [unit for unit in regime.units if unit not in accepted]
    if unknown or not regime.units:
        close = nearest(unknown[0], accepted) if unknown else ""
        raise UserError(
            f"regimes.*.units: got {unknown}; accepted: some of {', '.join(accepted)}.{close}"
        )
    named = {units[0] if unit == FIRST else unit for unit in regime.units}
    return tuple(unit for unit in units if unit in named or (unit == network.head and regime.head))


def leaf_labels(phase: Phase, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Label of every leaf, weights and statistics: its unit's name, or `frozen`.

    Raises:
      ValueError: a trained unit is not among the variables, or is named like the label of frozen leaves.

    >>> leaf_labels(Phase(0, 10, (("fc", 1.0),)), {"conv": {"params": 0}, "fc": {"params": 0}})
    {'conv': {'params': 'frozen'}, 'fc': {'params': 'fc'}}
    """
    if FROZEN in phase.trained:
        raise ValueError(f"a unit named {FROZEN!r} cannot be trained")
    trained = set(phase.trained)
    if missing := trained - set(variables):
        raise ValueError(f"trained units without variables: {sorted(missing)}")
    return {
        unit: jax.tree.map(lambda _, label=unit if unit in trained else FROZEN: label, leaves)
        for unit, leaves in variables.items()
    }
