"""A trial in training: outcomes, runs, checkpoints, the fields of its row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convtl.config.values import dump
from convtl.data.subsets import subset_digest
from convtl.keys import digest
from convtl.models.network import Variables, weight_count
from convtl.study.draws import Start, TargetData
from convtl.study.grid import Trial
from convtl.study.learning_rates import (
    PerPicture,
    RunKey,
    Score,
    at_edge,
    choose_rate,
    next_rates,
    score_rates,
)
from convtl.study.materials import SharedFeatures
from convtl.study.rows import Row, Status
from convtl.training.checkpoints import Content
from convtl.training.runs import Recipe, Run, RunState


@dataclass(eq=False)
class ActiveTrial:
    """A trial in training.

    Attributes:
      features: of the frozen part, where they are shared on disk.
      shared: by fold left out, its run without a rate.
      outcomes: of ended runs, on their validation pictures; None where one diverged.
      states: of runs that have begun.
      nets: by rate, variables of nets trained on all labels, of the units that enter training.
    """

    trial: Trial
    start: Start
    data: TargetData
    features: SharedFeatures | None = None
    shared: dict[int | None, Run] = field(default_factory=dict)
    outcomes: dict[RunKey, PerPicture | None] = field(default_factory=dict)
    states: dict[RunKey, RunState] = field(default_factory=dict)
    outstanding: int = 0  # runs that are queued or in training
    nets: dict[float, Variables] = field(default_factory=dict)
    seconds: float = 0.0  # its share where runs were trained together

    def __post_init__(self) -> None:
        self.folds: np.ndarray | None = None
        if self.trial.settings.validation == "within":
            self.folds = self.data.folds(self.trial.n_per_class)

    def update(self, key: RunKey) -> int:
        """Number of updates that a run has done."""
        return self.states[key].update if key in self.states else 0

    def next_runs(self) -> list[RunKey]:
        """Runs to be trained next; none when the trial is finished."""
        settings = self.trial.settings
        rates = next_rates(settings.lr, self.scores(), settings.lr_extend)
        runs = [key for rate in rates for key in self._validated(rate) if key not in self.outcomes]
        chosen = self.rate
        if not runs and chosen is not None and chosen not in self.nets:
            runs = [RunKey(chosen)]  # chosen by cross-validation: now on all labels
        return runs

    def add(self, key: RunKey, outcome: PerPicture | None, variables: Variables) -> None:
        """Record an ended run; after cross-validation the last one has no pictures."""
        self.states.pop(key, None)
        self.outstanding -= 1
        if outcome is None or outcome.size:
            self.outcomes[key] = outcome
        if outcome is not None and key.fold is None:
            self.nets[key.rate] = variables

    def scores(self) -> list[Score]:
        """Scores of the learning rates of which all pictures are validated."""
        outcomes: dict[float, PerPicture | None] = {}
        for rate in {key.rate for key in self.outcomes}:
            keys = dict.fromkeys((*self._validated(rate), RunKey(rate)))
            if all(key in self.outcomes for key in self._validated(rate)):
                parts = [self.outcomes[key] for key in keys if key in self.outcomes]
                whole = [part for part in parts if part is not None]
                outcomes[rate] = np.concatenate(whole, 1) if len(whole) == len(parts) else None
        return score_rates(outcomes)

    def _validated(self, rate: float) -> list[RunKey]:
        """Runs by which a learning rate is judged."""
        folds = [None] if self.folds is None else range(self.folds.max() + 1)
        return [RunKey(rate, fold) for fold in folds]

    @property
    def rate(self) -> float | None:
        """The learning rate chosen so far; None while none has a score."""
        return choose_rate(self.scores(), self.trial.settings.lr)

    @property
    def net(self) -> Variables | None:
        """Variables of the chosen rate's net, of the units that enter training."""
        rate = self.rate  # scored anew each time
        return None if rate is None else self.nets.get(rate)

    def checkpoint(self) -> Content | None:
        """Content of a checkpoint; None if nothing has been trained."""
        if not self.outcomes and not self.states:
            return None
        runs = {key: state._asdict() for key, state in self.states.items()}
        parts: dict[str, dict[Any, Any]]
        parts = {"outcomes": self.outcomes, "nets": self.nets, "runs": runs}
        arrays = {
            part: {str(i): one for i, one in enumerate(of_part.values()) if one is not None}
            for part, of_part in parts.items()
        }
        about = {part: list(of_part) for part, of_part in parts.items()}
        return arrays, about | {"trial": self.trial.id, "seconds": self.seconds}

    def resume(self, checkpoint: Content, resumes: Callable[[RunState], bool]) -> None:
        """Continue from a checkpoint; a run that the program cannot resume begins anew."""
        arrays, about = checkpoint
        if about.get("trial") != self.trial.id:
            return
        self.seconds = about["seconds"]
        outcomes, nets, runs = (
            [(key, arrays[part].get(str(i))) for i, key in enumerate(about[part])]
            for part in ("outcomes", "nets", "runs")
        )
        self.outcomes, self.nets = {RunKey(*key): one for key, one in outcomes}, dict(nets)
        states = {RunKey(*key): RunState(**state) for key, state in runs}
        self.states = {key: state for key, state in states.items() if resumes(state)}

    def summary(self, recipe: Recipe, source: Mapping[str, Any], flops: int) -> Row:
        """Fields of a row, given the source net's metadata and the cost of an update."""
        trial, data, scores = self.trial, self.data, self.scores()
        labelled = data.positions("train", trial.n_per_class)
        weights = recipe.network.abstract_variables
        row = describe(trial, "diverged" if self.net is None else "done")
        row.update(
            {
                "n_train": len(labelled),
                "lr": self.rate,
                "lr_at_edge": at_edge(scores, self.rate),
                "n_rates": len(scores),
                "scores": [*scores],
                "n_val": len(data.draw.validation) if self.folds is None else 0,
                "n_test": len(data.draw.test),
                "source_accuracy": source.get("accuracy"),
                "source_classes": len(source["classes"]) if source else None,
                "source_images": source.get("images"),
                "trained_weights": sum(weight_count(weights[unit]) for unit in recipe.plan.trained),
                "flops_per_update": flops,
                "subset_digest": subset_digest(data.splits["train"], labelled),
                "classes": list(data.class_names),
                "source_accuracy_by_part": source.get("accuracy_by_part", []),
                "seconds": self.seconds,
            }
        )
        if trial.settings.augment is not None:
            row["augmented"] = recipe.augment is not None
        return row


def describe(trial: Trial, status: Status) -> Row:
    """Return the fields of a row that are known before a trial is run, and its status."""
    return {
        "study": trial.settings.study or "trials",
        "trial": trial.id,
        "config": trial.config,
        "model": trial.model,
        "source": trial.source,
        "similarity": trial.similarity,
        "target": trial.target,
        "regime": trial.regime,
        "depth": trial.depth,
        "depth_unit": trial.depth_unit,
        "n_units": trial.n_units,
        "trained_units": "+".join(trial.trained_units),
        "n_per_class": trial.n_per_class,
        "replicate": trial.replicate,
        "updates": trial.updates,
        "validation": trial.settings.validation,
        "status": status,
        "contents": dict(trial.contents),
        "axes": dict(trial.axes),
        "declared": [
            digest(dump(trial.settings.claims[name]))
            for name in trial.settings.scorecard
            if name in trial.settings.claims
        ],
    }
