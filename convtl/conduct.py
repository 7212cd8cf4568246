"""Conduct one composed study: run what is missing of it, or of a part of it, and report it."""

import sys
import time
from collections.abc import Mapping
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Any

from convtl.analysis.declared import claims_of
from convtl.analysis.record import run_on
from convtl.analysis.results import write_table
from convtl.config.parsing import parse
from convtl.config.schema import Config
from convtl.entry import folder
from convtl.errors import StorageError
from convtl.keys import digest
from convtl.reporting.build import build, lacks_samples, save_samples
from convtl.reporting.progress import Progress
from convtl.runtime.backend import prepare_jax
from convtl.runtime.processes import broadcast_from_primary, is_distributed, is_primary, join
from convtl.runtime.stopping import held_back, on_signals
from convtl.storage.cache import Cache, default_root
from convtl.storage.files import storage_errors
from convtl.study.grid import distinct, expand
from convtl.study.locks import one_at_a_time
from convtl.study.record import make_record, write_record
from convtl.study.rows import FINAL
from convtl.study.runner import Outcome
from convtl.study.store import saying_what_is_saved
from convtl.study.study import ALL, Scope, Study
from convtl.tracking import MAX_ROWS, Tracker, open_tracker, tracking_errors
from convtl.training.devices import device_line, devices_as, peak_memory_gib, use_all_cores


def out_folder(config: Config) -> Path:
    """Return the folder of a study's results: `out`, or outputs/<study>."""
    return folder("out", config.out or f"outputs/{config.study or 'trials'}")


def cache_of(config: Config) -> Cache:
    """Return the cache that a config names, or the user's own."""
    return Cache(folder("cache", config.cache) if config.cache else default_root())


def run_study(content: Mapping[str, Any], command: str, scope: Scope = ALL) -> int:
    """Run one composed study, or a part of it; return the exit code (1 if trials failed).

    Args:
      scope: what this process does of it.

    Raises:
      UserError: something that was asked for cannot be done; nothing was trained.
    """
    with on_signals():  # again, for jobs that a launcher starts
        use_all_cores()  # as well
        whole = parse(content)
        join(whole.distributed)  # before anything touches JAX, as `expand` does
        # Several processes stop only where they agree to: one that left alone would leave the others waiting.
        together = held_back() if is_distributed() else nullcontext()
        with together, devices_as(whole.devices):
            prepare_jax()
            config, trials = expand(whole)
            claims_of(config.scorecard)
            study = Study(config, trials, out_folder(config), cache_of(config), scope)
            return _conduct(study, {**content, "worker": None}, command)


def _conduct(study: Study, content: dict[str, Any], command: str) -> int:
    if study.config.dry_run:
        if is_primary():
            print(*study.plan(), sep="\n")
        return 0
    if not is_primary():  # it trains with process 0, and writes nothing
        study.check()
        broadcast_from_primary(lambda: "ready")
        failed = study.run(Progress(0, 0, silent=True)).failed
        study.measure()
        return 1 if failed else 0
    with saying_what_is_saved(study.store, lambda: _count(study)):
        code = _run(study, content, command)
        study.store.sweep()  # what others left that were killed at the end
    return code


def _count(study: Study) -> tuple[int, int]:
    """Return how many of this process's trials are done, and how many there are."""
    total = len(distinct(study.scope.of(study.trials)))
    return total - len(study.unfinished()), total


def _run(study: Study, content: dict[str, Any], command: str) -> int:
    began = time.perf_counter()
    config, store = study.config, study.store
    done, total = _count(study)
    progress = Progress(total, done)
    with closing(progress):
        study.say = progress.working_on
        study.check()
        if done < total:
            with storage_errors("cache", study.cache.root):
                study.cache.root.mkdir(parents=True, exist_ok=True)
        store.prepare()
        # Each scope is tracked by a run of its own.
        part = {"part": digest(sorted(study.scope.trials))} if study.scope.trials else {}
        progress.tracker = open_tracker(
            config.tracking, config.study or "trials", content | part, store.out
        )
        with tracking_errors(progress.tracker):
            outcome, record = _train(study, content, command, progress)
    wall = time.perf_counter() - began
    with tracking_errors(progress.tracker):
        report = _report(study, record, wall if outcome.ran else None)
        if study.scope.works:
            memory = f"peak memory {peak_memory_gib():.1f} GiB"
            print(f"\n{outcome.ran} trials run, {done} were there; {wall:.0f} s, {memory}")
        else:
            outcome.failed += _count_all(study)
        if report is not None:
            print(f"rows: {store.out / 'results.csv'}\nreport: {report}")
        if progress.tracker is not None:
            _track_results(study, progress.tracker, outcome, report, wall)
    for reason in dict.fromkeys(outcome.failed):
        print(f"convtl: {outcome.failed.count(reason)} trials failed: {reason}", file=sys.stderr)
    return 1 if outcome.failed else 0


def _train(
    study: Study, content: dict[str, Any], command: str, progress: Progress
) -> tuple[Outcome, dict[str, Any]]:
    """Train what is missing; return the outcome and the study's record."""
    store, trials = study.store, study.trials
    broadcast_from_primary(lambda: "ready")  # what other processes read is written
    record = make_record(content, trials, command, device_line())
    record |= {} if study.scope.works else run_on(store.out, record)
    write_record(store.out, record)
    if progress.tracker is not None:
        ids = {trial.id for trial in study.scope.of(trials)}
        rows = [row for id, row in study.rows.items() if id in ids and row["status"] in FINAL]
        progress.tracker.begin(rows)
    try:
        outcome = study.run(progress)
    except BaseException:
        with suppress(StorageError):  # then there is something else to be said
            write_table(store.out, study.rows.values())
        raise
    if study.scope.works:
        with one_at_a_time(store.out, "around"):  # the first process does it for the others
            if outcome.ran or lacks_samples(store.out, trials, study.config.domains):
                save_samples(store.out, trials, study.materials)
            study.measure()
    return outcome, record


def _count_all(study: Study) -> list[str]:
    """Say how many trials of a study are done, by whichever process; return the reasons of those that failed."""
    every = study.rows
    rows = [every[trial.id] for trial in distinct(study.trials) if trial.id in every]
    print(f"\n{sum(row.get('status') in FINAL for row in rows)} trials are there")
    return [str(row["reason"]) for row in rows if row["status"] == "failed"]


def _report(study: Study, record: Mapping[str, Any], wall: float | None) -> Path | None:
    """Build the report, if that is for this process to do; processes on one folder take turns."""
    if not study.scope.reports:
        return None
    with one_at_a_time(study.store.out, "report"):
        report, lines = build(study.store, study.config, record, wall)
    print(lines)
    return report


def _track_results(
    study: Study, tracker: Tracker, outcome: Outcome, report: Path | None, wall: float
) -> None:
    trials = study.scope.of(study.trials) if study.scope.works else study.trials
    every = study.rows
    rows = [every[trial.id] for trial in distinct(trials) if trial.id in every]
    summary = {"trials": len(rows), "failed": len(outcome.failed), "seconds": wall}
    out = None if report is None else study.store.out
    tracker.finish(rows[:MAX_ROWS], out, summary, outcome.failed)
