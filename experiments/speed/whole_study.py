"""The default study against PyTorch: in one process, and with a process for each trial."""

import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from compilations import Compilations
from context import Context
from result import Result, not_measured
from timing import Ratio, seconds

from convtl.config.parsing import parse
from convtl.models.registry import build_network
from convtl.runtime.cores import core_count
from convtl.study.grid import Trial, expand
from convtl.study.materials import Materials
from convtl.study.runner import run_trials
from convtl.study.store import Row, RowStore
from convtl.tracking import CurvePoint
from convtl.training.devices import device_count
from convtl.transfer.optim import schedule_values
from convtl.transfer.plan import make_plan

_ALIKE = 0.02
"""Largest difference of mean test accuracy; single trials may choose another rate."""
_ONE = (
    "The default study, source nets at hand: one PyTorch program (frozen layers without gradients)"
)
_MANY = "The same, a PyTorch process for each trial, as many at once as there are cores"


class Silent:
    """Watches a study and says nothing."""

    follows = False

    def say(self, line: str) -> None: ...
    def working_on(self, what: str) -> None: ...
    def expect(self, flops: float) -> None: ...
    def trial(self, row: Row, flops: float) -> None: ...
    def curve(self, points: Sequence[CurvePoint]) -> None: ...


def default_study(context: Context) -> list[Result]:
    """Every trial here; a part of the first replicate's in PyTorch, scaled up to all lanes."""
    _, trials = expand(parse(context.content))
    materials = Materials(context.cache, lambda what: None)
    materials.sources.prepare(
        trials, lambda ready, of: context.say(f"source nets: {ready} of {of}")
    )
    context.say(f"the default study: {len(trials)} trials")
    store = RowStore(context.scratch / "study")
    store.prepare()
    cpu = time.process_time()
    with Compilations() as compiled:
        ours = seconds(lambda: run_trials(trials, store, materials, Silent()))
    cores = _cores(ours, time.process_time() - cpu, compiled, len(trials))
    if context.no_torch is not None:
        return [
            cores,
            not_measured("study", _ONE, context.no_torch, 4.0),
            not_measured("study processes", _MANY, context.no_torch, 20.0),
        ]
    rows = store.read()
    chosen = _part(trials, context.speed.share)
    theirs = [_as_torch(materials, trial, rows[trial.id]) for trial in chosen]
    weight = sum(_work(rows[t.id]) for t in trials) / sum(_work(rows[t.id]) for t in chosen)
    return [
        cores,
        _in_one(context, ours, theirs, [rows[t.id] for t in chosen], weight, len(trials)),
        _in_many(context, ours, theirs, [rows[t.id] for t in chosen], len(trials)),
    ]


def _cores(wall: float, cpu: float, compiled: Compilations, count: int) -> Result:
    """How much of its devices' time a study works; on accelerators its host hardly does."""
    busy = cpu / wall / device_count()
    return Result(
        "study cores",
        "The default study: processor time, as a share of all cores'",
        ours=f"{cpu:.0f} s of processor time in {wall:.0f} s, {count} trials",
        ratio=Ratio(busy, busy, busy),
        unit="",
        limit=f"{compiled.seconds:.0f} s of it compile {compiled.number} programs anew (a second study would read "
        "them from disk); a host of few cores has none to spare for compiling beside training",
    )


def _part(trials: Sequence[Trial], every: int) -> list[Trial]:
    """Some trials of the first replicate, of all depths."""
    first = [trial for trial in trials if trial.replicate == trials[0].replicate]
    return first[::every]


def _work(row: Row) -> float:
    """Updates at all rates; depths, which cost unequally, are spread evenly over the part that is taken."""
    return float(row["n_rates"]) * float(row["updates"])


