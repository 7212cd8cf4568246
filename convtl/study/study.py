"""A study: its trials, the folder of their rows, and what running it takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from convtl.config.schema import Config
from convtl.runtime.processes import is_primary
from convtl.storage.cache import Cache
from convtl.study.grid import Trial, distinct
from convtl.study.group import Watcher, grouped, trial_flops
from convtl.study.materials import Materials
from convtl.study.measurements.similarity import measure_similarity
from convtl.study.rows import Row
from convtl.study.runner import Outcome, run_trials, unfinished
from convtl.study.store import RowStore
from convtl.training.devices import chosen_layout
from convtl.training.pretrain import KIND, SourceRequest
from convtl.training.probes import run_gradients

_ASSUMED_FLOPS = 3e10
"""A second, where no row tells: LeNet-5 on 2 cores ran at 2 to 5e10 (batch 32, 8 runs)."""


@dataclass(frozen=True)
class Scope:
    """What a process does of a study; by default all of it.

    Attributes:
      trials: ids of the trials that it runs; None is all, an empty set leaves only the report.
      reports: whether it makes the report.
    """

    trials: frozenset[str] | None = None
    reports: bool = True

    @property
    def works(self) -> bool:
        return self.trials is None or bool(self.trials)

    def of(self, trials: Sequence[Trial]) -> list[Trial]:
        """Those of a study's trials that this process runs."""
        return [trial for trial in trials if self.trials is None or trial.id in self.trials]


ALL, REPORT_ONLY = Scope(), Scope(frozenset())


class Study:
    """A set of trials in one folder.

    Args:
      config, trials: as `convtl.study.grid.expand` returns them.
      out: folder of the results; made when it is written to.
      scope: what this process does of it.

    Attributes:
      say: takes a line about slow work; silent until it is set.
      nets: folder of tuned nets; None where none are saved.
    """

    def __init__(
        self, config: Config, trials: Sequence[Trial], out: Path, cache: Cache, scope: Scope = ALL
    ) -> None:
        self.config, self.trials, self.scope, self.cache = config, list(trials), scope, cache
        self.store = RowStore(out)
        self.nets = out / "nets" if config.save == "best" else None
        self.say: Callable[[str], None] = lambda line: None
        self.materials = Materials(cache, lambda line: self.say(line))

    @property
    def rows(self) -> dict[str, Row]:
        """Trial id -> its row, of every trial in the folder."""
        return self.store.read()

    def unfinished(self) -> list[Trial]:
        """Trials of this process's scope that are still to be run, each once."""
        return unfinished(self.scope.of(self.trials), self.store, self.nets)

    def check(self) -> None:
        """Refuse trials whose data do not suffice, before anything is trained or written.

        Raises:
          UserError: with the key to change.
        """
        self.materials.check(self.unfinished())

    def run(self, watcher: Watcher) -> Outcome:
        """Run what is missing of this process's scope, and append the rows."""
        self.say = watcher.working_on
        trials = self.scope.of(self.trials)
        return run_trials(trials, self.store, self.materials, watcher, self.nets)

    def measure(self) -> None:
        """Take the measurements of the study as a whole that the folder does not hold yet.

        Several processes must all call it: source nets are loaded or pretrained together.
        """
        if "gradients" in self.config.measure and is_primary():
            run_gradients(self.config, self.store.out, self.cache, self.say)
        if "distances" in self.config.measure:
            measure_similarity(self.trials, self.materials, self.store.out, self.say)

    def sources(self) -> dict[str, bool]:
        """Key of each source net to be pretrained -> whether it is in the cache."""
        keys = {
            request.key
            for trial in self.unfinished()
            for request in self.materials.sources.requests(trial)
            if isinstance(request, SourceRequest)
        }
        return {key: self.cache.path(KIND, key).exists() for key in sorted(keys)}

    def plan(self) -> list[str]:
        """Describe trials, programs, cost, what is done or cached, and expected time."""
        self.check()
        missing, total = self.unfinished(), len(distinct(self.scope.of(self.trials)))
        groups = grouped(self.materials, missing)
        for recipe in groups:
            chosen_layout().check(recipe.batch_size)
        flops = sum(trial_flops(trial, recipe) for recipe in groups for trial in groups[recipe])
        runs = sum(len(trial.settings.lr) for trial in missing)
        cached = list(self.sources().values())
        speed, origin = self._speed()
        return [
            f"{total} trials: {total - len(missing)} done, {len(missing)} to run, in {self.store.out}",
            f"{len(groups)} compiled programs, {runs} training runs at least",
            f"{len(cached)} source nets: {sum(cached)} cached, {cached.count(False)} to train",
            f"{flops:.3g} floating-point operations in training, at least",
            f"about {flops / speed / 60:.1f} min at {speed:.2g} a second ({origin}), pretraining not counted",
        ]

    def _speed(self) -> tuple[float, str]:
        """Operations a second, and where that is from."""
        rows = [
            row for row in self.rows.values() if row.get("seconds") and row.get("flops_per_update")
        ]
        if not rows:
            return _ASSUMED_FLOPS, "assumed"
        work = sum(row["flops_per_update"] * row["updates"] * row["n_rates"] for row in rows)
        return work / sum(row["seconds"] for row in rows), "measured in this folder's rows"
