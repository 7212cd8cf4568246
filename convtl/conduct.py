"""Conducts a study from words or a composed config: runs what is missing, and reports it."""

import os
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convtl.cache import Cache, default_root
from convtl.cli import compose, compose_overrides, launcher_of, multirun, points, typed_keys
from convtl.config import Config
from convtl.entry import folder
from convtl.errors import UserError
from convtl.parsing import parse
from convtl.reporting.build import build, save_samples
from convtl.reporting.progress import Progress
from convtl.study.assignments import refuse_hidden
from convtl.study.claims import one_at_a_time
from convtl.study.dry_run import describe_plan
from convtl.study.grid import Trial, distinct, expand
from convtl.study.materials import Materials
from convtl.study.measured import measure
from convtl.study.record import make_record, run_on, write_record
from convtl.study.runner import Outcome, check_trials, run_trials, take_over, unfinished
from convtl.study.shares import ALL, REPORT, Part, check_shard, describe_shares, own_trials, unshared
from convtl.study.store import FINAL, RowStore
from convtl.study.tuning import frozen, tuning_points
from convtl.sweep import unshared_words, whole_of, with_shards
from convtl.tracking import Tracker, open_tracker
from convtl.training.devices import (
    device_line,
    keep_programs,
    leave_accelerators,
    peak_memory_gib,
    use_all_cores,
)
from convtl.training.probes.run import run_gradients


def out_folder(config: Config) -> Path:
    """Where a study's results are: `out`, or outputs/<study>."""
    return folder("out", config.out) if config.out else Path.cwd() / "outputs" / (config.study or "trials")


def cache_of(config: Config) -> Cache:
    return Cache(folder("cache", config.cache) if config.cache else default_root())


def run_study(content: Mapping[str, Any], command: str, part: Part | None = None) -> int:
    """Runs one composed study, or a part of it; returns the exit code (1 if trials failed).

    Args:
      part: what this process does; by default what `shards` and `shard` say.

    Raises:
      UserError: something that was asked for cannot be done; nothing was trained.
    """
    use_all_cores()  # again, for jobs that a launcher starts here
    config, trials = expand(content)
    check_shard(config)
    out, cache = out_folder(config), cache_of(config)
    tuning = tuning_points(content)
    if config.speed is not None:
        from convtl.speed.run import run_speed  # nobody else needs what it imports

        return run_speed(config, content, command, out, cache, lambda line: print(line, file=sys.stderr))
    if config.dry_run:
        print(describe_plan([*tuning, *frozen(trials, tuning, RowStore(out).read())], out, cache))
        for line in describe_shares(config, trials, Materials(cache, lambda what: None)):
            print(line)
        if tuning:
            print(f"then {len(distinct(trials))} trials at the rates that {len(tuning)} tuning trials choose")
        return 0
    if part is None:
        part = ALL
        if config.shards > 1:
            part = Part(own_trials(config, trials, Materials(cache, lambda what: None)), reports="last")
    return _run(config, part, tuning, trials, unshared(content), command, out, cache)


def _run(
    config: Config,
    part: Part,
    tuning: Sequence[Trial],
    trials: Sequence[Trial],
    content: Mapping[str, Any],
    command: str,
    out: Path,
    cache: Cache,
) -> int:
    began = time.perf_counter()
    keep_programs(cache.root)
    store, others = RowStore(out), _other_stores(config)
    save_to = out / "nets" if config.save == "best" else None
    own, helped = part.of(trials), tuning if part.works else []
    ready = frozen(own, tuning, store.read())  # a trial whose rate is not chosen yet is open too
    waiting = len(distinct(own)) - len(distinct(ready))
    left = len(unfinished(helped, store)) + len(unfinished(ready, store, save_to)) + waiting
    total = len(distinct([*helped, *own]))
    done = total - left
    progress = Progress(total, done)
    with closing(progress):
        materials = Materials(cache, progress.working_on)
        check_trials([*unfinished(helped, store), *own] if left else [], materials)
        store.prepare()
        progress.tracker = tracker = open_tracker(
            config.tracking, config.study or "trials", dict(content), out
        )
        take_over(tuning, store, others)
        outcome = _train(helped, store, materials, progress, tracker, None)
        rows = store.read()
        own, trials = frozen(own, tuning, rows), frozen(trials, tuning, rows)
        take_over(own, store, others)
        record = make_record(content, trials, command, device_line())
        record |= {} if part.works else run_on(out, record)
        write_record(out, record)
        outcome += _train(own, store, materials, progress, tracker, save_to)
        if part.works:
            with one_at_a_time(out, "around"):  # the first process does it, others find it done
                _around(config, trials, materials, out, bool(outcome.ran), progress.working_on)
    wall = time.perf_counter() - began
    report = _report(config, part, trials, store, record, wall if outcome.ran else None)
    if part.works:
        print(
            f"\n{outcome.ran} trials run, {done} were there; {wall:.0f} s, "
            f"peak memory {peak_memory_gib():.1f} GiB"
        )
    else:
        print(f"\n{len(distinct(trials)) - len(unfinished(trials, store))} trials are there")
        outcome.failed += _failures([*tuning, *trials], store)
    if report is not None:
        print(f"rows: {out / 'results.csv'}\nreport: {report}")
    listed = {trial.id for trial in (own if part.works else trials)}
    summary = {"trials": len(listed), "failed": len(outcome.failed), "seconds": wall}
    figures = [] if report is None else sorted((out / "figures").glob("*.png"))
    tracker.finish([row for name, row in store.read().items() if name in listed], figures, report, summary)
    for reason in dict.fromkeys(outcome.failed):
        print(f"convtl: {outcome.failed.count(reason)} trials failed: {reason}", file=sys.stderr)
    return 1 if outcome.failed else 0


