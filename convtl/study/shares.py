"""Shares of a study: sets of trials of about equal cost.

A share is drawn from the whole study, never from what is missing, so that it stays what it is while others
work. It is part neither of a trial's identity nor of a study's record.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from convtl.config.schema import Config
from convtl.errors import UserError
from convtl.study.grid import Trial, distinct
from convtl.study.group import grouped, trial_flops
from convtl.study.materials import Materials

_FLOPS_PER_RUN = 40_000_000
"""Cost of a run beside its updates: LeNet-5 took 1.3 ms for it, at 3e10 operations a second."""


@dataclass(frozen=True)
class Part:
    """What a process does of a study; by default all of it.

    Attributes:
      trials: ids of the trials that it runs; None is all.
      works: whether it runs anything; without, it only reports.
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
    """Refuse a share that does not exist.

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
    """A composed config without its share: that of the whole study."""
    return {**content, "shards": 1, "shard": None}


def own_trials(config: Config, trials: Sequence[Trial], materials: Materials) -> frozenset[str]:
    """Ids of the trials in a config's share; all of them where it has no shares."""
    if config.shards == 1 or config.shard is None:
        return frozenset(trial.id for trial in trials)
    return split(costs(trials, materials), config.shards)[config.shard]


def costs(trials: Sequence[Trial], materials: Materials) -> dict[str, int]:
    """Trial id -> operations, of its updates and beside them, at the least rates."""
    return {
        trial.id: trial_flops(trial, recipe) + _FLOPS_PER_RUN * len(trial.settings.lr)
        for recipe, group in grouped(materials, distinct(trials)).items()
        for trial in group
    }


def split(cost: Mapping[str, int], shares: int) -> list[frozenset[str]]:
    """Split names into shares of about equal cost.

    The costliest come first, each to the smallest share. The largest share costs at most 4/3 - 1/(3 shares)
    of what the best split's would (Graham 1969, Bounds on multiprocessing timing anomalies). Equals go by
    name, so that order does not matter.
    """
    loads = [(0, index) for index in range(shares)]
    names: list[list[str]] = [[] for _ in range(shares)]
    for name in sorted(cost, key=lambda name: (-cost[name], name)):
        load, index = heapq.heappop(loads)
        names[index].append(name)
        heapq.heappush(loads, (load + cost[name], index))
    return [frozenset(share) for share in names]


def describe_shares(shares: int, trials: Sequence[Trial], materials: Materials) -> list[str]:
    """A line for each share; none where there is only one."""
    if shares == 1:
        return []
    cost = costs(trials, materials)
    total = sum(cost.values()) or 1
    return [
        f"shard={index}: {len(names)} trials, {sum(cost[n] for n in names) / total:.1%} of the study's cost"
        for index, names in enumerate(split(cost, shares))
    ]
