"""From an invocation to studies, run and reported: one, or those of a `-m` sweep by a launcher."""

import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
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
from convtl.entry import folder, lenient_output
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
    """Check every point, launch the jobs, and report on all of them together."""
    prepare_jax()
    jobs, command = invocation.contents, invocation.command
    for job in jobs:
        parse(job)
    studies = list(
        {repr(study): study for study in ({**job, "worker": None} for job in jobs)}.values()
    )
    expanded = [expand(parse(study)) for study in studies]
    trials = [trial for _, points in expanded for trial in points]
    config = expanded[0][0]
    check(config, trials, whole=not is_slice(command))
    whole = whole_of(studies, trials)
    if config.dry_run:
        return max(run_study(study, command) for study in ([whole] if whole else studies))
    missing = unfinished(trials, RowStore(out_folder(config)))
    Materials(cache_of(config), lambda line: None).check(missing)
    codes = _launch(invocation, whole, out_folder(config))
    if whole is not None and any(code != 2 for code in codes):
        codes.append(run_study(whole, command, frozenset()))
    return max(codes)


def whole_of(studies: Sequence[dict[str, Any]], trials: Sequence[Trial]) -> dict[str, Any] | None:
    """Return the config of the study that all points of a sweep are parts of; None if there is none.

    Axes are merged to lists, any other key that may vary within a study becomes one of `axes`; the outcome counts
    only if its trials are just those of the points.

    Args:
      studies: what the points are composed to, each once and without `worker`.
      trials: those of all points.
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


@dataclass(frozen=True)
class _Job:
    """A point of a sweep as launchers call it, here or in a process of its own."""

    whole: dict[str, Any] | None  # config of the study that all points are parts of, if any
    command: str
    folder: str  # where the sweep was started; relative paths are meant from there
    sweep: int  # the process that waits for the jobs, and runs them itself where no launcher does
    stop: Path | None  # stops this job once it is there; None where the launcher is asked instead

    def __call__(self, content: dict[str, Any]) -> tuple[int, str]:
        """Return the exit code, and a line where the job could not be done; exceptions may not travel."""
        try:
            if os.getpid() != self.sweep:
                lenient_output()
            os.chdir(self.folder)
            with on_signals(self.stop):
                obey()
                return self._run(content), ""
        except UserError as error:
            return error.code, redacted(str(error))
        except Stopped as error:
            if os.getpid() == self.sweep:
                raise
            return error.code, f"jobs were stopped by {error}; the same command goes on"
        except Exception as error:
            print(redacted(traceback.format_exc()), file=sys.stderr)
            return 1, redacted(f"{type(error).__name__}: {error}".splitlines()[0])

    def _run(self, content: dict[str, Any]) -> int:
        if self.whole is None:
            return run_study(content, self.command)
        use_all_cores()  # before `expand` touches JAX
        part = frozenset(trial.id for trial in expand(parse(content))[1])
        return run_study(self.whole, self.command, part)


def _launch(invocation: Invocation, whole: dict[str, Any] | None, out: Path) -> list[int]:
    """Run every job; return the exit codes, after a line for each thing that went wrong."""
    here = invocation.launcher in ("processes", "submitit")
    try:
        with stopping_jobs() if here else nullcontext() as stop:
            try:
                job = _Job(whole, invocation.command, str(Path.cwd()), os.getpid(), stop)
                ended: list[tuple[int, str]] = launch(invocation, job, out)
            except Exception:
                obey()  # what a stopped launcher raises is no fault of its own
                raise
    except UserError:
        raise
    except Stopped:
        if invocation.launcher == "slurm":
            print("convtl: jobs that are in the queue go on; `scancel` ends them", file=sys.stderr)
        raise
    except Exception as error:  # a killed worker, a cluster that refuses: whatever launchers raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        ended = [(1, redacted(f"hydra/launcher: {reason}"))]
    for line in dict.fromkeys(line for _, line in ended if line):
        print(f"convtl: {line}", file=sys.stderr)
    return [code for code, _ in ended]


# --- one study -----------------------------------------------------------------------------


def out_folder(config: Config) -> Path:
    """Return the folder of a study's results: `out`, or outputs/<study>."""
    return folder("out", config.out or f"outputs/{config.study or 'trials'}")


def cache_of(config: Config) -> Cache:
    """Return the cache that a config names, or the user's own."""
    return Cache(folder("cache", config.cache) if config.cache else default_root())


def run_study(content: Mapping[str, Any], command: str, part: frozenset[str] | None = None) -> int:
    """Run one composed study, or a part of it; return the exit code (1 if trials failed).

    Args:
      part: what this process does of it (`Study.part`).

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
    total = len(study.scope)
    return total - len(study.unfinished()), total


def _run(study: Study, content: dict[str, Any], command: str) -> int:
    """Train what is missing, report it and mirror it to W&B; return the exit code."""
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
        every = store.read() if tracker is not None or not study.scope else {}
        trials = study.scope or distinct(study.trials)
        rows = [every[trial.id] for trial in trials if trial.id in every]
        if study.scope:
            memory = f"peak memory {peak_memory_gib():.1f} GiB"
            print(f"\n{runner.ran} trials run, {done} were there; {wall:.0f} s, {memory}")
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
) -> tuple[Runner, dict[str, Any]]:
    """Train what is missing; return what was run and the study's record."""
    store, trials = study.store, study.trials
    broadcast_from_primary(lambda: "ready")  # what other processes read is written
    record = make_record(content, trials, command, device_line())
    record |= {} if study.scope else run_on(store.out, record)
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
    if study.scope:
        with locked("out", store.out, "around"):  # the first process does it for the others
            if runner.ran or lacks_samples(store.out, trials, study.config.domains):
                save_samples(store.out, trials, study.materials)
            study.measure()
    return runner, record
