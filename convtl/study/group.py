"""Runs the trials that share compiled programs: runs in, rows out."""

import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from typing import Protocol

import numpy as np

from convtl.config.models import ModelConfig
from convtl.data.inputs import MOST_AT_ONCE, Gathered
from convtl.errors import UserError
from convtl.keys import digest
from convtl.measure.calibration import expected_calibration_error
from convtl.measure.metrics import accuracy, nll
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.runtime import stopping
from convtl.runtime.processes import agreed, anyone, leading, peers_alive
from convtl.study.grid import Trial
from convtl.study.in_flight import Running, kept, take_up
from convtl.study.materials import Materials
from convtl.study.movement import IMAGES, moved
from convtl.study.rates import NO_SCORE, Score, best_rate
from convtl.study.rows import tried
from convtl.study.similarity import first_of_each
from convtl.study.store import Row
from convtl.study.target_data import Images
from convtl.tracking import CurvePoint
from convtl.training.adapt import adapt_statistics
from convtl.training.checkpoints import Checkpoints
from convtl.training.cost import flops_per_update
from convtl.training.features import Forward, PrefixFeatures
from convtl.training.loop import Trainer
from convtl.training.recipe import Recipe
from convtl.training.runs import CallEnd, Run, RunResult
from convtl.transfer.plan import Plan, make_plan

_FEATURES_KEPT = 96
"""Arrays of prefix features held in memory (three for each source net and target); older ones are recomputed."""


def trial_plan(network: Network, trial: Trial) -> Plan:
    return make_plan(network, trial.settings.regimes[trial.regime], trial.depth, trial.updates)


def trial_recipe(materials: Materials, trial: Trial) -> Recipe:
    """The programs that a trial needs; trials with equal recipes run together."""
    settings = trial.settings
    network = materials.network(trial)
    plan = trial_plan(network, trial)
    start = plan.boundary if settings.cache_prefix and _worth_caching(network, plan.boundary) else 0
    return Recipe(
        network=network,
        start=start,
        plan=plan,
        optim=settings.optim,
        schedule=settings.schedule,
        batch_size=settings.batch_size,
        lanes=settings.lanes,
        chunk=settings.chunk,
        norm_mode=settings.norm_mode,
        augment=None
        if start
        else settings.augment,  # cached features are those of the images as they are
        precision=settings.precision,
    )


def _worth_caching(network: Network, boundary: int) -> bool:
    """Whether features are kept: always of small images, of big ones where they take no more room than these."""
    height, width, *_ = network.input_shape
    return height * width <= MOST_AT_ONCE or prod(network.shape_before(boundary)) <= prod(
        network.input_shape
    )


def trial_flops(trial: Trial, recipe: Recipe) -> int:
    """Algorithmic cost of one update (`convtl.training.cost`)."""
    model: ModelConfig = trial.settings.models[trial.model]
    classes = recipe.network.output_shapes[-1][0]
    plain = build_network(model, recipe.network.input_shape, classes, plain=True)
    return flops_per_update(plain, recipe.plan, trial.settings.batch_size, recipe.start)


class Follower(Protocol):
    """Whoever wants to see runs on their way, and not only their rows."""

    @property
    def follows(self) -> bool:
        """Whether it does at present."""

    def curve(self, points: Sequence[CurvePoint]) -> None:
        """How all runs that travel together stand after one update."""


