"""From an invocation to studies: one, or those of a `-m` sweep by a launcher."""

import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import yaml

from convtl.analysis.claims import check
from convtl.cli import Invocation, is_slice, launch, read
from convtl.conduct import cache_of, out_folder, run_study
from convtl.config.parsing import parse
from convtl.config.schema import AXES, VARIABLE
from convtl.entry import lenient_output
from convtl.errors import UserError
from convtl.runtime.backend import prepare_jax
from convtl.runtime.stopping import Stopped, obey, on_signals, stopping_jobs
from convtl.secrets import redact, redacted
from convtl.study.grid import Trial, expand
from convtl.study.materials import Materials
from convtl.study.store import RowStore
from convtl.study.study import REPORT_ONLY, Scope, unfinished
from convtl.training.devices import leave_accelerators, use_all_cores


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
        codes.append(run_study(whole, command, REPORT_ONLY))
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
    """A point of a sweep as launchers call it, here or in a process of its own.

    Attributes:
      whole: the config of the study that all points are parts of; None where they are studies of their own.
      folder: where the sweep was started; relative paths are meant from there.
      sweep: the process that waits for the jobs, and runs them itself where no launcher does.
      stop: a file that stops this job once it is there; None where the launcher is asked instead.
    """

    whole: dict[str, Any] | None
    command: str
    folder: str
    sweep: int
    stop: Path | None

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
        scope = frozenset(trial.id for trial in expand(parse(content))[1])
        return run_study(self.whole, self.command, Scope(scope, reports=False))


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
