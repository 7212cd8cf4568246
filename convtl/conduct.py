"""Running and reporting an invocation: one study, or the jobs of a sweep."""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import yaml

from convtl.analysis.claims import check
from convtl.analysis.frame import read_rows, write_results
from convtl.analysis.record import run_on
from convtl.cli import Invocation, is_slice, launch, read
from convtl.config.parsing import parse
from convtl.config.schema import AXES, VARIABLE, Config
from convtl.entry import folder, guarded, lenient_output
from convtl.errors import StorageError, UserError, redact, redacted
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
from convtl.runtime.stopping import Stopped, held_back, obey, on_signals, stopping_jobs
from convtl.storage.cache import Cache, default_root
from convtl.storage.files import locked, storage_errors
from convtl.study.grid import Trial, distinct, expand
from convtl.study.materials import Materials
from convtl.study.rows import FINAL
from convtl.study.store import RowStore, make_record, write_record
from convtl.study.study import Runner, Study, unfinished
from convtl.study.watcher import Watcher
from convtl.tracking import open_tracker, tracking_errors
from convtl.training.devices import (
    device_line,
    devices_as,
    leave_accelerators,
    peak_memory_gib,
    use_all_cores,
)


def conduct(words: Sequence[str]) -> int:
    """Run what the words of a command line ask for; return the exit code.

    Raises:
      UserError: it cannot be done; nothing was trained.
    """
    show = "--cfg" in words and "job" in words
    invocation = read([word for word in words if not show or word not in ("--cfg", "job")])
    if show:
        for content in invocation.contents:
            print(yaml.safe_dump(redact(content), sort_keys=False, allow_unicode=True))
        return 0
    if invocation.launcher != "basic":
        leave_accelerators()
    use_all_cores()
    study, command = invocation.contents[0], invocation.command
    try:
        code = _sweep(invocation) if invocation.multirun else run_study(study, command)
    except Stopped:  # of several processes all stop together
        jax.distributed.shutdown()
        raise
    jax.distributed.shutdown()  # which waits for the others, so that none takes this end for a failure
    return code


def _sweep(invocation: Invocation) -> int:
    """Check all points of a sweep; run them here, or launch jobs and report on all."""
    prepare_jax()
    jobs, command = invocation.contents, invocation.command
    for job in jobs:
        parse(job)
    parts = [{**job, "worker": None} for job in jobs]
    studies = list({repr(part): part for part in parts}.values())
    expanded = [expand(parse(study)) for study in studies]
    trials = [trial for _, points in expanded for trial in points]
    config = expanded[0][0]
    check(config, trials, whole=not is_slice(command))
    whole = whole_of(studies, trials)
    if not config.dry_run:
        missing = unfinished(trials, RowStore(out_folder(config)))
        Materials(cache_of(config), lambda line: None).check(missing)
    if config.dry_run or invocation.launcher == "basic":
        return max([_run_point(study, command) for study in ([whole] if whole else studies)])
    codes, told = _launch(invocation, whole, out_folder(config)), 0
    if whole is not None and set(codes) != {2}:
        told = run_study(whole, command, frozenset())
    if codes and (worst := max(codes)) > told:
        where = f"their lines are above or in '{out_folder(config) / 'launch'}'"
        bad = f"{sum(map(bool, codes))} of {len(codes)} jobs ended badly, with exit code {worst}"
        print(f"convtl: hydra/launcher: {bad}; {where}", file=sys.stderr)
    return max([*(codes or [1]), told])


def _run_point(study: Mapping[str, Any], command: str) -> int:
    """Run one study of a sweep, with errors printed; return the exit code."""
    try:
        return run_study(study, command)
    except UserError as error:
        if is_distributed():  # the other processes are not where this one is
            raise
        print(f"convtl: {redacted(str(error))}", file=sys.stderr)
        return error.code


def whole_of(studies: Sequence[dict[str, Any]], trials: Sequence[Trial]) -> dict[str, Any] | None:
    """Return the config of the study that a sweep's points form, or None.

    Axes are merged to lists, other keys that may vary within a study become `axes`; the result must have exactly the
    trials of the points (`studies`, each once and without `worker`).
    """
    axes, others = {}, dict(studies[0]["axes"])
    for key, values in _varied(studies):
        if key in AXES:
            lists = [value if isinstance(value, list) else [value] for value in values]
            axes[key] = list(dict.fromkeys(value for each in lists for value in each))
        elif key.split(".")[0] in VARIABLE:
            others[key] = [value for i, value in enumerate(values) if value not in values[:i]]
        else:
            return None
    whole = {**studies[0], **axes, "axes": others}
    try:
        merged = expand(parse(whole))[1]
    except UserError:
        return None
    return whole if {trial.id for trial in merged} == {trial.id for trial in trials} else None


def _varied(
    contents: Sequence[Mapping[str, Any]], prefix: str = ""
) -> Iterator[tuple[str, list[Any]]]:
    """Yield the dotted keys in which contents differ, with the value of each."""
    for key in dict.fromkeys(key for content in contents for key in content):
        values: list[Any] = [content.get(key) for content in contents]
        if all(isinstance(value, Mapping) for value in values):
            yield from _varied(values, f"{prefix}{key}.")
        elif any(value != values[0] for value in values):
            yield f"{prefix}{key}", values


def _run_job(
    whole: dict[str, Any] | None, command: str, folder: Path, stop: Path | None, content: Any
) -> int:
    """Run one point of a sweep in a launcher's process; return the exit code.

    Paths are relative to `folder`, where the sweep was started; the job stops once the file `stop` exists.
    """

    def work(_: list[str]) -> int:
        os.chdir(folder)
        with on_signals(stop):
            obey()
            if whole is None:
                return run_study(content, command)
            use_all_cores()  # before `expand` touches JAX
            part = frozenset(trial.id for trial in expand(parse(content))[1])
            return run_study(whole, command, part or None)  # of no trials each measures all

    lenient_output()
    return guarded(work, [])


