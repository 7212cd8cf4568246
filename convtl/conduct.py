"""Conducts a study from words or a composed config: runs what is missing, and reports it."""

import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

from convtl.cache import Cache, default_root
from convtl.cli import (
    compose,
    compose_overrides,
    multirun,
    points,
    typed_keys,
)
from convtl.config import Config
from convtl.entry import folder
from convtl.errors import StorageError, UserError
from convtl.parsing import parse
from convtl.reporting.build import build, save_samples
from convtl.reporting.progress import Progress
from convtl.secrets import refuse_typed_secrets
from convtl.stopping import on_signals
from convtl.study.assignments import refuse_hidden
from convtl.study.dry_run import describe_plan
from convtl.study.grid import Trial, distinct, expand
from convtl.study.materials import Materials
from convtl.study.measured import measure
from convtl.study.record import make_record, write_record
from convtl.study.runner import Outcome, check_trials, run_trials, take_over, unfinished
from convtl.study.store import FINAL, Row, RowStore, saying_what_is_saved
from convtl.study.tuning import frozen, tuning_points
from convtl.tracking import MOST_ROWS, open_tracker, told_of_errors, told_to_agent
from convtl.training.devices import device_line, peak_memory_gib, use_all_cores, use_devices
from convtl.training.probes.run import run_gradients
from convtl.training.processes import agreed, join, leading, several, watched
from convtl.training.programs import keep_programs


def out_folder(config: Config) -> Path:
    """Where a study's results are: `out`, or outputs/<study>."""
    return _out_folder(config.out, config.study)


def _out_folder(out: str | None, study: str | None) -> Path:
    return folder("out", out) if out else Path.cwd() / "outputs" / (study or "trials")


def cache_of(config: Config) -> Cache:
    return Cache(folder("cache", config.cache) if config.cache else default_root())


def run_study(content: Mapping[str, Any], command: str) -> int:
    """Runs one composed study; returns the exit code (1 if trials failed).

    Raises:
      UserError: something that was asked for cannot be done; nothing was trained.
    """
    with on_signals():  # again, for jobs that a launcher starts
        return _study(content, command)


def _study(content: Mapping[str, Any], command: str) -> int:
    use_all_cores()  # as well
    around = parse(content)
    join(around.distributed)  # before anything touches JAX, as `expand` does
    use_devices(around.devices)
    config, trials = expand(content)
    if several():
        return _together(config, trials, content, command)
    return _alone(config, trials, content, command)


def _together(config: Config, trials: Sequence[Trial], content: Mapping[str, Any], command: str) -> int:
    """As one of several processes on every run: process 0 does what one alone does, the others only train."""
    with watched(out_folder(config) / "claims"):
        if leading():
            return _alone(config, trials, content, command)
        if config.dry_run or config.speed is not None:
            return 0
        store = RowStore(out_folder(config))
        progress = Progress(len(distinct(trials)), 0, silent=True)
        materials = Materials(cache_of(config), progress.working_on)
        tuning = tuning_points(content)
        keep_programs(materials.cache.root)
        check_trials([*tuning, *trials], materials)
        agreed(lambda: "ready")
        tuned = run_trials(tuning, store, materials, progress)
        trials = frozen(trials, tuning, store.read())
        save_to = store.out / "nets" if config.save == "best" else None
        outcome = tuned + run_trials(trials, store, materials, progress, save_to)
    return 1 if outcome.failed else 0


def _alone(config: Config, trials: Sequence[Trial], content: Mapping[str, Any], command: str) -> int:
    out, cache = out_folder(config), cache_of(config)
    tuning = tuning_points(content)
    if config.speed is not None:
        from convtl.speed.run import run_speed  # nobody else needs what it imports

        return run_speed(config, content, command, out, cache, lambda line: print(line, file=sys.stderr))
    if config.dry_run:
        print(
            describe_plan(
                [*tuning, *frozen(trials, tuning, RowStore(out).read() if tuning else {})], out, cache
            )
        )
        if tuning:
            print(f"then {len(distinct(trials))} trials at the rates that {len(tuning)} tuning trials choose")
        return 0
    store = RowStore(out)
    with saying_what_is_saved(store, lambda: _done(config, tuning, trials, store)):
        code = _run(config, tuning, trials, content, command, store, cache)
        store.sweep()  # what others left that were killed at the end
    return code


def _nets(config: Config, store: RowStore) -> Path | None:
    return store.out / "nets" if config.save == "best" else None


def _done(
    config: Config, tuning: Sequence[Trial], trials: Sequence[Trial], store: RowStore
) -> tuple[int, int]:
    """How many trials are done, and how many there are."""
    ready = frozen(
        trials, tuning, store.read() if tuning else {}
    )  # a trial whose rate is not chosen yet is open too
    waiting = len(distinct(trials)) - len(distinct(ready))
    left = len(unfinished(tuning, store)) + len(unfinished(ready, store, _nets(config, store))) + waiting
    total = len(distinct([*tuning, *trials]))
    return total - left, total