class Group:
    """Runs trials of one recipe.

    Args:
      flops: algorithmic cost of one update (`trial_flops`).
      checkpoints: where what has come of trials in flight is kept; None keeps nothing.
      follower: told of runs on their way, about ten times each.
    """

    def __init__(
        self,
        recipe: Recipe,
        materials: Materials,
        flops: int,
        checkpoints: Checkpoints | None = None,
        follower: Follower | None = None,
    ) -> None:
        self.recipe = recipe
        self._materials, self._flops = materials, flops
        self._checkpoints, self._follower = checkpoints, follower
        self._trainer = Trainer(recipe)
        self._prefix = Forward(recipe.network, 0, recipe.start)
        self._suffix = Forward(recipe.network, recipe.start)
        self._features: OrderedDict[tuple[str, str, str], PrefixFeatures] = OrderedDict()
        self._running: list[Running] = []
        self._entering: list[Trial] = []
        """the trial that is being made ready, if one is"""
        self._unkept = False
        """whether anything has come of the trials in flight that is not on disk"""
        self._told = 0
        """tenths of its schedule of which the follower was told, of the batch that is being trained"""

    @property
    def in_flight(self) -> list[Trial]:
        return [running.trial for running in self._running] + self._entering

    def run(self, claimed: Iterator[Trial]) -> Iterator[tuple[Trial, Row, Variables | None]]:
        """Trains, chooses and tests; yields each trial with its row and its tuned net as it is finished.

        Args:
          claimed: trials that this process has claimed, drawn only when the program has room.
        """
        queue: deque[tuple[Running, float]] = deque()
        while True:
            complete: list[Running] = []
            while len(queue) < self._trainer.width and (trial := next(claimed, None)) is not None:
                running, rates = self._enter(trial)
                queue.extend((running, rate) for rate in rates)
                if not rates:  # it was stopped when all of them were tried
                    complete.append(running)
            if queue:
                complete += self._train(self._next(queue))
            elif not complete:
                return
            for running in complete:
                more = running.wanted()
                running.outstanding = len(more)
                # Extensions go first, so that a trial's images stay in memory no longer than needed.
                queue.extendleft((running, rate) for rate in reversed(more))
                if not more:
                    row = self._finish(running) if leading() else {}
                    yield running.trial, row, self._whole(running)
                    self._running.remove(running)  # after its row is on disk

    def _next(self, queue: deque[tuple[Running, float]]) -> list[tuple[Running, float]]:
        """Takes a batch of runs that are as far as the first."""
        first, rate = queue[0]
        batch = [run for run in queue if run[0].update(run[1]) == first.update(rate)][
            : self._trainer.width
        ]
        for run in batch:
            queue.remove(run)
        return batch

    def keep(self) -> None:
        """Has what has come of the trials in flight on disk when it returns."""
        if self._checkpoints is not None and self._unkept:
            self._write(wait=True)

    def _write(self, wait: bool) -> None:
        assert self._checkpoints is not None
        self._unkept = False
        if not leading():
            return
        found = {running.trial.id: kept(running) for running in self._running}
        self._checkpoints.write({name: own for name, own in found.items() if own is not None}, wait)

    def _between(self, batch: Sequence[tuple[Running, float]], end: CallEnd) -> None:
        """What happens between two chunks of updates of a batch."""
        asked = anyone(stopping.asked())
        if self._checkpoints is not None and (asked or agreed(self._checkpoints.due)):
            for (running, rate), paused in zip(batch, end.states(), strict=True):
                running.paused[rate] = paused
            self._write(wait=asked)  # before it is obeyed: a launcher may have the job killed then
        if asked:
            stopping.obey_with_others()
        tenth = end.update * 10 // end.updates
        if self._follower is not None and self._follower.follows and tenth > self._told:
            self._told = tenth
            self._follower.curve(self._curve(batch, end))

    def _curve(self, batch: Sequence[tuple[Running, float]], end: CallEnd) -> list[CurvePoint]:
        points = []
        for (running, rate), stands in zip(batch, end.results(), strict=True):
            right = 0.0
            if stands.finite:
                right = accuracy(*self._logits(running, stands.variables, "validation"))
            loss = float(stands.losses[-1])
            points.append(CurvePoint(running.trial.id, rate, end.update, end.updates, loss, right))
        return points

    def _enter(self, trial: Trial) -> tuple[Running, list[float]]:
        """A trial begins, or goes on where it was kept; with the rates that it is to try."""
        self._entering = [trial]
        prefix = self._materials.prefix(trial) if self.recipe.start else None
        running = Running(
            trial, self._materials.start(trial), self._materials.target_data(trial), prefix
        )
        if (
            self._checkpoints is not None
            and (found := self._checkpoints.read(trial.id)) is not None
        ):
            take_up(running, found, self._trainer.resumes)
        self._same_everywhere(running)
        self._running.append(running)
        self._entering = []
        rates = running.wanted()
        running.outstanding = len(rates)
        return running, rates

    def _same_everywhere(self, running: Running) -> None:
        """Refuses to go on from somewhere else than process 0 does."""
        here = [[rate, paused.update] for rate, paused in running.paused.items()] + [
            *running.scores
        ]
        if agreed(lambda: here) != here:
            raise UserError(
                "out: process 0 has found checkpoints there that this one has not; accepted: a folder that all "
                "processes share"
            )

    def _train(self, batch: Sequence[tuple[Running, float]]) -> list[Running]:
        """Trains one batch of runs; returns the trials whose outstanding rates are all scored."""
        began = time.perf_counter()
        runs = [self._run_at(running, rate) for running, rate in batch]
        if self._checkpoints is not None:
            self._checkpoints.begin()
        self._told = 0
        complete = []
        with stopping.held_back():
            with peers_alive():
                trained = self._trainer.train(runs, partial(self._between, batch))
            for (running, rate), result in zip(batch, trained, strict=True):
                self._score(running, rate, result)
                running.outstanding -= 1
                if running.outstanding == 0:
                    complete.append(running)
            share = (time.perf_counter() - began) / len(batch)
            for running, _ in batch:
                running.seconds += share
            self._unkept = True
        return complete

    def _run_at(self, running: Running, rate: float) -> Run:
        if running.shared_run is None:
            running.shared_run = self._shared_by_rates(running)
        return replace(running.shared_run, rate=rate, state=running.paused.get(rate))

    def _shared_by_rates(self, running: Running) -> Run:
        trial, data = running.trial, running.data
        labels = data.train_labels(trial.n_per_class)
        images = data.train_images(trial.n_per_class)
        inputs = self._inputs(running, "train", images)

        def batches(
            first: int, stop: int, own: slice = slice(None)
        ) -> tuple[np.ndarray, np.ndarray]:
            size = trial.settings.batch_size
            positions = data.batch_positions(len(labels), size, first, stop)[:, own]
            return inputs[positions], labels[positions]

        return Run(self._suffix_of(running, inputs), 0.0, batches, _draws_of(trial))

    def _suffix_of(self, running: Running, inputs: Images | Gathered) -> Variables:
        """The units that a run is given, with the statistics of its own images where that is asked for."""
        recipe = self.recipe
        own = {name: running.start.variables[name] for name in recipe.network.names[recipe.start :]}
        if recipe.norm_mode != "adapt":
            return own
        return adapt_statistics(recipe.network, recipe.start, recipe.plan.trained, own, inputs)

    def _inputs(self, running: Running, split: str, images: Images) -> Images | Gathered:
        """What enters the trained part: the images, or their features, computed once a net and target."""
        if self.recipe.start == 0:
            return images
        if running.prefix is not None:
            positions = running.data.positions(split, running.trial.n_per_class)
            return self._materials.shared.rows(running.prefix, self.recipe.start, split, positions)
        known = (running.start.name, running.data.name, split)
        if known not in self._features:
            self._features[known] = PrefixFeatures(self._prefix, running.start.variables)
        self._features.move_to_end(known)
        while len(self._features) > _FEATURES_KEPT:
            self._features.popitem(last=False)
        return self._features[known].rows(images, len(images))

    def _logits(
        self, running: Running, variables: Variables, split: str
    ) -> tuple[np.ndarray, np.ndarray]:
        images, labels = running.data.held_out(split)
        return self._suffix(variables, self._inputs(running, split, images)), labels

    def _score(self, running: Running, rate: float, result: RunResult) -> None:
        right, minus_loss = agreed(lambda: self._scored(running, result))
        running.scores[rate] = (right, minus_loss)
        running.paused.pop(rate, None)
        if best_rate(running.scores) == rate:
            running.best = result.variables

    def _scored(self, running: Running, result: RunResult) -> Score:
        if not result.finite:
            return NO_SCORE
        logits, labels = self._logits(running, result.variables, "validation")
        loss = nll(logits, labels)
        # Finite weights may still be too large for finite logits; nan would have no place in an order.
        return (accuracy(logits, labels), -loss) if np.isfinite(loss) else NO_SCORE

    def _whole(self, running: Running) -> Variables | None:
        """The tuned net from its first unit on."""
        return None if running.best is None else running.start.variables | running.best

    def _finish(self, running: Running) -> Row:
        """The row of a trial whose rate is chosen: here, and only here, its test images are read."""
        settings, data, network = running.trial.settings, running.data, self.recipe.network
        row = tried(
            running, self.recipe, self._materials.sources.metadata(running.trial), self._flops
        )
        rate, whole = best_rate(running.scores), self._whole(running)
        if rate is None or whole is None or running.best is None:
            reason = "loss or weights were not finite at any learning rate"
            return row | {"status": "diverged", "reason": reason, "seconds": running.seconds}
        if settings.movement:
            images, labels = data.held_out("validation")
            looked_at = images[first_of_each(labels, IMAGES)]
            row["moved"] = moved(network, running.start.variables, whole, looked_at)
        logits, labels = self._logits(running, running.best, "test")
        return row | {
            "val_accuracy": running.scores[rate][0],
            "test_accuracy": accuracy(logits, labels),
            "test_nll": nll(logits, labels),
            "test_ece": expected_calibration_error(logits, labels),
            "frozen_ok": running.start.frozen_ok(whole, self.recipe.plan.trained),
            "status": "done",
            "seconds": running.seconds,
        }


def _draws_of(trial: Trial) -> int:
    """Seed of what is drawn in updates (augmentation, dropout): that of all arms of a replicate."""
    return int(digest([trial.settings.seed, "updates", trial.replicate], 8), 16)
