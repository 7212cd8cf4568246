"""A study and its running: safe to kill, and to run in several processes."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path

from convtl.config.schema import Config
from convtl.errors import UserError, redacted
from convtl.models.network import Variables
from convtl.runtime.backend import broadcast_from_primary, is_distributed, is_primary, obey_together
from convtl.runtime.stopping import Stopped
from convtl.storage.cache import Cache
from convtl.study.active import describe
from convtl.study.grid import Trial, distinct
from convtl.study.group import Group, grouped, run_count, trial_flops, update_flops
from convtl.study.materials import Materials
from convtl.study.measurements import measure_movement, measure_similarity
from convtl.study.nets import net_name, save_net
from convtl.study.rows import Row, Status
from convtl.study.store import RowStore, TrialLocks
from convtl.study.watcher import Watcher
from convtl.training.checkpoints import CHECKPOINTS, Checkpoints
from convtl.training.devices import chosen_layout
from convtl.training.pretrain import KIND, SourceRequest, source_recipe
from convtl.training.probes import run_gradients
from convtl.training.runs import Recipe

_ASSUMED_FLOPS = 2.5e10
"""A second, where no row tells: LeNet-5 on 2 cores ran at 2 to 5e10 (batch 32, 8 runs)."""


def unfinished(points: Sequence[Trial], store: RowStore, nets: Path | None = None) -> list[Trial]:
    """Trials that lack a final row, a measurement or a net; each once."""
    finished = store.finished()

    def complete(trial: Trial) -> bool:
        status = finished.get(trial.id)
        if "movement" in trial.settings.measure and status == "done":
            return False
        return status == "diverged" or (
            status is not None and (nets is None or (nets / net_name(trial)).exists())
        )

    return [trial for trial in distinct(points) if not complete(trial)]


class Study:
    """A set of trials, as `convtl.study.grid.expand` returns them, in one folder.

    Attributes:
      part: ids of the trials that this process runs without a report; empty: it reports and runs none; None: it runs
        all, and reports.
      scope: the trials that this process runs, each once.
      say: takes a line about slow work; silent until it is set.
      nets: folder of tuned nets; None where none are saved.
    """

    def __init__(
        self,
        config: Config,
        trials: Sequence[Trial],
        out: Path,
        cache: Cache,
        part: frozenset[str] | None = None,
    ) -> None:
        self.config, self.trials, self.part, self.cache = config, list(trials), part, cache
        self.scope = distinct([t for t in trials if part is None or t.id in part])
        self.store = RowStore(out)
        self.nets = out / "nets" if config.save == "best" else None
        self.say: Callable[[str], None] = lambda line: None
        self.materials = Materials(cache, lambda line: self.say(line))

    @property
    def only_reports(self) -> bool:
        """Return whether other processes run the trials, and this one runs none."""
        return self.part == frozenset()

    def unfinished(self) -> list[Trial]:
        """Trials of this process's scope that are still to be run, each once."""
        return unfinished(self.scope, self.store, self.nets)

    def check(self) -> None:
        """Raise a UserError for trials whose data do not suffice, before training."""
        self.materials.check(self.unfinished())

    def run(self, watcher: Watcher) -> "Runner":
        """Run the trials of this process's scope that no process has finished yet."""
        self.say = watcher.working_on
        runner = Runner(self, watcher)
        missing = runner.open(self.scope)
        if not missing:
            return runner
        minutes, materials = missing[0].settings.checkpoint_minutes, self.materials
        self.say("preparing images")
        with closing(Checkpoints(self.cache.root / CHECKPOINTS, minutes, watcher.say)) as of_nets:
            materials.prepare(missing, of_nets)
        groups = grouped(materials, missing)
        watcher.expect(sum(trial_flops(t, recipe) for recipe in groups for t in groups[recipe]))
        folder = self.store.out / CHECKPOINTS
        with (
            closing(Checkpoints(folder, minutes, watcher.say)) as runner.checkpoints,
            closing(TrialLocks(self.store.out)) as runner.locks,
        ):
            if is_primary():
                runner.checkpoints.sweep(self.store.finished())
            runner.run(groups)
        return runner

    def measure(self) -> None:
        """Take missing measurements of the whole study; call on all processes."""
        if "gradients" in self.config.measure and is_primary():
            run_gradients(self.config, self.store.out, self.cache, self.say)
        if "distances" in self.config.measure:
            measure_similarity(self.trials, self.materials, self.store.out, self.say)

    def plan(self) -> list[str]:
        """Describe trials, programs, cost, what is done or cached, and expected time."""
        self.check()
        missing, total = self.unfinished(), len(self.scope)
        groups = grouped(self.materials, missing)
        for recipe in groups:
            chosen_layout().check(recipe.batch_size)
        requests = map(self.materials.request, missing)
        nets = {request.key: request for request in requests if isinstance(request, SourceRequest)}
        new = [net for key, net in nets.items() if not self.cache.path(KIND, key).exists()]
        before = sum(update_flops(source_recipe(net)) * net.recipe.updates for net in new)
        flops = sum(trial_flops(t, recipe) for recipe in groups for t in groups[recipe])
        rows = self.store.read()
        timed = [(t, rows[t.id]) for t in self.trials if "seconds" in rows.get(t.id, {})]
        seconds = sum(row["seconds"] for _, row in timed)
        done = sum(row["flops_per_update"] * t.updates * run_count(t) for t, row in timed)
        # Rates that grids were extended by make the measured speed lower.
        speed, origin = (
            (done / seconds, "measured in this folder's rows")
            if seconds
            else (_ASSUMED_FLOPS, "assumed")
        )
        minutes = (flops + before) / speed / 60
        duration = f"{minutes:.1f} min" if minutes < 120 else f"{minutes / 60:.1f} hours"
        return [
            f"{total} trials: {total - len(missing)} done, {len(missing)} to run, in {self.store.out}",
            f"{len(groups)} compiled programs, {sum(map(run_count, missing))} training runs at least",
            f"{len(nets)} source nets: {len(nets) - len(new)} cached, {len(new)} to train",
            f"{flops:.3g} floating-point operations in training, {before:.3g} in pretraining",
            f"about {duration} at {speed:.2g} a second ({origin})",
        ]


