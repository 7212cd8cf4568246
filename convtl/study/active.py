"""A trial in training: its scores so far, runs on their way, checkpoints, the fields of its row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from convtl.config.roles import dump
from convtl.keys import digest
from convtl.models.network import Variables, weight_count
from convtl.study.grid import Trial
from convtl.study.learning_rates import Score, at_edge, best_rate
from convtl.study.materials import Start
from convtl.study.materials.shared_features import Prefix
from convtl.study.materials.target_data import TargetData
from convtl.training.checkpoints import Content
from convtl.training.runs import Recipe, Run, RunState

_OF_TRIALS = (
    *("config", "model", "source", "target", "regime", "depth", "depth_unit", "n_per_class"),
    *("updates", "similarity", "replicate"),
)


@dataclass(eq=False)
class ActiveTrial:
    """A trial in training.

    Attributes:
      prefix: the frozen part, where its features are shared on disk.
      run: what all its runs share; None until the first begins.
      scores: of the learning rates that are done.
      states: of runs that have begun, by learning rate.
      outstanding: number of learning rates that are queued or in training.
      best: variables of the best run so far, of the units that enter training.
      seconds: of training, its share where runs were trained together.
    """

    trial: Trial
    start: Start
    data: TargetData
    prefix: Prefix | None = None
    run: Run | None = None
    scores: dict[float, Score] = field(default_factory=dict)
    states: dict[float, RunState] = field(default_factory=dict)
    outstanding: int = 0
    best: Variables | None = None
    seconds: float = 0.0

    def update(self, rate: float) -> int:
        """Number of updates done at a learning rate."""
        return self.states[rate].update if rate in self.states else 0

    def add_score(self, rate: float, score: Score, variables: Variables) -> None:
        """Record a run that has ended, and keep its variables if it is the best."""
        self.scores[rate] = None if score is None else (score[0], score[1])  # else lists, from JSON
        self.states.pop(rate, None)
        self.outstanding -= 1
        if best_rate(self.scores) == rate:
            self.best = variables

    @property
    def tuned(self) -> Variables | None:
        """The tuned net from its first unit on; None while no run has a score."""
        return None if self.best is None else self.start.variables | self.best

    def checkpoint(self) -> Content | None:
        """What a resumed process needs; None if nothing has been trained."""
        if self.best is None and not self.states:
            return None
        arrays = {} if self.best is None else {"best": self.best}
        if self.states:
            states = enumerate(self.states.values())
            arrays["runs"] = {str(index): state._asdict() for index, state in states}
        scores = [[rate, *(score or (None, None))] for rate, score in self.scores.items()]
        about = {"trial": self.trial.id, "seconds": self.seconds, "scores": scores}
        return arrays, about | {"runs": [[rate, one.update] for rate, one in self.states.items()]}

    def resume(self, checkpoint: Content, resumes: Callable[[RunState], bool]) -> None:
        """Continue from a checkpoint; a run that the program cannot resume begins anew."""
        arrays, about = checkpoint
        if about.get("trial") != self.trial.id:
            return
        self.seconds, self.best = about["seconds"], arrays.get("best")
        self.scores = {
            rate: None if accuracy is None else (accuracy, minus_loss)
            for rate, accuracy, minus_loss in about["scores"]
        }
        for index, (rate, _) in enumerate(about["runs"]):
            state = RunState(**arrays["runs"][str(index)])
            if resumes(state):
                self.states[rate] = state

    def summary(self, recipe: Recipe, source: Mapping[str, Any], flops: int) -> dict[str, Any]:
        """Fields of a row, given the source net's metadata and the cost of an update."""
        trial, data, scores = self.trial, self.data, sorted(self.scores.items())
        weights = recipe.network.abstract_variables
        row = describe(trial) | {
            "n_train": len(data.positions("train", trial.n_per_class)),
            "lr": best_rate(self.scores),
            "lr_at_edge": at_edge(self.scores),
            "n_rates": len(scores),
            "scores": [[rate, *((s[0], -s[1]) if s else (None, None))] for rate, s in scores],
            "n_val": len(data.draw.validation),
            "n_test": len(data.draw.test),
            "source_accuracy": source.get("accuracy"),
            "source_classes": len(source["classes"]) if source else None,
            "source_images": source.get("images"),
            "trained_weights": sum(weight_count(weights[unit]) for unit in recipe.plan.trained),
            "flops_per_update": flops,
            "subset_digest": data.subset_digest(trial.n_per_class),
            "classes": list(data.class_names),
            "source_accuracy_by_part": source.get("accuracy_by_part", []),
            "seconds": self.seconds,
        }
        if trial.settings.augment is not None:
            row["augmented"] = recipe.augment is not None
        return row


def describe(trial: Trial) -> dict[str, Any]:
    """Return the fields of a row that are known before a trial is run."""
    return {name: getattr(trial, name) for name in _OF_TRIALS} | {
        "study": trial.settings.study or "trials",
        "trial": trial.id,
        "contents": dict(trial.contents),
        "trained_units": "+".join(trial.trained_units),
        "axes": dict(trial.axes),
        "declared": [
            digest(dump(trial.settings.claims[name]))
            for name in trial.settings.scorecard
            if name in trial.settings.claims
        ],
    }
