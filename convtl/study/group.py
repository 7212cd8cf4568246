"""Trials of one recipe: train all rates, choose one by validation, test once."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from math import prod
from typing import Any, Protocol

import numpy as np

from convtl.data.inputs import MOST_AT_ONCE
from convtl.errors import UserError
from convtl.keys import digest
from convtl.measure.metrics import accuracy, expected_calibration_error, nll
from convtl.models.network import Network, Variables
from convtl.runtime import stopping
from convtl.runtime.processes import any_process, broadcast_from_primary, is_primary, obey_together
from convtl.study.active import ActiveTrial
from convtl.study.grid import Trial
from convtl.study.learning_rates import NO_SCORE, Score, best_rate
from convtl.study.materials import Materials, Recent
from convtl.study.materials.target_data import Images
from convtl.study.summary import tried
from convtl.tracking import CurvePoint
from convtl.training.checkpoints import Checkpoints
from convtl.training.cost import flops_per_update
from convtl.training.features import Forward
from convtl.training.loop import Trainer
from convtl.training.runs import Recipe, Run, RunResult, TrainState

_FEATURES_KEPT = 96
"""Arrays of prefix features in memory (three for each source net and target)."""

Member = tuple[ActiveTrial, float]
"""A trial, and one of its learning rates."""


class Watcher(Protocol):
    """Receiver of a study's progress."""

    def say(self, line: str) -> None: ...

    def working_on(self, task: str) -> None: ...

    def expect(self, flops: float) -> None:
        """Take the arithmetic of all missing trials (`trial_flops`)."""

    def trial(self, row: dict[str, Any], flops: float) -> None:
        """Take the row of a finished trial, and its share of what was expected."""

    @property
    def follows(self) -> bool:
        """Whether it wants `curve` at present."""

    def curve(self, points: Sequence[CurvePoint]) -> None:
        """Take one point for each run that is trained at present."""


def recipe_of(materials: Materials, trial: Trial) -> Recipe:
    """Recipe of a trial's programs; trials with equal recipes are trained together."""
    settings, network, plan = trial.settings, materials.network(trial), trial.plan
    start = plan.boundary if settings.cache_prefix and _worth_caching(network, plan.boundary) else 0
    recipe = Recipe.of(
        settings,
        network=network,
        start=start,
        plan=plan,
        runs_per_device=settings.runs_per_device,
        steps_per_call=settings.steps_per_call,
    )
    # Cached features are of images as they are.
    return replace(recipe, augment=None) if start else recipe


def _worth_caching(network: Network, boundary: int) -> bool:
    """Whether features are cached: of small images, or if no larger than images."""
    height, width, *_ = network.input_shape
    smaller = prod(network.shape_before(boundary)) <= prod(network.input_shape)
    return height * width <= MOST_AT_ONCE or smaller


@lru_cache(maxsize=512)
def update_flops(recipe: Recipe) -> int:
    """Algorithmic cost of one update (`convtl.training.cost`)."""
    return flops_per_update(_plain(recipe.network), recipe.plan, recipe.batch_size, recipe.start)


@lru_cache(maxsize=64)
def _plain(network: Network) -> Network:
    """The network in XLA's own convolutions, by whose arithmetic cost is counted."""
    return replace(network, plain=True)


