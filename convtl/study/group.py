"""Trials of one recipe: train all rates, choose one by validation, test once."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from math import prod

import numpy as np
from jaxtyping import Int

from convtl.data.inputs import MOST_AT_ONCE, LazyRows, batch_indices
from convtl.errors import UserError
from convtl.keys import seed_of
from convtl.measure.metrics import accuracy, correct, expected_calibration_error, losses, nll
from convtl.models.network import Variables
from convtl.runtime import stopping
from convtl.runtime.backend import broadcast_from_primary, is_primary, obey_together
from convtl.study.active import ActiveTrial
from convtl.study.draws import Start, TargetData
from convtl.study.grid import Trial
from convtl.study.learning_rates import FOLDS, RunKey
from convtl.study.materials import Materials
from convtl.study.rows import Row
from convtl.study.watcher import CurvePoint, Watcher
from convtl.training.checkpoints import Checkpoints, Content
from convtl.training.features import Forward, Images
from convtl.training.loop import Trainer
from convtl.training.runs import Recipe, Run, RunResult, TrainState, flops_per_update

Member = tuple[ActiveTrial, RunKey]
Finished = tuple[Trial, Row | None, Variables | None]  # a trial, its row and its tuned net


def recipe_of(materials: Materials, trial: Trial) -> Recipe:
    """Recipe of a trial's programs; trials with equal recipes are trained together."""
    settings, network, plan = trial.settings, materials.network(trial), trial.plan
    height, width, *_ = network.input_shape
    # Features of big images are cached only if they are no larger than these.
    smaller = prod(network.shape_before(plan.boundary)) <= prod(network.input_shape)
    cached = settings.cache_prefix and (height * width <= MOST_AT_ONCE or smaller)
    start = plan.boundary if cached else 0
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


@lru_cache(maxsize=512)
def update_flops(recipe: Recipe) -> int:
    """Algorithmic cost of one update (`convtl.training.runs`)."""
    return flops_per_update(recipe.network, recipe.plan, recipe.batch_size, recipe.start)


