"""Conducts one composed study: runs what is missing of it, or of a part of it, and reports it."""

import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convtl.analysis.declared import claims_of
from convtl.config.parsing import parse
from convtl.config.schema import Config
from convtl.entry import folder
from convtl.errors import StorageError
from convtl.keys import digest
from convtl.reporting.build import build, lacks_samples, save_samples
from convtl.reporting.progress import Progress
from convtl.runtime.processes import agreed, join, leading, several, watched
from convtl.runtime.programs import keep_programs
from convtl.runtime.stopping import on_signals
from convtl.storage.cache import Cache, default_root
from convtl.study.grid import Trial, distinct, expand
from convtl.study.locks import one_at_a_time
from convtl.study.materials import Materials
from convtl.study.measurements import measure_study
from convtl.study.record import make_record, run_on, write_record
from convtl.study.runner import Outcome, run_trials, unfinished
from convtl.study.shares import ALL, Part, check_shard, own_trials, unshared
from convtl.study.store import FINAL, Row, RowStore, saying_what_is_saved
from convtl.study.study import Study
from convtl.tracking import MOST_ROWS, Silence, Tracker, open_tracker, told_of_errors
from convtl.training.devices import device_line, devices_as, peak_memory_gib, use_all_cores


def out_folder(config: Config) -> Path:
    """Where a study's results are: `out`, or outputs/<study>."""
    return folder_of(config.out, config.study)


def folder_of(out: str | None, study: str | None) -> Path:
    return folder("out", out) if out else Path.cwd() / "outputs" / (study or "trials")


def cache_of(config: Config) -> Cache:
    return Cache(folder("cache", config.cache) if config.cache else default_root())


@dataclass(frozen=True)
class _Study:
    """What is to be done.

    Attributes:
      trials: all of the study, whatever part of them this process runs.
      content: the composed config of the whole study, to be recorded.
    """

    config: Config
    part: Part
    trials: list[Trial]
    content: dict[str, Any]
    command: str
    store: RowStore
    cache: Cache

    @property
    def nets(self) -> Path | None:
        """Folder for tuned nets, if they are kept."""
        return self.store.out / "nets" if self.config.save == "best" else None

    @property
    def told(self) -> dict[str, Any]:
        """The content, and which part of the study this is: each part is tracked by a run of its own."""
        if self.part.trials is None or not self.part.works:
            return self.content
        return self.content | {"part": digest(sorted(self.part.trials))}

    def done(self) -> tuple[int, int]:
        """How many of the trials of this process are done, and how many there are."""
        own = self.part.of(self.trials)
        total = len(distinct(own))
        return total - len(unfinished(own, self.store, self.nets)), total


def run_study(content: Mapping[str, Any], command: str, part: Part | None = None) -> int:
    """Runs one composed study, or a part of it; returns the exit code (1 if trials failed).

    Args:
      part: what this process does; by default what `shards` and `shard` say.

    Raises:
      UserError: something that was asked for cannot be done; nothing was trained.
    """
    with on_signals():  # again, for jobs that a launcher starts
        use_all_cores()  # as well
        config = parse(content)
        join(config.distributed)  # before anything touches JAX, as `expand` does
        with devices_as(config.devices):
            study = _asked(config, content, command, part)
            if not several():
                return _alone(study)
            with watched(study.store.out / ".locks"):
                return _alone(study) if leading() else _along(study)


def _asked(whole: Config, content: Mapping[str, Any], command: str, part: Part | None) -> _Study:
    config, trials = expand(whole)
    claims_of(config.scorecard)
    check_shard(config)
    cache, store = cache_of(config), RowStore(out_folder(config))
    part = _share(config, trials, cache) if part is None else part
    return _Study(config, part, trials, unshared(content), command, store, cache)


def _share(config: Config, trials: Sequence[Trial], cache: Cache) -> Part:
    if config.shards == 1 or config.dry_run:
        return ALL
    return Part(own_trials(config, trials, Materials(cache, lambda what: None)), reports="last")


def _along(study: _Study) -> int:
    """What another than process 0 does where several train every run together: it only trains."""
    if study.config.dry_run:
        return 0
    progress = Progress(len(distinct(study.trials)), 0, silent=True)
    materials = Materials(study.cache, progress.working_on)
    keep_programs()
    own = study.part.of(study.trials)
    materials.check(own)
    agreed(lambda: "ready")
    outcome = run_trials(own, study.store, materials, progress, study.nets)
    return 1 if outcome.failed else 0


