"""What is measured beside accuracy: a registry of names and functions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from convtl.config.schema import Config
from convtl.models.network import Variables
from convtl.study.grid import Trial
from convtl.study.materials import Materials
from convtl.study.measurements.movement import measure_movement
from convtl.study.measurements.similarity import Say, measure_similarity
from convtl.study.store import RowStore
from convtl.training.probe_table import run_gradients

OF_TRIALS: Mapping[str, tuple[str, Callable[[Path, Trial, Materials, Variables], Any]]] = {
    "movement": ("moved", measure_movement),
}
"""Name -> column of the row, and the function of (out, trial, materials, tuned net) that fills it."""

OF_STUDIES: Mapping[str, Callable[[Config, Sequence[Trial], Materials, Path, Say], None]] = {
    "gradients": lambda config, trials, materials, out, say: run_gradients(
        config, out, materials.cache, say
    ),
    "distances": lambda config, trials, materials, out, say: measure_similarity(
        trials, materials, out, say
    ),
}
"""Name -> function that writes to `out` what it does not hold yet."""


def columns_of(trial: Trial) -> list[str]:
    """Columns of a trial's row that its measurements fill."""
    return [OF_TRIALS[name][0] for name in OF_TRIALS if name in trial.settings.measure]


def missing_columns(trials: Sequence[Trial], store: RowStore) -> set[str]:
    """Ids of trials with a row that lacks a column of a measurement they ask for."""
    columns = {trial.id: columns_of(trial) for trial in trials}
    rows = store.read() if any(columns.values()) else {}
    return {
        name for name in columns if name in rows and not all(map(rows[name].get, columns[name]))
    }


def measure_trial(
    out: Path, trial: Trial, materials: Materials, tuned: Variables
) -> dict[str, Any]:
    """Columns of a trial's row that its measurements fill."""
    chosen = trial.settings.measure
    return {
        column: measure(out, trial, materials, tuned)
        for name, (column, measure) in OF_TRIALS.items()
        if name in chosen
    }


def measure_study(
    config: Config, trials: Sequence[Trial], materials: Materials, out: Path, say: Say
) -> None:
    """Take the measurements of a whole study that `out` does not hold yet."""
    for name, measure in OF_STUDIES.items():
        if name in config.measure:
            measure(config, trials, materials, out, say)