class Runner:
    """Running of a study's trials: number `ran`, and a reason for each `failed`."""

    checkpoints: Checkpoints
    locks: TrialLocks

    def __init__(self, study: Study, watcher: Watcher) -> None:
        self._study, self._store, self._watcher = study, study.store, watcher
        self.ran, self.failed = 0, list[str]()
        self._given_up: set[str] = set()
        self._in_flight: dict[str, Trial] = {}  # locked, and without a row

    def open(self, trials: Sequence[Trial]) -> list[Trial]:
        """Trials that are neither finished by any process nor given up by this one."""
        missing = broadcast_from_primary(
            lambda: [t.id for t in unfinished(trials, self._store, self._study.nets)]
        )
        by_id = {trial.id: trial for trial in trials}
        return [by_id[name] for name in missing if name not in self._given_up]

    def run(self, groups: Mapping[Recipe, Sequence[Trial]]) -> None:
        """Pass over the groups until every trial is finished, here or by another process."""
        while any(self.open(trials) for trials in groups.values()):
            before = self.ran + len(self.failed)
            for recipe, trials in groups.items():
                self._run_group(recipe, trials)
            if self.ran + len(self.failed) == before:
                self._watcher.working_on("waiting for trials that other processes are running")
                time.sleep(0.5)
                obey_together()

    def _locked(self, trials: Sequence[Trial]) -> Iterator[Trial]:
        """Lock the open trials one by one, each when it is needed."""
        for trial in self.open(trials):
            if broadcast_from_primary(partial(self.locks.take, trial.id)):
                if self.open([trial]):
                    self._in_flight[trial.id] = trial
                    yield trial
                else:  # another process has finished it since
                    self.locks.release([trial.id])

    def _run_group(self, recipe: Recipe, trials: Sequence[Trial]) -> None:
        """Run trials of one recipe; of a batch that fails each alone."""
        locked = self._locked(trials)
        first = next(locked, None)
        if first is None:
            return
        self._watcher.working_on(f"{first.model}, depth {first.depth} ({first.depth_unit})")
        try:
            group = Group(recipe, self._study.materials, self.checkpoints, self._watcher)
            try:
                for finished in group.run(chain([first], locked)):
                    self._write(*finished, trial_flops(finished[0], recipe))
            except (KeyboardInterrupt, SystemExit):
                group.save()
                raise
        except (KeyboardInterrupt, SystemExit) as error:
            signal = f" ({error})" if isinstance(error, Stopped) else ""
            self._give_up("interrupted", f"stopped from outside{signal}")
            raise
        except UserError:
            raise
        except Exception as error:
            reason = redacted(f"{type(error).__name__}: {error}".splitlines()[0])
            if is_distributed():  # the others cannot end the update that they are in
                self._give_up("interrupted", reason)
                raise
            if len(self._in_flight) == 1:
                self._give_up("failed", reason)
            else:
                for trial in self._released():
                    self._run_group(recipe, [trial])

    def _write(self, trial: Trial, row: Row | None, net: Variables | None, flops: float) -> None:
        self.ran += 1
        if row is not None:
            if net is not None and "movement" in trial.settings.measure:
                row["moved"] = measure_movement(self._store.out, trial, self._study.materials, net)
            if net is not None and self._study.nets is not None:
                save_net(self._study.nets, trial, self._study.materials, net, row)
            # Else only its net was missing.
            if "moved" in row or trial.id not in self._store.finished():
                self._store.append(row)
            self.checkpoints.remove(trial.id)
            self._watcher.trial(row, flops)
        del self._in_flight[trial.id]
        self.locks.release([trial.id])

    def _give_up(self, status: Status, reason: str) -> None:
        for trial in self._in_flight.values():
            if is_primary():
                self._store.append(describe(trial, status) | {"reason": reason})
            self._given_up.add(trial.id)
            self.failed.append(reason)
        self._released()

    def _released(self) -> list[Trial]:
        """Release the locks of the trials in flight, and return these."""
        trials = list(self._in_flight.values())
        self.locks.release(self._in_flight)
        self._in_flight.clear()
        return trials