def _run(
    config: Config,
    tuning: Sequence[Trial],
    trials: Sequence[Trial],
    content: Mapping[str, Any],
    command: str,
    store: RowStore,
    cache: Cache,
) -> int:
    began = time.perf_counter()
    keep_programs(cache.root)
    out, others, save_to = store.out, _other_stores(config), _nets(config, store)
    done, total = _done(config, tuning, trials, store)
    progress = Progress(total, done)
    with closing(progress), ExitStack() as tracked:
        materials = Materials(cache, progress.working_on)
        check_trials([*unfinished(tuning, store), *trials] if done < total else [], materials)
        store.prepare()
        progress.tracker = tracker = open_tracker(
            config.tracking, config.study or "trials", dict(content), out
        )
        tracked.enter_context(told_of_errors(tracker))
        take_over(tuning, store, others)
        agreed(lambda: "ready")  # what the others read is written
        tuned = _train(tuning, store, materials, progress, None)
        trials = frozen(trials, tuning, store.read() if tuning else {})
        take_over(trials, store, others)
        record = make_record(content, trials, command, device_line())
        write_record(out, record)
        tracker.begin(_there(store, trials))
        outcome = tuned + _train(trials, store, materials, progress, save_to)
        if outcome.ran or not (out / "samples.npz").exists():
            save_samples(out, trials, materials)
        if config.gradients is not None:
            run_gradients(config, out, cache, progress.working_on)
        if config.distances:
            measure(trials, materials, out, progress.working_on)
    wall = time.perf_counter() - began
    with told_of_errors(tracker):
        report, lines = build(store, config, record, wall if outcome.ran else None)
    print(lines)
    print(
        f"\n{outcome.ran} trials run, {done} were there; {wall:.0f} s, peak memory {peak_memory_gib():.1f} GiB"
    )
    print(f"rows: {out / 'results.csv'}\nreport: {report}")
    rows = store.read()
    own = [name for name in dict.fromkeys(trial.id for trial in trials) if name in rows]
    summary = {"trials": len(own), "failed": len(outcome.failed), "seconds": wall}
    shown = [rows[name] for name in own[:MOST_ROWS]]
    tracker.finish(shown, sorted((out / "figures").glob("*.png")), report, summary, outcome.failed)
    for reason in dict.fromkeys(outcome.failed):
        print(f"convtl: {outcome.failed.count(reason)} trials failed: {reason}", file=sys.stderr)
    return 1 if outcome.failed else 0


def _other_stores(config: Config) -> list[RowStore]:
    folders = [folder("rows_from", path) for path in config.rows_from]
    for path in folders:
        if not (path / "rows").is_dir():
            raise UserError(f"rows_from: got '{path}'; accepted: folders that convtl.run has written")
    return [RowStore(path) for path in folders]


def _train(
    trials: Sequence[Trial],
    store: RowStore,
    materials: Materials,
    progress: Progress,
    save_to: Path | None,
) -> Outcome:
    """Runs what is missing; whatever happens, the table is left as the rows are."""
    try:
        return run_trials(trials, store, materials, progress, save_to)
    except BaseException:
        with suppress(StorageError):  # then there is something else to be told
            store.write_table(store.read().values())
        raise


def _there(store: RowStore, trials: Sequence[Trial]) -> Iterator[Row]:
    """Rows of the trials that are done; read only if somebody asks."""
    own = {trial.id for trial in trials}
    yield from (row for name, row in store.read().items() if name in own and row.get("status") in FINAL)


def _sweep(words: Sequence[str]) -> int:
    """A `-m` sweep: every point is checked before the first is launched."""
    studies = [compose_overrides(point) for point in points(words)]
    typed = typed_keys(words)
    for content in studies:
        refuse_hidden(typed, content)
    expanded = [expand(content) for content in studies]
    everywhere = [trial for _, trials in expanded for trial in trials]
    everywhere += [trial for content in studies for trial in tuning_points(content)]
    out = out_folder(expanded[0][0])
    missing = unfinished(everywhere, RowStore(out))
    check_trials(missing, Materials(cache_of(expanded[0][0]), lambda what: None))
    codes: list[int] = []
    command = _command(["-m", *words])
    multirun(words, lambda content: codes.append(run_study(content, command)), out)
    return max(codes, default=0)


def conduct(words: Sequence[str]) -> int:
    """Runs what the words of a command line ask for; returns the exit code.

    Raises:
      UserError: it cannot be done; nothing was trained.
    """
    use_all_cores()
    refuse_typed_secrets(words)
    if {"-m", "--multirun"} & set(words):
        return _sweep([word for word in words if word not in ("-m", "--multirun")])
    content = compose(words)
    with told_to_agent(content, lambda: _out_folder(content["out"], content["study"])):
        refuse_hidden(typed_keys(words), content)
        return run_study(content, _command(words))


def _command(words: Sequence[str]) -> str:
    return "python -m convtl.run " + " ".join(shlex.quote(word) for word in words)