def _as_torch(materials: Materials, trial: Trial, row: Row) -> Any:
    from pytorch.trials import TorchTrial

    data, settings = materials.target_data(trial), trial.settings
    labels = data.train_labels(trial.n_per_class)
    network = build_network(settings.models[trial.model], data.domain.image_shape, data.classes)
    plan = make_plan(network, settings.regimes[trial.regime], trial.depth, trial.updates)
    (phase,) = plan.phases
    return TorchTrial(
        variables=materials.start(trial).variables,
        depth=trial.depth,
        images=np.asarray(data.train_images(trial.n_per_class)[:]),
        labels=labels,
        batches=data.batch_positions(len(labels), settings.batch_size, 0, trial.updates),
        factors=schedule_values(settings.schedule, phase),
        rates=[float(rate) for rate, *_ in row["scores"]],
        validation=_whole(data.held_out("validation")),
        test=_whole(data.held_out("test")),
    )


def _whole(part: tuple[Any, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(part[0][:]), part[1]


def _in_one(
    context: Context,
    ours: float,
    theirs: Sequence[Any],
    rows: Sequence[Row],
    weight: float,
    count: int,
) -> Result:
    from pytorch import side
    from pytorch.trials import run_trial

    context.say(f"{len(theirs)} trials in one PyTorch program")
    times = {}
    run_trial(theirs[-1])  # what only a first call has to do
    for threads in (1, core_count()):
        setting = side.Setting(True, False, threads)
        times[threads] = seconds(side.within(setting, lambda: run_trial(theirs[-1])))
    threads = min(times, key=lambda number: times[number])
    setting = side.Setting(True, False, threads)
    found: list[tuple[float, float]] = []
    taken = seconds(
        side.within(setting, lambda: found.extend(run_trial(trial) for trial in theirs))
    )
    whole = taken * weight
    here, there = (
        mean(float(row["test_accuracy"]) for row in rows),
        mean(accuracy for _, accuracy in found),
    )
    return Result(
        "study",
        _ONE,
        ours=f"{ours:.0f} s for {count} trials",
        theirs=f"{whole:.0f} s, from {len(theirs)} trials ({setting})",
        ratio=Ratio(whole / ours, whole / ours, whole / ours),
        goal=4.0,
        wrong=_apart(here, there, len(rows)),
        limit="the trials that train everything: see LeNet-5 batched; features are computed once here",
        note=f"mean test accuracy of those trials: {here:.3f} here, {there:.3f} there",
    )


def _apart(here: float, there: float, count: int) -> str | None:
    """What is wrong with mean accuracies, if anything."""
    if abs(here - there) <= _ALIKE:
        return None
    return f"mean test accuracy of {count} trials: {here:.3f} here, {there:.3f} there"


def _in_many(
    context: Context, ours: float, theirs: Sequence[Any], rows: Sequence[Row], count: int
) -> Result:
    from pytorch import process

    context.say("PyTorch, a process for each trial")
    places = (
        np.linspace(0, len(theirs) - 1, min(len(theirs), context.speed.processes))
        .round()
        .astype(int)
    )
    paths = []
    for number, trial in enumerate(theirs[place] for place in places):
        paths.append(Path(context.scratch) / f"trial{number}.npz")
        process.save(trial, paths[-1])
    began = time.perf_counter()
    there = mean(_all_at_once(paths, core_count()))
    whole = (time.perf_counter() - began) / len(paths) * count
    here = mean(float(rows[place]["test_accuracy"]) for place in places)
    return Result(
        "study processes",
        _MANY,
        ours=f"{ours:.0f} s for {count} trials",
        theirs=f"{whole:.0f} s, from {len(paths)} trials",
        ratio=Ratio(whole / ours, whole / ours, whole / ours),
        goal=20.0,
        wrong=_apart(here, there, len(paths)),
        limit="there: training, most of it; then starting Python and importing PyTorch for each trial",
    )


def _all_at_once(paths: Sequence[Path], at_once: int) -> list[float]:
    """Runs a process for each file, so many at a time, each with one thread; what accuracy each found."""
    with ThreadPoolExecutor(at_once) as pool:  # a thread waits for a process
        return list(pool.map(_in_a_process, paths))


def _in_a_process(path: Path) -> float:
    command = [sys.executable, "-m", "pytorch.process", str(path), "1"]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent
    )
    _, accuracy = done.stdout.split()
    return float(accuracy)
