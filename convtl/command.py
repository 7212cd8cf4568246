"""From an invocation to studies: one, or those of a `-m` sweep by a launcher."""

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from convtl.analysis.declared import claims_of
from convtl.cli import Invocation, multirun, read
from convtl.conduct import cache_of, out_folder, run_study
from convtl.config.parsing import parse
from convtl.config.schema import AXES, VARIABLE
from convtl.entry import lenient_output
from convtl.errors import UserError
from convtl.runtime.backend import prepare_jax
from convtl.runtime.processes import leave
from convtl.runtime.stopping import STOPPED, Stopped, obey, on_signals, stopping_children
from convtl.secrets import redact, redacted
from convtl.study.grid import Trial, expand
from convtl.study.materials import Materials
from convtl.study.runner import unfinished
from convtl.study.store import RowStore
from convtl.study.study import REPORT_ONLY, Scope
from convtl.training.devices import leave_accelerators, use_all_cores


def conduct(words: Sequence[str]) -> int:
    """Run what the words of a command line ask for; return the exit code.

    Raises:
      UserError: it cannot be done; nothing was trained.
    """
    flags = [word for word in words if word.startswith("-")]
    show = "--cfg" in flags and "job" in words
    invocation = read([word for word in words if not show or word not in ("--cfg", "job")])
    if show:
        for content in invocation.contents:
            print(yaml.safe_dump(redact(content), sort_keys=False, allow_unicode=True))
        return 0
    if invocation.launcher != "basic":
        leave_accelerators()
    use_all_cores()
    try:
        sweep = invocation.multirun
        code = (
            _sweep(invocation) if sweep else run_study(invocation.contents[0], invocation.command)
        )
    except Stopped:  # of several processes all stop together
        leave()
        raise
    leave()
    return code


def _sweep(invocation: Invocation) -> int:
    """Check every point, launch the jobs, and report on all of them together."""
    prepare_jax()
    for job in invocation.contents:
        parse(job)
    jobs = [{**job, "worker": None} for job in invocation.contents]
    studies = list({repr(job): job for job in jobs}.values())
    expanded = [expand(parse(study)) for study in studies]
    trials = [trial for _, points in expanded for trial in points]
    config = expanded[0][0]
    claims_of(config.scorecard)
    whole, command = whole_of(studies, trials), invocation.command
    if config.dry_run:
        return max(run_study(study, command) for study in ([whole] if whole else studies))
    missing = unfinished(trials, RowStore(out_folder(config)))
    Materials(cache_of(config), lambda line: None).check(missing)
    codes = _launch(
        invocation, _Job(whole, command, str(Path.cwd()), os.getpid()), out_folder(config)
    )
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
    varied = _varied(studies)
    others = {key: values for key, values in varied.items() if key not in AXES}
    if any(key.split(".")[0] not in VARIABLE for key in others):
        return None
    axes = {key: values for key, values in varied.items() if key in AXES}
    whole = {**studies[0], **axes, "axes": {**studies[0]["axes"], **others}}
    try:
        merged = expand(parse(whole))[1]
    except UserError:
        return None
    return whole if {trial.id for trial in merged} == {trial.id for trial in trials} else None


def _varied(studies: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Dotted key -> its values, in order, for every key in which the studies differ."""
    varied: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for study in studies for key in study):
        values: list[Any] = [study.get(key) for study in studies]
        if all(value == values[0] for value in values):
            continue
        if key in AXES:
            lists = [value if isinstance(value, list) else [value] for value in values]
            values = [value for listed in lists for value in listed]
        elif all(isinstance(value, Mapping) for value in values):
            varied |= {f"{key}.{inner}": listed for inner, listed in _varied(values).items()}
            continue
        varied[key] = [value for index, value in enumerate(values) if value not in values[:index]]
    return varied


@dataclass(frozen=True)
class _Job:
    """A point of a sweep as launchers call it, here or in a process of its own.

    Attributes:
      whole: the config of the study that all points are parts of; None where they are studies of their own.
      folder: where the sweep was started; relative paths are meant from there.
      sweep: the process that waits for the jobs, and runs them itself where no launcher does.
      busy: folder in which a process has a file while it runs a job; none where no signal is passed on.
    """

    whole: dict[str, Any] | None
    command: str
    folder: str
    sweep: int
    busy: str | None = None

    def __call__(self, content: dict[str, Any]) -> tuple[int, str]:
        """Return the exit code, and a line where the job could not be done; exceptions may not travel."""
        try:
            if os.getpid() != self.sweep:
                lenient_output()
            os.chdir(self.folder)
            with self._marked():
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

    @contextmanager
    def _marked(self) -> Iterator[None]:
        """Mark this process as busy while it handles signals; begin nothing in a sweep that was stopped."""
        if self.busy is None:
            yield
            return
        if (Path(self.busy) / STOPPED).exists():
            raise Stopped(signal.SIGTERM)
        marker = Path(self.busy) / str(os.getpid())
        with on_signals():
            marker.touch()
            try:
                yield
            finally:
                marker.unlink(missing_ok=True)

    def _run(self, content: dict[str, Any]) -> int:
        if self.whole is None:
            return run_study(content, self.command)
        use_all_cores()  # before `expand` touches JAX
        scope = frozenset(trial.id for trial in expand(parse(content))[1])
        return run_study(self.whole, self.command, Scope(scope, reports=False))


def _launch_here(invocation: Invocation, job: _Job, out: Path) -> list[tuple[int, str]]:
    """Run every point in processes of this machine, which get the signals of this one."""
    number = signal.SIGINT if invocation.launcher == "submitit" else signal.SIGTERM
    with tempfile.TemporaryDirectory(prefix="convtl-jobs-") as busy:
        try:
            with stopping_children(Path(busy), number):
                ended: list[tuple[int, str]] = multirun(invocation, replace(job, busy=busy), out)
        except Exception:
            obey()  # what a stopped launcher raises is no fault of its own
            raise
    return ended


def _launch(invocation: Invocation, job: _Job, out: Path) -> list[int]:
    """Run every point; return the exit codes, after a line for each thing that went wrong."""
    try:
        if invocation.launcher in ("processes", "submitit"):
            ended = _launch_here(invocation, job, out)
        else:
            ended = multirun(invocation, job, out)
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
