"""Run what is missing of a study; safe to kill, and to run in several processes."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from convtl.errors import UserError
from convtl.models.network import Variables
from convtl.runtime.processes import (
    broadcast_from_primary,
    is_distributed,
    is_primary,
    obey_together,
)
from convtl.runtime.stopping import Stopped
from convtl.secrets import redacted
from convtl.study.grid import Trial, distinct
from convtl.study.group import Group, Watcher, grouped, trial_flops
from convtl.study.locks import TrialLocks
from convtl.study.materials import Materials
from convtl.study.measurements.movement import measure_movement
from convtl.study.nets import net_name, save_net
from convtl.study.store import CHECKPOINTS, RowStore
from convtl.study.summary import describe
from convtl.training.checkpoints import Checkpoints
from convtl.training.runs import Recipe

_POLL_SECONDS = 0.5
"""Time between looks whether other processes have finished what they locked."""


@dataclass
class Outcome:
    """Number of trials that were run, and a reason for each that failed."""

    ran: int = 0
    failed: list[str] = field(default_factory=list)


def unfinished(points: Sequence[Trial], store: RowStore, nets: Path | None = None) -> list[Trial]:
    """Trials without a final row, or that lack a measurement or a net; each once."""
    finished = store.finished()
    rows = store.read() if any("movement" in trial.settings.measure for trial in points) else {}

    def complete(trial: Trial) -> bool:
        if trial.id not in finished or trial.id in store.diverged:
            return trial.id in finished
        if "movement" in trial.settings.measure and not rows[trial.id].get("moved"):
            return False
        return nets is None or (nets / net_name(trial)).exists()

    return [trial for trial in distinct(points) if not complete(trial)]


def run_trials(
    trials: Sequence[Trial],
    store: RowStore,
    materials: Materials,
    watcher: Watcher,
    nets: Path | None = None,
) -> Outcome:
    """Run the trials that no process has finished yet.

    Args:
      nets: folder for the tuned nets, one folder a trial; None saves none.

    Raises:
      UserError: a folder cannot be written, or the data do not suffice (see `Materials.check`).
    """
    runner = _Runner(store, materials, watcher, nets)
    missing = runner.open(trials)
    if missing:
        minutes = missing[0].settings.checkpoint_minutes
        runner.prepare(missing, minutes)
        groups = grouped(materials, missing)
        watcher.expect(
            sum(trial_flops(trial, recipe) for recipe in groups for trial in groups[recipe])
        )
        with (
            closing(Checkpoints(store.out / CHECKPOINTS, minutes, watcher.say)) as checkpoints,
            closing(TrialLocks(store.out)) as locks,
        ):
            if is_primary():
                checkpoints.sweep(store.finished())
            runner.run(groups, checkpoints, locks)
    return runner.outcome


class _Runner:
    """Runs groups of trials, and writes their rows."""

    _checkpoints: Checkpoints
    _locks: TrialLocks

    def __init__(
        self, store: RowStore, materials: Materials, watcher: Watcher, nets: Path | None
    ) -> None:
        self._store, self._materials, self._watcher, self._nets = store, materials, watcher, nets
        self.outcome = Outcome()
        self._given_up: set[str] = set()

    def open(self, trials: Sequence[Trial]) -> list[Trial]:
        """Trials that are neither finished by any process nor given up by this one."""
        missing = broadcast_from_primary(
            lambda: [t.id for t in unfinished(trials, self._store, self._nets)]
        )
        by_id = {trial.id: trial for trial in trials}
        return [by_id[name] for name in missing if name not in self._given_up]

    def prepare(self, trials: Sequence[Trial], checkpoint_minutes: float | None) -> None:
        """Pretrain or load the source nets of the trials."""

        def on_ready(ready: int, of: int) -> None:
            self._watcher.working_on(f"pretraining source nets ({ready} of {of} ready)")

        self._watcher.working_on("preparing images")
        folder = self._materials.cache.root / CHECKPOINTS
        with closing(Checkpoints(folder, checkpoint_minutes, self._watcher.say)) as checkpoints:
            self._materials.sources.prepare(trials, on_ready, checkpoints)

    def run(
        self, groups: Mapping[Recipe, Sequence[Trial]], checkpoints: Checkpoints, locks: TrialLocks
    ) -> None:
        """Pass over the groups until every trial is finished, here or by another process."""
        self._checkpoints, self._locks = checkpoints, locks
        while any(self.open(trials) for trials in groups.values()):
            before = self.outcome.ran + len(self.outcome.failed)
            for recipe, trials in groups.items():
                self._run_group(recipe, trials)
            if self.outcome.ran + len(self.outcome.failed) == before:
                self._watcher.working_on("waiting for trials that other processes are running")
                time.sleep(_POLL_SECONDS)
                obey_together()

    def _locked(self, trials: Sequence[Trial]) -> Iterator[Trial]:
        """Lock the open trials one by one, each when it is asked for."""
        for trial in self.open(trials):
            if broadcast_from_primary(partial(self._lock, trial)):
                yield trial

    def _lock(self, trial: Trial) -> bool:
        if not self._locks.take(trial.id):
            return False
        # Another process may have finished it between the look and the lock.
        if unfinished([trial], self._store, self._nets):
            return True
        self._locks.release([trial.id])
        return False

    def _run_group(self, recipe: Recipe, trials: Sequence[Trial]) -> None:
        locked = self._locked(trials)
        first = next(locked, None)
        if first is None:
            return
        self._watcher.working_on(f"{first.model}, depth {first.depth} ({first.depth_unit})")
        group = None
        try:
            group = Group(recipe, self._materials, self._checkpoints, self._watcher)
            for trial, row, net in group.run(chain([first], locked)):
                self._write(trial, row, net, trial_flops(trial, recipe))
        except (KeyboardInterrupt, SystemExit) as error:
            if group is not None:
                group.save()
            signal = f" ({error})" if isinstance(error, Stopped) else ""
            self._give_up(_in_flight(group, first), "interrupted", f"stopped from outside{signal}")
            raise
        except UserError:
            raise
        except Exception as error:
            self._handle_failure(recipe, _in_flight(group, first), error)
            if is_distributed():  # the others cannot end the update that they are in
                raise

    def _handle_failure(self, recipe: Recipe, in_flight: Sequence[Trial], error: Exception) -> None:
        """Try each trial of a failed batch alone; give up a single one."""
        if len(in_flight) > 1 and not is_distributed():
            self._locks.release([trial.id for trial in in_flight])
            for trial in in_flight:
                self._run_group(recipe, [trial])
        else:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            status = "interrupted" if is_distributed() else "failed"
            self._give_up(in_flight, status, redacted(reason))

    def _write(
        self, trial: Trial, row: dict[str, Any], net: Variables | None, flops: float
    ) -> None:
        self.outcome.ran += 1
        if not is_primary():
            return
        if net is not None and "movement" in trial.settings.measure:
            row["moved"] = measure_movement(self._store.out, trial, self._materials, net)
        if net is not None and self._nets is not None:
            levels = self._materials.domain(trial.settings, trial.target).levels
            save_net(self._nets, trial, self._materials.network(trial), net, row, levels)
        # Else only its net was missing.
        if "moved" in row or trial.id not in self._store.finished():
            self._store.append(row)
        self._checkpoints.remove(trial.id)
        self._locks.release([trial.id])
        self._watcher.trial(row, flops)

    def _give_up(self, trials: Sequence[Trial], status: str, reason: str) -> None:
        for trial in trials:
            if is_primary():
                self._store.append(describe(trial) | {"status": status, "reason": reason})
            self._given_up.add(trial.id)
            self.outcome.failed.append(reason)
        self._locks.release([trial.id for trial in trials])


def _in_flight(group: Group | None, first: Trial) -> list[Trial]:
    """Trials that a group has begun; at least the first, which was locked for it."""
    return (group.in_flight if group is not None else []) or [first]
