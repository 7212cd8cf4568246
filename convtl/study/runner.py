"""Runs what is missing of a study: claims, trains, writes rows; safe to kill and to run twice at once."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from convtl.errors import UserError
from convtl.models.network import Variables
from convtl.runtime.processes import PeerLost, agreed, leading, several
from convtl.runtime.stopping import Stopped
from convtl.secrets import redacted
from convtl.study.claims import Claims
from convtl.study.feature_maps import keep_maps
from convtl.study.grid import Trial, distinct
from convtl.study.group import Follower, Group, trial_flops, trial_recipe
from convtl.study.materials import Materials
from convtl.study.nets import net_name, save_net
from convtl.study.rows import describe
from convtl.study.store import Row, RowStore
from convtl.training.checkpoints import Checkpoints
from convtl.training.recipe import Recipe

CHECKPOINTS = "checkpoints"
"""Folder in `out` of what has come of trials in flight, and in the cache of source nets on their way."""

_POLL_SECONDS = 0.5  # how often to look whether another process has finished what it claimed


class Watcher(Follower, Protocol):
    """Whoever wants to know how a study goes on."""

    def say(self, line: str) -> None: ...
    def working_on(self, what: str) -> None: ...
    def expect(self, flops: float) -> None:
        """The arithmetic of all missing trials, with no more than the rates that each tries at least."""

    def trial(self, row: Row, flops: float) -> None:
        """A trial is finished, of which so much was expected."""


@dataclass
class Outcome:
    """What one call of `run_trials` did."""

    ran: int = 0
    failed: list[str] = field(default_factory=list)
    """reasons, one for each failed trial"""

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(self.ran + other.ran, self.failed + other.failed)


def unfinished(
    points: Sequence[Trial], store: RowStore, save_to: Path | None = None
) -> list[Trial]:
    """The trials without a final row, or without the net or the `moved` that is asked for; each once."""
    finished = store.finished()
    rows = store.read() if any(trial.settings.movement for trial in points) else {}

    def complete(trial: Trial) -> bool:
        if trial.id not in finished or trial.id in store.diverged:
            return trial.id in finished
        saved = save_to is None or (save_to / net_name(trial)).exists()
        return saved and (not trial.settings.movement or bool(rows[trial.id].get("moved")))

    return [trial for trial in distinct(points) if not complete(trial)]


def check_trials(trials: Sequence[Trial], materials: Materials) -> None:
    """Refuses trials whose data do not suffice, before anything is trained or written.

    Raises:
      UserError: too few images or classes, or images that a model does not take.
    """
    for ask in (materials.check_counts, materials.check):  # first what needs no images
        for trial in trials:
            ask(trial)


def run_trials(
    trials: Sequence[Trial],
    store: RowStore,
    materials: Materials,
    watcher: Watcher,
    save_to: Path | None = None,
) -> Outcome:
    """Runs the trials that no process has finished yet.

    Args:
      save_to: folder for the tuned nets, one folder a trial; None saves none.

    Raises:
      UserError: a folder cannot be written, or the data do not suffice (see `check_trials`).
    """
    missing = _named(trials, agreed(lambda: _ids(unfinished(trials, store, save_to))))
    outcome = Outcome()
    if not missing:
        return outcome
    watcher.working_on("preparing images")
    minutes = missing[0].settings.checkpoint_minutes
    with closing(Checkpoints(materials.cache.root / CHECKPOINTS, minutes, watcher.say)) as kept:
        materials.sources.prepare(
            missing,
            lambda ready, of: watcher.working_on(
                f"pretraining source nets ({ready} of {of} ready)"
            ),
            kept,
        )
    groups: dict[Recipe, list[Trial]] = {}
    for trial in missing:
        groups.setdefault(trial_recipe(materials, trial), []).append(trial)
    for recipe, group in groups.items():
        for trial in group:
            if recipe.start and (prefix := materials.prefix(trial)) is not None:
                materials.shared.announce(prefix, recipe.start)
    costs = {recipe: trial_flops(group[0], recipe) for recipe, group in groups.items()}
    watcher.expect(
        sum(_expected(t, costs[recipe]) for recipe, group in groups.items() for t in group)
    )
    with (
        closing(Checkpoints(store.out / CHECKPOINTS, minutes, watcher.say)) as kept,
        closing(Claims(store.out)) as claims,
    ):
        if leading():
            kept.sweep(store.finished())
        _Worker(store, claims, kept, materials, watcher, save_to, outcome).run(groups, costs)
    return outcome


@dataclass
class _Worker:
    store: RowStore
    claims: Claims
    checkpoints: Checkpoints
    materials: Materials
    watcher: Watcher
    save_to: Path | None
    outcome: Outcome
    given_up: set[str] = field(default_factory=set)
    alone: set[str] = field(default_factory=set)

    def run(self, groups: Mapping[Recipe, Sequence[Trial]], costs: Mapping[Recipe, int]) -> None:
        """Passes over the groups until every trial is finished, here or by another process."""
        told = False
        while True:
            before = self.outcome.ran + len(self.outcome.failed) + len(self.alone)
            for recipe, trials in groups.items():
                for share in self._shares(trials):
                    self._run_group(recipe, share, costs[recipe])
            if not self.claims.supported and not told:
                told = True
                self.watcher.say(
                    "no file locks here: what a killed process was at is taken over after a minute"
                )
            if not any(self._open(trials) for trials in groups.values()):
                return
            if self.outcome.ran + len(self.outcome.failed) + len(self.alone) == before:
                self.watcher.working_on("waiting for trials that other processes are running")
                time.sleep(_POLL_SECONDS)

    def _shares(self, trials: Sequence[Trial]) -> list[list[Trial]]:
        """What is run together: all that is open, but for trials of a batch that failed, each alone."""
        left = self._open(trials)
        together = [trial for trial in left if trial.id not in self.alone]
        alone = [[trial] for trial in left if trial.id in self.alone]
        return [together, *alone] if together else alone

    def _open(self, trials: Sequence[Trial]) -> list[Trial]:
        left = agreed(lambda: _ids(unfinished(trials, self.store, self.save_to)))
        return [trial for trial in _named(trials, left) if trial.id not in self.given_up]

    def _claimed(self, trials: Sequence[Trial]) -> Iterator[Trial]:
        for trial in self._open(trials):
            if agreed(partial(self._take, trial)):
                yield trial

    def _take(self, trial: Trial) -> bool:
        if not self.claims.take(trial.id):
            return False
        # Its owner may have finished it between the look and the claim.
        if unfinished([trial], self.store, self.save_to):
            return True
        self.claims.release([trial.id])
        return False

    def _run_group(self, recipe: Recipe, trials: Sequence[Trial], flops: int) -> None:
        claimed = self._claimed(trials)
        first = next(claimed, None)
        if first is None:
            return
        depth = f"{first.depth} ({first.depth_unit})"
        self.watcher.working_on(f"{first.model}, depth {depth}")
        group = None
        try:
            group = Group(recipe, self.materials, flops, self.checkpoints, self.watcher)
            for trial, row, net in group.run(_chain(first, claimed)):
                self._write(trial, row, net, _expected(trial, flops))
        except (KeyboardInterrupt, SystemExit) as error:
            if group is not None:
                group.keep()
            by = f" ({error})" if isinstance(error, Stopped) else ""
            self._give_up(_in_flight(group, first), "interrupted", f"stopped from outside{by}")
            raise
        except UserError as error:
            if isinstance(error, PeerLost):
                self._give_up(_in_flight(group, first), "interrupted", "another process is gone")
            raise
        except Exception as error:
            in_flight = _in_flight(group, first)
            if (
                len(in_flight) > 1 and not several()
            ):  # one of them may be to blame: each is tried alone
                self.alone |= {trial.id for trial in in_flight}
                self.claims.release([trial.id for trial in in_flight])
            else:
                self._give_up(
                    in_flight,
                    "failed",
                    redacted(f"{type(error).__name__}: {error}".splitlines()[0]),
                )
            if (
                several()
            ):  # the others are in the middle of an update, which they cannot end without this one
                raise

    def _write(self, trial: Trial, row: Row, net: Variables | None, flops: float) -> None:
        self.outcome.ran += 1
        if not leading():
            return
        if net is not None:
            keep_maps(self.store.out, trial, self.materials, net)
        if self.save_to is not None and net is not None:
            save_net(self.save_to, trial, self.materials.network(trial), net, row)
        if trial.id not in self.store.finished() or row.get(
            "moved"
        ):  # else only its net was missing
            self.store.append(row)
        self.checkpoints.remove(trial.id)
        self.claims.release([trial.id])
        self.watcher.trial(row, flops)

    def _give_up(self, trials: Sequence[Trial], status: str, reason: str) -> None:
        for trial in trials:
            if leading():
                self.store.append(describe(trial) | {"status": status, "reason": reason})
            self.given_up.add(trial.id)
            self.outcome.failed.append(reason)
        self.claims.release([trial.id for trial in trials])


def _in_flight(group: Group | None, first: Trial) -> list[Trial]:
    """The trials that a group has begun; `first` was claimed for it, and may not have got that far."""
    return (group.in_flight if group is not None else []) or [first]


def _ids(trials: Iterable[Trial]) -> list[str]:
    return [trial.id for trial in trials]


def _named(trials: Iterable[Trial], ids: Sequence[str]) -> list[Trial]:
    """Those of the trials that have the ids, each once, in the order of the ids."""
    by_id = {trial.id: trial for trial in trials}
    return [by_id[name] for name in ids]


def _expected(trial: Trial, flops: int) -> float:
    return float(flops) * trial.updates * len(trial.settings.lr)


def _chain(first: Trial, rest: Iterator[Trial]) -> Iterator[Trial]:
    yield first
    yield from rest