def _failures(trials: Sequence[Trial], store: RowStore) -> list[str]:
    """Reasons of the trials that some process has given up."""
    rows = store.read()
    found = [rows.get(trial.id, {}) for trial in distinct(trials)]
    return [str(row["reason"]) for row in found if row.get("status") == "failed"]


def _around(
    config: Config,
    trials: Sequence[Trial],
    materials: Materials,
    out: Path,
    ran: bool,
    working_on: Callable[[str], None],
) -> None:
    """What belongs to a study beside its trials."""
    if ran or not (out / "samples.npz").exists():
        save_samples(out, trials, materials)
    if config.gradients is not None:
        run_gradients(config, out, materials.cache, working_on)
    if config.distances:
        measure(trials, materials, out, working_on)


def _report(
    config: Config,
    part: Part,
    trials: Sequence[Trial],
    store: RowStore,
    record: Mapping[str, Any],
    wall: float | None,
) -> Path | None:
    """Builds the report, if that is for this process to do; processes on one folder take turns."""
    if part.reports == "never":
        return None
    with one_at_a_time(store.out, "report"):
        rows = store.read()
        open_yet = {t.id for t in trials if rows.get(t.id, {}).get("status") not in (*FINAL, "failed")}
        if part.reports == "last" and open_yet:
            print(
                f"{len(open_yet)} trials of other shares are not finished: the last share to end makes the report; "
                f"python -m convtl.report out={shlex.quote(str(store.out))} makes one of what there is"
            )
            return None
        report, lines = build(store, config, record, wall if part.trials is None else None)
    print(lines)
    return report


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
    tracker: Tracker,
    save_to: Path | None,
) -> Outcome:
    """Runs what is missing; whatever happens, the table is left as the rows are."""
    try:
        return run_trials(trials, store, materials, progress, save_to)
    except BaseException as error:
        store.write_table(store.read().values())
        tracker.fail(f"{type(error).__name__}: {error}")
        raise


@dataclass(frozen=True)
class _Job:
    """What a launcher calls for every point of a sweep, here or in a process of its own.

    Attributes:
      whole: the composed study that all points are parts of; None where they are studies of their own.
      folder: where the sweep was started; relative paths are meant from there.
    """

    whole: dict[str, Any] | None
    command: str
    folder: str

    def __call__(self, content: dict[str, Any]) -> tuple[int, str]:
        """Returns the exit code, and a line where the job could not be done; exceptions may not travel."""
        try:
            os.chdir(self.folder)
            if self.whole is None:
                return run_study(content, self.command), ""
            config, trials = expand(content)
            use_all_cores()
            mine = own_trials(config, trials, Materials(cache_of(config), lambda what: None))
            return run_study(self.whole, self.command, Part(mine, reports="never")), ""
        except UserError as error:
            return 2, str(error)
        except Exception as error:
            traceback.print_exc()
            return 1, f"{type(error).__name__}: {error}".splitlines()[0]


def _sweep(words: Sequence[str]) -> int:
    """A `-m` sweep: every point is checked before the first is launched, and one report made of all of them."""
    words = with_shards(words)
    apart = launcher_of(words) != "basic"
    if apart:
        leave_accelerators()
    jobs = list(map(compose_overrides, points(words)))
    for job in jobs:
        refuse_hidden(typed_keys(words), job)
        check_shard(parse(job))
    studies = list({repr(unshared(job)): unshared(job) for job in jobs}.values())
    expanded = [expand(study) for study in studies]
    everywhere = [trial for _, trials in expanded for trial in trials]
    everywhere += [trial for study in studies for trial in tuning_points(study)]
    config = expanded[0][0]
    whole = whole_of(words, studies, everywhere)
    content, command = (
        (None, _command(["-m", *words])) if whole is None else (compose(whole), _command(whole))
    )
    if config.dry_run:
        shares = {key: jobs[0][key] for key in ("shards", "shard")}
        return max(run_study({**own, **shares}, command) for own in ([content] if content else studies))
    check_trials(
        unfinished(everywhere, RowStore(out_folder(config))), Materials(cache_of(config), lambda what: None)
    )
    codes = _launch(words, _Job(content, command, str(Path.cwd())), out_folder(config))
    if content is not None and any(code != 2 for code in codes):
        codes.append(run_study(content, command, REPORT))
    return max(codes)


def _launch(words: Sequence[str], job: _Job, out: Path) -> list[int]:
    """Runs every point; returns the exit codes, after a line for each thing that went wrong."""
    try:
        ended = multirun(words, job, out)
    except UserError:
        raise
    except Exception as error:  # a worker that was killed, a cluster that refuses: whatever a launcher raises
        ended = [(1, f"hydra/launcher: {type(error).__name__}: {error}".splitlines()[0])]
    for line in dict.fromkeys(line for _, line in ended if line):
        print(f"convtl: {line}", file=sys.stderr)
    return [code for code, _ in ended]


def conduct(words: Sequence[str]) -> int:
    """Runs what the words of a command line ask for; returns the exit code.

    Raises:
      UserError: it cannot be done; nothing was trained.
    """
    use_all_cores()
    if {"-m", "--multirun"} & set(words):
        return _sweep([word for word in words if word not in ("-m", "--multirun")])
    if (launcher := launcher_of(words)) != "basic":
        raise UserError(f"hydra/launcher: got '{launcher}' without -m; accepted: with -m")
    content = compose(words)
    refuse_hidden(typed_keys(words), content)
    return run_study(content, _command(unshared_words(words)))


def _command(words: Sequence[str]) -> str:
    return "python -m convtl.run " + " ".join(shlex.quote(word) for word in words)