def grouped(materials: Materials, trials: Iterable[Trial]) -> dict[Recipe, list[Trial]]:
    """Trials by recipe, by ascending boundary: features build on those below."""
    groups: dict[Recipe, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(recipe_of(materials, trial), []).append(trial)
    return dict(sorted(groups.items(), key=lambda group: group[0].start))


def trial_flops(trial: Trial, recipe: Recipe) -> int:
    """Algorithmic cost of a trial's updates, at the least number of rates."""
    return update_flops(recipe) * trial.updates * len(trial.settings.lr)


class Group:
    """Runs trials of one recipe.

    Args:
      checkpoints: of trials in training; None keeps none.
      watcher: receives about ten points of each learning curve.
    """

    def __init__(
        self,
        recipe: Recipe,
        materials: Materials,
        checkpoints: Checkpoints | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self.recipe = recipe
        self._materials, self._checkpoints, self._watcher = materials, checkpoints, watcher
        self._trainer = Trainer(recipe)
        self._prefix = Forward(recipe.network, 0, recipe.start)
        self._suffix = Forward(recipe.network, recipe.start)
        self._features: Recent[np.ndarray] = Recent(_FEATURES_KEPT)
        self._active: list[ActiveTrial] = []
        self._entering: list[Trial] = []
        """the trial that is being prepared, if any"""
        self._unsaved = False
        """whether anything has been trained since the last checkpoint"""
        self._reported = 0
        """tenths of the batch's updates that the watcher has received"""

    @property
    def in_flight(self) -> list[Trial]:
        return [active.trial for active in self._active] + self._entering

    def run(
        self, locked: Iterator[Trial]
    ) -> Iterator[tuple[Trial, dict[str, Any], Variables | None]]:
        """Yield each trial with its row and its tuned net, as soon as it is finished.

        Args:
          locked: trials of this process, drawn only when the program has room.
        """
        queue: deque[Member] = deque()
        while True:
            complete: list[ActiveTrial] = []
            while len(queue) < self._trainer.width and (trial := next(locked, None)) is not None:
                active = self._enter(trial)
                if not self._queue_rates(active, queue):  # all were scored before it was stopped
                    complete.append(active)
            if queue:
                complete += self._train(self._take_batch(queue))
            elif not complete:
                return
            for active in complete:
                # Further rates go first, so that a trial's images stay in memory no longer than needed.
                if not self._queue_rates(active, queue, first=True):
                    yield active.trial, self._row(active) if is_primary() else {}, active.tuned
                    self._active.remove(active)  # after its row is on disk

    def _enter(self, trial: Trial) -> ActiveTrial:
        """Begin a trial, or resume it from its checkpoint."""
        self._entering = [trial]
        materials = self._materials
        prefix = materials.prefix(trial) if self.recipe.start else None
        active = ActiveTrial(trial, materials.start(trial), materials.target_data(trial), prefix)
        checkpoint = None if self._checkpoints is None else self._checkpoints.read(trial.id)
        if checkpoint is not None:
            active.resume(checkpoint, self._trainer.resumes)
        resumed = [[rate, state.update] for rate, state in active.states.items()]
        resumed += [[rate] for rate in active.scores]
        if broadcast_from_primary(lambda: resumed) != resumed:
            raise UserError(
                "out: process 0 has checkpoints there that this one does not see; accepted: a folder "
                "that all processes share"
            )
        self._active.append(active)
        self._entering = []
        return active

    @staticmethod
    def _queue_rates(active: ActiveTrial, queue: deque[Member], first: bool = False) -> int:
        """Queue the learning rates that a trial tries next; return their number."""
        members = [(active, rate) for rate in active.next_rates()]
        active.outstanding = len(members)
        if first:
            queue.extendleft(reversed(members))
        else:
            queue.extend(members)
        return len(members)

    def _take_batch(self, queue: deque[Member]) -> list[Member]:
        """Take runs off the queue that have done as many updates as the first."""
        first, rate = queue[0]
        batch = [member for member in queue if member[0].update(member[1]) == first.update(rate)]
        batch = batch[: self._trainer.width]
        for member in batch:
            queue.remove(member)
        return batch

    def _train(self, batch: Sequence[Member]) -> list[ActiveTrial]:
        """Train one batch of runs; return the trials that have no rate outstanding."""
        began = time.perf_counter()
        runs = [self._run(active, rate) for active, rate in batch]
        if self._checkpoints is not None:
            self._checkpoints.begin()
        self._reported = 0
        with stopping.held_back():
            results = self._trainer.train(runs, partial(self._between_calls, batch))
            for (active, rate), result in zip(batch, results, strict=True):
                right, minus_loss = broadcast_from_primary(partial(self._score, active, result))
                active.add_score(rate, (right, minus_loss), result.variables)
            share = (time.perf_counter() - began) / len(batch)
            for active, _ in batch:
                active.seconds += share
            self._unsaved = True
            obey_together()
        trained = dict.fromkeys(active for active, _ in batch)
        return [active for active in trained if not active.outstanding]

    def _run(self, active: ActiveTrial, rate: float) -> Run:
        if active.run is None:
            active.run = self._shared_run(active)
        return replace(active.run, rate=rate, state=active.states.get(rate))

    def _shared_run(self, active: ActiveTrial) -> Run:
        """Prepare what the runs of a trial share: all but their learning rates."""
        recipe, trial, data = self.recipe, active.trial, active.data
        labels, inputs = active.labels("train"), self._inputs(active, "train")
        variables = {
            name: active.start.variables[name] for name in recipe.network.names[recipe.start :]
        }

        def batches(first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            positions = data.batch_positions(len(labels), recipe.batch_size, first, stop)
            return inputs[positions], labels[positions]

        return Run(variables, 0.0, batches, _update_seed(trial))

    def _inputs(self, active: ActiveTrial, split: str) -> Images:
        """What enters the trained part: images, or features, computed once a target."""
        if active.prefix is not None:
            positions = active.data.positions(split, active.trial.n_per_class)
            return self._materials.shared.rows(active.prefix, self.recipe.start, split, positions)
        images = active.images(split)
        if self.recipe.start == 0:
            return images
        return self._features.get_or_make(
            (active.start.name, active.data.key, split, len(images)),
            partial(self._prefix, active.start.variables, images),
        )

    def _logits(
        self, active: ActiveTrial, variables: Variables, split: str
    ) -> tuple[np.ndarray, np.ndarray]:
        return self._suffix(variables, self._inputs(active, split)), active.labels(split)

    def _score(self, active: ActiveTrial, result: RunResult) -> Score:
        """Validation accuracy and minus validation loss of a run that has ended."""
        if not result.finite:
            return NO_SCORE
        logits, labels = self._logits(active, result.variables, "validation")
        loss = nll(logits, labels)
        # Finite weights may be too large for finite logits, and nan cannot be ordered.
        return (accuracy(logits, labels), -loss) if np.isfinite(loss) else NO_SCORE

    def _row(self, active: ActiveTrial) -> dict[str, Any]:
        """The row of a trial whose rate is chosen; only here test images are read."""
        source = self._materials.sources.metadata(active.trial)
        row = tried(active, self.recipe, source, update_flops(self.recipe))
        rate, tuned = best_rate(active.scores), active.tuned
        if rate is None or tuned is None or active.best is None:
            reason = "loss or weights were not finite at any learning rate"
            return row | {"status": "diverged", "reason": reason, "seconds": active.seconds}
        logits, labels = self._logits(active, active.best, "test")
        return row | {
            "val_accuracy": active.scores[rate][0],
            "test_accuracy": accuracy(logits, labels),
            "test_nll": nll(logits, labels),
            "test_ece": expected_calibration_error(logits, labels),
            "frozen_ok": active.start.frozen_ok(tuned, self.recipe.plan.trained),
            "status": "done",
            "seconds": active.seconds,
        }

    def _between_calls(self, batch: Sequence[Member], end: TrainState) -> None:
        """Write checkpoints when due, stop if asked to, report learning curves."""
        stop = any_process(stopping.requested())
        if self._checkpoints is not None and (
            stop or broadcast_from_primary(self._checkpoints.due)
        ):
            for (active, rate), state in zip(batch, end.states(), strict=True):
                active.states[rate] = state
            self._write()  # before it is obeyed: a launcher may have the job killed then
        stopping.obey(stop)
        tenth = end.update * 10 // self.recipe.plan.updates
        if self._watcher is not None and self._watcher.follows and tenth > self._reported:
            self._reported = tenth
            self._watcher.curve(self._curve(batch, end))

    def _curve(self, batch: Sequence[Member], end: TrainState) -> list[CurvePoint]:
        points, updates = [], self.recipe.plan.updates
        for (active, rate), result in zip(batch, end.results(), strict=True):
            right = 0.0
            if result.finite:
                right = accuracy(*self._logits(active, result.variables, "validation"))
            loss = float(result.losses[-1])
            points.append(CurvePoint(active.trial.id, rate, end.update, updates, loss, right))
        return points

    def save(self) -> None:
        """Write checkpoints of all trials in training."""
        if self._checkpoints is not None and self._unsaved:
            self._write()

    def _write(self) -> None:
        assert self._checkpoints is not None
        self._unsaved = False
        if is_primary():
            made = {active.trial.id: active.checkpoint() for active in self._active}
            self._checkpoints.write({name: one for name, one in made.items() if one})


def _update_seed(trial: Trial) -> int:
    """Seed of augmentation and dropout; shared by all arms of a replicate."""
    return int(digest([trial.settings.seed, "updates", trial.replicate], 8), 16)