def grouped(materials: Materials, trials: Iterable[Trial]) -> dict[Recipe, list[Trial]]:
    """Group trials by recipe, by ascending boundary: features build on those below."""
    groups: dict[Recipe, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(recipe_of(materials, trial), []).append(trial)
    return dict(sorted(groups.items(), key=lambda group: group[0].start))


def run_count(trial: Trial) -> int:
    """Number of a trial's runs if it tries no rate beyond its grid."""
    rates = len(set(trial.settings.lr))
    within = trial.settings.validation == "within"
    return rates * min(FOLDS, trial.n_per_class) + 1 if within else rates


def trial_flops(trial: Trial, recipe: Recipe) -> int:
    """Algorithmic cost of a trial's updates if it tries no rate beyond its grid."""
    return update_flops(recipe) * trial.updates * run_count(trial)


class Group:
    """Running of trials of one recipe, with checkpoints and learning curves."""

    def __init__(
        self, recipe: Recipe, materials: Materials, checkpoints: Checkpoints, watcher: Watcher
    ) -> None:
        self.recipe = recipe
        self._materials, self._checkpoints, self._watcher = materials, checkpoints, watcher
        self._trainer = Trainer(recipe)
        self._suffix = Forward(recipe.network, recipe.start)
        prefix = Forward(recipe.network, 0, recipe.start)

        @lru_cache(96)  # arrays: three for each source net and target
        def features(start: Start, data: TargetData, split: str, n: int | None) -> np.ndarray:
            return prefix(start.variables, data.examples(split, n)[0])

        self._features = features
        self._active: list[ActiveTrial] = []
        self._reported = 0  # tenths of the batch's updates that the watcher has received

    def run(self, locked: Iterator[Trial]) -> Iterator[Finished]:
        """Run locked trials, drawn when there is room; yield each once finished."""
        queue: deque[Member] = deque()
        while True:
            complete: list[ActiveTrial] = []
            while len(queue) < self._trainer.width and (trial := next(locked, None)) is not None:
                active = self._enter(trial)
                if not self._queue_runs(active, queue):  # all had ended before it was stopped
                    complete.append(active)
            if queue:
                complete += self._train(self._take_batch(queue))
            elif not complete:
                return
            for active in complete:
                # Further runs go first, so that a trial's images stay in memory no longer than needed.
                if not self._queue_runs(active, queue, first=True):
                    tuned = None if active.net is None else active.start.variables | active.net
                    yield active.trial, self._row(active) if is_primary() else None, tuned
                    self._active.remove(active)  # after its row is on disk

    def _enter(self, trial: Trial) -> ActiveTrial:
        """Begin a trial, or resume it from its checkpoint."""
        materials = self._materials
        features = materials.shared_features(trial) if self.recipe.start else None
        active = ActiveTrial(trial, materials.start(trial), materials.target_data(trial), features)
        if (checkpoint := self._checkpoints.read(trial.id)) is not None:
            active.resume(checkpoint, self._trainer.resumes)
        resumed = [[*key, state.update] for key, state in active.states.items()]
        resumed += [list(key) for key in active.outcomes]
        if broadcast_from_primary(lambda: resumed) != resumed:
            raise UserError(
                "out: process 0 has checkpoints there that this one does not see; accepted: a folder "
                "that all processes share"
            )
        self._active.append(active)
        return active

    @staticmethod
    def _queue_runs(active: ActiveTrial, queue: deque[Member], first: bool = False) -> int:
        """Queue the runs that a trial takes next; return their number."""
        runs = active.next_runs()
        active.outstanding = len(runs)
        for key in reversed(runs) if first else runs:
            (queue.appendleft if first else queue.append)((active, key))
        return len(runs)

    def _take_batch(self, queue: deque[Member]) -> list[Member]:
        """Take runs off the queue that have done as many updates as the first."""
        update = queue[0][0].update(queue[0][1])
        batch = [(active, key) for active, key in queue if active.update(key) == update]
        batch = batch[: self._trainer.width]
        for member in batch:
            queue.remove(member)
        return batch

    def _train(self, batch: Sequence[Member]) -> list[ActiveTrial]:
        """Train one batch of runs; return the trials that have no run outstanding."""
        began = time.perf_counter()
        runs = [
            replace(self._shared_run(active, key.fold), rate=key.rate, state=active.states.get(key))
            for active, key in batch
        ]
        self._checkpoints.begin()
        self._reported = 0
        with stopping.held_back():
            results = self._trainer.train(runs, partial(self._between_calls, batch))
            for (active, key), result in zip(batch, results, strict=True):
                outcome = broadcast_from_primary(partial(self._validate, active, key, result))
                per_picture = None if outcome is None else np.asarray(outcome)
                active.add(key, per_picture, result.variables)
            share = (time.perf_counter() - began) / len(batch)
            for active, _ in batch:
                active.seconds += share
            obey_together()
        trained = dict.fromkeys(active for active, _ in batch)
        return [active for active in trained if not active.outstanding]

    def _shared_run(self, active: ActiveTrial, fold: int | None) -> Run:
        """Return the run of a fold, without its rate; made once."""
        if fold in active.shared:
            return active.shared[fold]
        recipe, trial = self.recipe, active.trial
        inputs, labels = self._examples(active, "train")
        places = np.arange(len(labels))
        if active.folds is not None and fold is not None:
            places = np.flatnonzero(active.folds != fold)
        trained_on = recipe.network.names[recipe.start :]
        variables = {name: active.start.variables[name] for name in trained_on}

        # The order of images, and the seed of augmentation and dropout, are shared by all arms of a replicate.
        stream, size = ("order", trial.replicate), recipe.batch_size

        def batches(first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            order = batch_indices(trial.settings.seed, stream, len(places), size, first, stop)
            return inputs[places[order]], labels[places[order]]

        seed = seed_of(trial.settings.seed, "updates", trial.replicate)
        active.shared[fold] = Run(variables, 0.0, batches, seed)
        return active.shared[fold]

    def _examples(self, active: ActiveTrial, split: str) -> tuple[Images, Int[np.ndarray, " n"]]:
        """Return the inputs of the trained part (images, or cached features), and labels."""
        n = active.trial.n_per_class if split == "train" else None
        images, labels = active.data.examples(split, n)
        if active.features is not None:
            positions = active.data.positions(split, n)
            return active.features.rows(self.recipe.start, split, positions), labels
        if self.recipe.start == 0:
            return images, labels
        return self._features(active.start, active.data, split, n), labels

    def _logits(
        self, active: ActiveTrial, variables: Variables, split: str, fold: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits and labels of a split, or of the labelled images that a fold leaves out."""
        inputs, labels = self._examples(active, split)
        if split == "train":
            places = np.flatnonzero(active.folds == fold)  # None: no image
            inputs = inputs.take(places) if isinstance(inputs, LazyRows) else inputs[places]
            labels = labels[places]
        return self._suffix(variables, inputs), labels

    def _validate(
        self, active: ActiveTrial, key: RunKey, result: RunResult
    ) -> list[list[float]] | None:
        """Loss and correctness of each validation picture; None for a diverged run."""
        if not result.finite:
            return None
        split = "validation" if active.folds is None else "train"
        predictions = self._logits(active, result.variables, split, key.fold)
        each = losses(*predictions)
        # Finite weights may be too large for finite logits, and nan cannot be ordered.
        finite = np.isfinite(each).all()
        return [each.tolist(), correct(*predictions).astype(float).tolist()] if finite else None

    def _row(self, active: ActiveTrial) -> Row:
        """Return the row of a trial whose rate is chosen; only here test images are read."""
        source = self._materials.source_metadata(active.trial)
        row = active.summary(self.recipe, source, update_flops(self.recipe))
        if (net := active.net) is None:
            return row | {"reason": "loss or weights were not finite at any learning rate"}
        logits, labels = self._logits(active, net, "test")
        tuned = active.start.variables | net
        scores = (score for score in active.scores() if score.rate == row["lr"])
        return row | {
            "val_accuracy": next(s.accuracy for s in scores if s.accuracy is not None),
            "test_accuracy": accuracy(logits, labels),
            "test_nll": nll(logits, labels),
            "test_ece": expected_calibration_error(logits, labels),
            "frozen_ok": active.start.frozen_ok(tuned, self.recipe.plan.trained),
        }

    def _between_calls(self, batch: Sequence[Member], end: TrainState) -> None:
        """Write checkpoints when due, stop if asked to, report learning curves."""

        def contents() -> dict[str, Content]:
            for (active, key), state in zip(batch, end.states(), strict=True):
                active.states[key] = state
            return self._contents()

        self._checkpoints.between_calls(contents)
        tenth = end.update * 10 // self.recipe.plan.updates
        if self._watcher.follows and tenth > self._reported:
            self._reported = tenth
            self._watcher.curve(self._curve(batch, end))

    def _curve(self, batch: Sequence[Member], end: TrainState) -> list[CurvePoint]:
        """Training loss and validation accuracy (nan without pictures) of current runs."""
        points, updates = [], self.recipe.plan.updates
        for (active, key), result in zip(batch, end.results(), strict=True):
            outcome = self._validate(active, key, result) or ([0.0], [0.0])
            right = float(np.mean(outcome[1])) if outcome[1] else float("nan")
            loss = float(result.losses[-1])
            points.append(CurvePoint(active.trial.id, key.rate, end.update, updates, loss, right))
        return points

    def _contents(self) -> dict[str, Content]:
        """Checkpoints of all trials in training, by trial."""
        made = {active.trial.id: active.checkpoint() for active in self._active}
        return {name: one for name, one in made.items() if one}

    def save(self) -> None:
        """Write checkpoints of all trials in training."""
        if is_primary():
            self._checkpoints.write(self._contents())
