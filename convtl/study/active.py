"""A trial in training: scores so far, runs on their way, checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from convtl.models.network import Variables
from convtl.study.grid import Trial
from convtl.study.learning_rates import NO_SCORE, Score, best_rate, next_rates
from convtl.study.materials import Start
from convtl.study.materials.shared_features import Prefix
from convtl.study.materials.target_data import Images, TargetData
from convtl.training.checkpoints import Content
from convtl.training.runs import Run, RunState


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

    def next_rates(self) -> list[float]:
        return next_rates(self.trial.settings.lr, self.scores, self.trial.settings.lr_extend)

    def update(self, rate: float) -> int:
        """Number of updates done at a learning rate."""
        return self.states[rate].update if rate in self.states else 0

    def add_score(self, rate: float, score: Score, variables: Variables) -> None:
        """Record a run that has ended, and keep its variables if it is the best."""
        self.scores[rate] = score
        self.states.pop(rate, None)
        self.outstanding -= 1
        if best_rate(self.scores) == rate:
            self.best = variables

    @property
    def tuned(self) -> Variables | None:
        """The tuned net from its first unit on; None while no run has a score."""
        return None if self.best is None else self.start.variables | self.best

    def images(self, split: str) -> Images:
        if split == "train":
            return self.data.train_images(self.trial.n_per_class)
        return self.data.held_out(split)[0]

    def labels(self, split: str) -> np.ndarray:
        if split == "train":
            return self.data.train_labels(self.trial.n_per_class)
        return self.data.held_out(split)[1]

    def checkpoint(self) -> Content | None:
        """What a resumed process needs; None if nothing has been trained."""
        if self.best is None and not self.states:
            return None
        arrays = {} if self.best is None else {"best": self.best}
        if self.states:
            states = self.states.values()
            arrays["runs"] = {str(index): state._asdict() for index, state in enumerate(states)}
        scores = [
            [rate, *(score if score != NO_SCORE else (None, None))]
            for rate, score in self.scores.items()
        ]
        about = {"trial": self.trial.id, "seconds": self.seconds, "scores": scores}
        return arrays, about | {"runs": [[rate, one.update] for rate, one in self.states.items()]}

    def resume(self, checkpoint: Content, resumes: Callable[[RunState], bool]) -> None:
        """Continue from a checkpoint; a run that the program cannot resume begins anew."""
        arrays, about = checkpoint
        if about.get("trial") != self.trial.id:
            return
        self.seconds, self.best = about["seconds"], arrays.get("best")
        self.scores = {
            rate: NO_SCORE if accuracy is None else (accuracy, minus_loss)
            for rate, accuracy, minus_loss in about["scores"]
        }
        for index, (rate, _) in enumerate(about["runs"]):
            state = RunState(**arrays["runs"][str(index)])
            if resumes(state):
                self.states[rate] = state
