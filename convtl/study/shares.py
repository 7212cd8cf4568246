"""Which trials of a study a process runs: shares of about the same cost, the same whoever computes them.

A share is drawn from the whole study, never from what is missing, so that it stays what it is while others work.
It is no part of what a trial is or of what is recorded of a study.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from convtl.config.schema import Config
from convtl.errors import UserError
from convtl.study.grid import Trial, distinct
from convtl.study.group import trial_flops, trial_recipe
from convtl.study.materials import Materials

_A_RUN = 40_000_000
"""What a training run costs beside its updates, as arithmetic: LeNet-5 took 1.3 ms for it at 3e10 a second."""


@dataclass(frozen=True)
class Part:
    """What a process does of a study; by default all of it.

    Attributes:
      trials: ids of the trials that it runs ; None is all.
      works: whether it runs anything at all; without, it only reports what there is.
      reports: `last` leaves the report to the process that ends last.
    """

    trials: frozenset[str] | None = None
    works: bool = True
    reports: Literal["always", "last", "never"] = "always"

    def of(self, trials: Sequence[Trial]) -> list[Trial]:
        """Those of a study's trials that this process runs."""
        if not self.works:
            return []
        return [trial for trial in trials if self.trials is None or trial.id in self.trials]


ALL = Part()
REPORT = Part(frozenset(), works=False)


def check_shard(config: Config) -> None:
    """Refuses a share that there is not.

    Raises:
      UserError: `shard` is missing, or no share of `shards`.
    """
    last = config.shards - 1
    if config.shards == 1 and config.shard not in (None, 0):
        raise UserError(f"shard: got {config.shard}; accepted: with shards=N, from 0 to N-1")
    if config.shard is not None and config.shard > last:
        raise UserError(
            f"shard: got {config.shard}; accepted: 0 to {last} with shards={config.shards}"
        )
    if config.shards > 1 and config.shard is None and not config.dry_run:
        raise UserError(f"shard: missing; accepted: 0 to {last}, or -m, which makes a job of each")


def unshared(content: Mapping[str, Any]) -> dict[str, Any]:
    """A composed config without what says which share of it is run: that of the study."""
    return {**content, "shards": 1, "shard": None}


def own_trials(config: Config, trials: Sequence[Trial], materials: Materials) -> frozenset[str]:
    """Ids of the trials that a config's share holds: all of them where it has no shares."""
    if config.shards == 1 or config.shard is None:
        return frozenset(trial.id for trial in trials)
    return split(costs(trials, materials), config.shards)[config.shard]


def costs(trials: Sequence[Trial], materials: Materials) -> dict[str, int]:
    """Trial id -> its arithmetic at the rates that it tries at least, and what its runs cost beside that."""
    per_update: dict[tuple[Any, ...], int] = {}
    found = {}
    for trial in distinct(trials):
        # All that an update's arithmetic depends on; how it is found takes milliseconds, too long for every trial.
        same = (
            id(trial.settings),
            trial.model,
            trial.target,
            trial.regime,
            trial.trained_units,
            trial.updates,
        )
        if same not in per_update:
            per_update[same] = trial_flops(trial, trial_recipe(materials, trial))
        runs = len(trial.settings.lr)
        found[trial.id] = runs * (per_update[same] * trial.updates + _A_RUN)
    return found


def split(cost: Mapping[str, int], shares: int) -> list[frozenset[str]]:
    """Names in shares of about the same cost: the costliest first, each to the share with least so far.

    The largest share costs at most 4/3 - 1/(3 shares) of what the best split's would (Graham 1969, Bounds on
    multiprocessing timing anomalies). Equals go by name, so that order does not matter.
    """
    loads = [(0, index) for index in range(shares)]
    found: list[list[str]] = [[] for _ in range(shares)]
    for name in sorted(cost, key=lambda name: (-cost[name], name)):
        load, index = heapq.heappop(loads)
        found[index].append(name)
        heapq.heappush(loads, (load + cost[name], index))
    return [frozenset(names) for names in found]


def describe_shares(config: Config, trials: Sequence[Trial], materials: Materials) -> list[str]:
    """A line for each share, for a dry run; none where there is only one."""
    if config.shards == 1:
        return []
    cost = costs(trials, materials)
    whole = sum(cost.values()) or 1
    return [
        f"shard={index}: {len(names)} trials, {sum(cost[n] for n in names) / whole:.1%} of the study's cost"
        for index, names in enumerate(split(cost, config.shards))
    ]
