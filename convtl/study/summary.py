"""Summaries of trials: the fields of a row but for those that the test images give."""

from collections.abc import Mapping
from typing import Any

from convtl.config.roles import dump
from convtl.keys import digest
from convtl.models.network import weight_count
from convtl.study.active import ActiveTrial
from convtl.study.grid import Trial
from convtl.study.learning_rates import NO_SCORE, at_edge, best_rate
from convtl.training.runs import Recipe


def describe(trial: Trial) -> dict[str, Any]:
    """Return the fields of a row that are known before a trial is run."""
    return {
        "study": trial.settings.study or "trials",
        "trial": trial.id,
        "config": trial.config,
        "contents": dict(trial.contents),
        "model": trial.model,
        "source": trial.source,
        "target": trial.target,
        "regime": trial.regime,
        "depth": trial.depth,
        "depth_unit": trial.depth_unit,
        "trained_units": "+".join(trial.trained_units),
        "n_per_class": trial.n_per_class,
        "updates": trial.updates,
        "similarity": trial.similarity,
        "replicate": trial.replicate,
        "axes": dict(trial.axes),
        "declared": [digest(dump(claim)) for claim in trial.settings.claims],
    }


def tried(
    running: ActiveTrial, recipe: Recipe, source: Mapping[str, Any], flops: int
) -> dict[str, Any]:
    """Return the fields of a row that are known when all learning rates have been tried.

    Args:
      source: metadata of the source net; empty for a fresh one.
      flops: algorithmic cost of one update.
    """
    trial, settings, data = running.trial, running.trial.settings, running.data
    weights = recipe.network.abstract_variables
    row = describe(trial) | {
        "n_train": len(data.positions("train", trial.n_per_class)),
        "lr": best_rate(running.scores),
        "lr_at_edge": at_edge(running.scores),
        "n_rates": len(running.scores),
        "scores": [
            [rate, *((score[0], -score[1]) if score != NO_SCORE else (None, None))]
            for rate, score in sorted(running.scores.items())
        ],
        "n_val": len(data.draw.validation),
        "n_test": len(data.draw.test),
        "source_accuracy": source.get("accuracy"),
        "source_classes": len(source["classes"]) if source else None,
        "source_images": source.get("images"),
        "trained_weights": sum(weight_count(weights[unit]) for unit in recipe.plan.trained),
        "flops_per_update": flops,
        "subset_digest": data.subset_digest(trial.n_per_class),
        "classes": [data.domain.class_names[index] for index in data.draw.classes],
        "source_accuracy_by_part": source.get("accuracy_by_part", []),
    }
    if settings.augment is not None:
        row["augmented"] = recipe.augment is not None
    return row
