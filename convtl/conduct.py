"""Conduct one composed study: run what is missing of it, or of a part of it, and report it."""

import sys
import time
from collections.abc import Mapping
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Any

from convtl.analysis.claims import check
from convtl.analysis.frame import read_rows, write_results
from convtl.analysis.record import run_on
from convtl.cli import is_slice
from convtl.config.parsing import parse
from convtl.config.schema import Config
from convtl.entry import folder
from convtl.errors import StorageError
from convtl.keys import digest
from convtl.reporting.progress import Progress
from convtl.reporting.report import build
from convtl.reporting.samples import lacks_samples, save_samples
from convtl.runtime.backend import (
    broadcast_from_primary,
    is_distributed,
    is_primary,
    join,
    prepare_jax,
)
from convtl.runtime.stopping import held_back, on_signals
from convtl.storage.cache import Cache, default_root
from convtl.storage.files import locked, storage_errors
from convtl.study.grid import distinct, expand
from convtl.study.rows import FINAL
from convtl.study.store import make_record, write_record
from convtl.study.study import ALL, Outcome, Scope, Study
from convtl.tracking import open_tracker, tracking_errors
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
            power = check(config, trials, whole=not is_slice(command))
            if scope.reports and is_primary():
                print(*power, sep="\n", end="\n" if power else "")
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
    code = _run(study, content, command)
    study.store.sweep()  # what others left that were killed at the end
    return code


def _count(study: Study) -> tuple[int, int]:
    """Return how many of this process's trials are done, and how many there are."""
    total = len(distinct(study.scope.of(study.trials)))
    return total - len(study.unfinished()), total


def _run(study: Study, content: dict[str, Any], command: str) -> int:
    """Train what is missing, report it and mirror it to W&B; return the exit code."""
    began = time.perf_counter()
    config, store, scope = study.config, study.store, study.scope
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
        part = {"part": digest(sorted(scope.trials))} if scope.trials else {}
        tracker = open_tracker(config.tracking, config.study or "trials", content | part, store.out)
        progress.tracker = tracker
        with tracking_errors(tracker):
            outcome, record = _train(study, content, command, progress)
    wall, failed, report = time.perf_counter() - began, list(outcome.failed), None
    with tracking_errors(tracker):
        if scope.reports:
            with locked("out", store.out, "report"):
                report = build(store.out, config, record)
            print(report.lines())
        trials = distinct(scope.of(study.trials) if scope.works else study.trials)
        every = store.read() if tracker is not None or not scope.works else {}
        rows = [every[trial.id] for trial in trials if trial.id in every]
        if scope.works:
            memory = f"peak memory {peak_memory_gib():.1f} GiB"
            print(f"\n{outcome.ran} trials run, {done} were there; {wall:.0f} s, {memory}")
        else:  # other processes ran them
            failed += [str(row["reason"]) for row in rows if row["status"] == "failed"]
            print(f"\n{sum(row['status'] in FINAL for row in rows)} trials are there")
        if report is not None:
            print(f"rows: {store.out / 'results.csv'}\nreport: {report.page}")
        reasons = [f"{failed.count(one)} trials failed: {one}" for one in dict.fromkeys(failed)]
        if tracker is not None:
            summary = {"trials": len(rows), "failed": len(failed), "seconds": wall}
            tracker.finish(rows, store.out if report else None, summary, "; ".join(reasons))
    for reason in reasons:
        print(f"convtl: {reason}", file=sys.stderr)
    return 1 if failed else 0


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
        rows = [row for id, row in store.read().items() if id in ids and row["status"] in FINAL]
        progress.tracker.begin(rows)
    try:
        outcome = study.run(progress)
    except BaseException:
        with suppress(StorageError):  # then there is something else to be said
            write_results(store.out, read_rows(store.out))
        raise
    if study.scope.works:
        with locked("out", store.out, "around"):  # the first process does it for the others
            if outcome.ran or lacks_samples(store.out, trials, study.config.domains):
                save_samples(store.out, trials, study.materials)
            study.measure()
    return outcome, record