def _alone(study: _Study) -> int:
    config, store = study.config, study.store
    if config.dry_run:
        return _dry_run(study)
    with saying_what_is_saved(store, study.done):
        code = _run(study)
        store.sweep()  # what others left that were killed at the end
    return code


def _dry_run(study: _Study) -> int:
    print(*Study(study.config, study.trials, study.store.out, study.cache).plan(), sep="\n")
    return 0


def _run(study: _Study) -> int:
    began = time.perf_counter()
    config, store, trials = study.config, study.store, study.trials
    keep_programs()
    done, total = study.done()
    progress = Progress(total, done)
    with closing(progress):
        materials = Materials(study.cache, progress.working_on)
        own = study.part.of(study.trials)
        materials.check(own if done < total else [])
        store.prepare()
        progress.tracker = tracker = open_tracker(
            config.tracking, config.study or "trials", study.told, store.out
        )
        with told_of_errors(tracker):
            outcome, record = _trained(study, own, materials, progress, tracker)
    wall = time.perf_counter() - began
    with told_of_errors(tracker):
        report = _report(study, study.trials, record, wall if outcome.ran else None)
    if study.part.works:
        print(
            f"\n{outcome.ran} trials run, {done} were there; {wall:.0f} s, peak memory {peak_memory_gib():.1f} GiB"
        )
    else:
        print(f"\n{len(distinct(trials)) - len(unfinished(trials, store))} trials are there")
        outcome.failed += _failures(trials, store)
    if report is not None:
        print(f"rows: {store.out / 'results.csv'}\nreport: {report}")
    with told_of_errors(tracker):
        _tell(study, tracker, trials, outcome, report, wall)
    for reason in dict.fromkeys(outcome.failed):
        print(f"convtl: {outcome.failed.count(reason)} trials failed: {reason}", file=sys.stderr)
    return 1 if outcome.failed else 0


def _trained(
    study: _Study,
    own: Sequence[Trial],
    materials: Materials,
    progress: Progress,
    tracker: Tracker,
) -> tuple[Outcome, dict[str, Any]]:
    """Train what is missing; return the outcome and the study's record."""
    store, trials = study.store, study.trials
    agreed(lambda: "ready")  # what other processes read is written
    record = make_record(study.content, trials, study.command, device_line())
    record |= {} if study.part.works else run_on(store.out, record)
    write_record(store.out, record)
    tracker.begin(_there(store, own))
    outcome = _train(own, store, materials, progress, study.nets)
    if study.part.works:
        with one_at_a_time(store.out, "around"):  # the first process does it, others find it done
            _around(
                study.config, trials, materials, store.out, bool(outcome.ran), progress.working_on
            )
    return outcome, record


def _tell(
    study: _Study,
    tracker: Tracker,
    trials: Sequence[Trial],
    outcome: Outcome,
    report: Path | None,
    wall: float,
) -> None:
    """The results, for whoever follows the study."""
    if isinstance(tracker, Silence):  # rows of a large study take long to read
        return
    rows = study.store.read()
    listed = study.part.of(trials) if study.part.works else trials
    own = [name for name in dict.fromkeys(trial.id for trial in listed) if name in rows]
    summary = {"trials": len(own), "failed": len(outcome.failed), "seconds": wall}
    figures = [] if report is None else sorted((study.store.out / "figures").glob("*.png"))
    tracker.finish(
        [rows[name] for name in own[:MOST_ROWS]], figures, report, summary, outcome.failed
    )


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
    if ran or lacks_samples(out, trials, config.domains):
        save_samples(out, trials, materials)
    measure_study(config, trials, materials, out, working_on)


def _report(
    study: _Study, trials: Sequence[Trial], record: Mapping[str, Any], wall: float | None
) -> Path | None:
    """Builds the report, if that is for this process to do; processes on one folder take turns."""
    part, store = study.part, study.store
    if part.reports == "never":
        return None
    with one_at_a_time(store.out, "report"):
        if part.reports == "last" and (left := _left_open(trials, store)):
            print(
                f"{left} trials of other shares are not finished: the last share to end makes the report; "
                f"python -m convtl.report out={shlex.quote(str(store.out))} makes one of what there is"
            )
            return None
        report, lines = build(store, study.config, record, wall if part.trials is None else None)
    print(lines)
    return report


def _left_open(trials: Sequence[Trial], store: RowStore) -> int:
    """How many trials nobody has finished or given up."""
    return len({trial.id for trial in trials} - store.finished() - store.failed)


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
    yield from (
        row for name, row in store.read().items() if name in own and row.get("status") in FINAL
    )