def _launch(invocation: Invocation, whole: dict[str, Any] | None, out: Path) -> list[int]:
    """Run all jobs; return their exit codes, none if the launcher failed."""
    here = invocation.launcher in ("processes", "submitit")
    try:
        with stopping_jobs() if here else nullcontext() as stop:
            job = partial(_run_job, whole, invocation.command, Path.cwd(), stop)
            return launch(invocation, job, out)
    except UserError:
        raise
    except KeyboardInterrupt:
        if invocation.launcher == "slurm":
            line = "jobs in the queue go on; `scancel` ends them"
            print(f"convtl: hydra/launcher: {line}", file=sys.stderr)
        raise
    except Exception as error:  # a killed worker, a cluster that refuses: whatever launchers raise
        obey()  # what a stopped launcher raises is no fault of its own
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"convtl: hydra/launcher: {redacted(reason)}", file=sys.stderr)
        return []


# --- one study -----------------------------------------------------------------------------


def out_folder(config: Config) -> Path:
    """Return the folder of a study's results: `out`, or outputs/<study>."""
    return folder("out", config.out or f"outputs/{config.study or 'trials'}")


def cache_of(config: Config) -> Cache:
    """Return the cache that a config names, or the user's own."""
    return Cache(folder("cache", config.cache) if config.cache else default_root())


def run_study(content: Mapping[str, Any], command: str, part: frozenset[str] | None = None) -> int:
    """Run a study, or a `part` of its trials; return 1 if trials failed, else 0.

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
            if not part:  # else the sweep that this job is one of has checked them
                power = check(config, trials, whole=not is_slice(command))
                if is_primary():
                    print(*power, sep="\n", end="\n" if power else "")
            study = Study(config, trials, out_folder(config), cache_of(config), part)
            if config.dry_run:
                print(*study.plan() if is_primary() else (), sep="\n")
                return 0
            if is_primary():
                return _run(study, {**content, "worker": None}, command)
            study.check()  # it trains with process 0, and writes nothing
            broadcast_from_primary(lambda: "ready")
            failed = study.run(Watcher()).failed
            study.measure()
            return 1 if failed else 0


def _run(study: Study, content: dict[str, Any], command: str) -> int:
    """Run, report and track the unfinished trials; return the exit code."""
    began = time.perf_counter()
    config, store, total = study.config, study.store, len(study.scope)
    done = total - len(study.unfinished())
    progress = Progress(total, done)
    with closing(progress):
        study.say = progress.working_on
        study.check()
        if done < total:
            with storage_errors("cache", study.cache.root):
                study.cache.root.mkdir(parents=True, exist_ok=True)
        store.prepare()
        # Each part is tracked by a run of its own.
        part = {"part": digest(sorted(study.part))} if study.part else {}
        tracker = open_tracker(config.tracking, config.study or "trials", content | part, store.out)
        progress.tracker = tracker
        with tracking_errors(tracker):
            runner, record = _train(study, content, command, progress)
    wall, failed, report = time.perf_counter() - began, list(runner.failed), None
    with tracking_errors(tracker):
        if not study.part:
            with locked("out", store.out, "report"):
                report = build(store.out, config, record)
            print(report.lines())
        every = store.read() if tracker is not None or study.only_reports else {}
        trials = distinct(study.trials) if study.only_reports else study.scope
        rows = [every[trial.id] for trial in trials if trial.id in every]
        if study.only_reports:
            failed += [str(row["reason"]) for row in rows if row["status"] == "failed"]
            print(f"\n{sum(row['status'] in FINAL for row in rows)} trials are there")
        else:
            memory = f"peak memory {peak_memory_gib():.1f} GiB"
            print(f"\n{runner.ran} trials run, {done} were there; {wall:.0f} s, {memory}")
        if report is not None:
            print(f"rows: {store.out / 'results.csv'}\nreport: {report.page}")
        reasons = [f"{failed.count(one)} trials failed: {one}" for one in dict.fromkeys(failed)]
        if tracker is not None:
            summary = {"trials": len(rows), "failed": len(failed), "seconds": wall}
            tracker.finish(rows, store.out if report else None, summary, "; ".join(reasons))
    for reason in reasons:
        print(f"convtl: {reason}", file=sys.stderr)
    store.sweep()  # what others left that were killed at the end
    return 1 if failed else 0


def _train(
    study: Study, content: dict[str, Any], command: str, progress: Progress
) -> tuple[Runner, dict[str, Any]]:
    """Run the unfinished trials; return the runner and the study's record."""
    store, trials = study.store, study.trials
    broadcast_from_primary(lambda: "ready")  # what other processes read is written
    record = make_record(content, trials, command, device_line())
    record |= run_on(store.out, record) if study.only_reports else {}
    write_record(store.out, record)
    if progress.tracker is not None:
        ids = {trial.id for trial in study.scope}
        rows = [row for id, row in store.read().items() if id in ids and row["status"] in FINAL]
        progress.tracker.begin(rows)
    try:
        runner = study.run(progress)
    except BaseException:
        with suppress(StorageError):  # then there is something else to be said
            write_results(store.out, read_rows(store.out))
        raise
    if not study.only_reports:
        with locked("out", store.out, "around"):  # the first process does it for the others
            if runner.ran or lacks_samples(store.out, trials, study.config.domains):
                save_samples(store.out, trials, study.materials)
            study.measure()
    return runner, record
