"""From the words of a command line to studies: one, or those of a `-m` sweep by a launcher."""

import os
import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convtl.analysis.declared import claims_of
from convtl.cli import (
    class_of_launcher,
    compose,
    compose_overrides,
    launcher_of,
    multirun,
    points,
    typed_keys,
)
from convtl.conduct import cache_of, folder_of, out_folder, run_study
from convtl.config.parsing import parse
from convtl.errors import UserError
from convtl.runtime.jobs import announced, asking_jobs
from convtl.runtime.stopping import Stopped, let_go, one_job
from convtl.secrets import redacted, refuse_typed_secrets
from convtl.study.assignments import refuse_hidden
from convtl.study.grid import expand
from convtl.study.materials import Materials
from convtl.study.runner import unfinished
from convtl.study.shares import REPORT, Part, check_shard, own_trials, unshared
from convtl.study.store import RowStore
from convtl.sweep import unshared_words, whole_of, with_shards
from convtl.tracking import told_to_agent
from convtl.training.devices import leave_accelerators, use_all_cores

_ON_THIS_MACHINE = ("JoblibLauncher", "LocalLauncher")
"""Launchers whose jobs are processes that this one has started."""


def conduct(words: Sequence[str]) -> int:
    """Runs what the words of a command line ask for; returns the exit code.

    Raises:
      UserError: it cannot be done; nothing was trained.
    """
    use_all_cores()
    if {"-m", "--multirun"} & set(words):
        refuse_typed_secrets(words)
        return _sweep([word for word in words if word not in ("-m", "--multirun")])
    typed = _typed(words)
    with told_to_agent(typed, lambda: folder_of(typed["out"], typed["study"])):
        return _one_study(words)


def _one_study(words: Sequence[str]) -> int:
    refuse_typed_secrets(words)
    if (launcher := launcher_of(words)) != "basic":
        raise UserError(f"hydra/launcher: got '{launcher}' without -m; accepted: with -m")
    content = compose(words)
    _refuse_untyped_online(words, content)
    with told_to_agent(content, lambda: folder_of(content["out"], content["study"])):
        refuse_hidden(typed_keys(words), content)
        return run_study(content, _command(unshared_words(words)))


def _refuse_untyped_online(words: Sequence[str], content: Mapping[str, Any]) -> None:
    """Refuse a config file that sends results to a server: whoever runs a study decides that.

    Raises:
      UserError: `tracking.mode` is online and was not typed.
    """
    tracking = content.get("tracking")
    online = isinstance(tracking, Mapping) and tracking.get("mode") == "online"
    if online and not {"tracking", "tracking.mode"} & set(typed_keys(words)):
        raise UserError(
            "tracking.mode: got 'online' from a file; accepted: typed, as tracking.mode=online"
        )


@dataclass(frozen=True)
class _Job:
    """What a launcher calls for every point of a sweep, here or in a process of its own.

    Attributes:
      whole: the composed study that all points are parts of; None where they are studies of their own.
      folder: where the sweep was started; relative paths are meant from there.
      sweep: the process that waits for the jobs, and runs them itself where no launcher does.
      jobs: folder in which jobs in processes of this machine say that they are there.
    """

    whole: dict[str, Any] | None
    command: str
    folder: str
    sweep: int
    jobs: Path | None

    def __call__(self, content: dict[str, Any]) -> tuple[int, str]:
        """Returns the exit code, and a line where the job could not be done; exceptions may not travel."""
        apart = os.getpid() != self.sweep
        try:
            with (
                let_go() if not apart else one_job() if self.jobs is None else announced(self.jobs)
            ):
                os.chdir(self.folder)
                return self._run(content), ""
        except UserError as error:
            return error.code, redacted(str(error))
        except Stopped as error:
            if not apart:
                raise
            return (
                error.code,
                f"jobs were stopped by {error}; the same command goes on where they stopped",
            )
        except Exception as error:
            print(redacted(traceback.format_exc()), file=sys.stderr)
            return 1, redacted(f"{type(error).__name__}: {error}".splitlines()[0])

    def _run(self, content: dict[str, Any]) -> int:
        if self.whole is None:
            return run_study(content, self.command)
        use_all_cores()  # before `expand` touches JAX
        config, trials = expand(parse(content))
        mine = own_trials(config, trials, Materials(cache_of(config), lambda what: None))
        return run_study(self.whole, self.command, Part(mine, reports="never"))


def _sweep(words: Sequence[str]) -> int:
    """A `-m` sweep: every point is checked before the first is launched, and one report made of all of them."""
    launcher = launcher_of(words)
    words = with_shards(words)
    if launcher != "basic":
        leave_accelerators()
    jobs = list(map(compose_overrides, points(words)))
    for job in jobs:
        refuse_hidden(typed_keys(words), job)
        _refuse_untyped_online(words, job)
        check_shard(parse(job))
    studies = list({repr(unshared(job)): unshared(job) for job in jobs}.values())
    expanded = [expand(parse(study)) for study in studies]
    everywhere = [trial for _, trials in expanded for trial in trials]
    config = expanded[0][0]
    claims_of(config.scorecard)
    whole = whole_of(words, studies, everywhere)
    content, command = (
        (None, _command(["-m", *words])) if whole is None else (compose(whole), _command(whole))
    )
    if config.dry_run:
        shares = {key: jobs[0][key] for key in ("shards", "shard")}
        return max(
            run_study({**own, **shares}, command) for own in ([content] if content else studies)
        )
    materials = Materials(cache_of(config), lambda what: None)
    materials.check(unfinished(everywhere, RowStore(out_folder(config))))
    kind, out = class_of_launcher(words), out_folder(config)
    task = _Job(content, command, str(Path.cwd()), os.getpid(), _announcements(kind, out))
    codes = _launch(words, task, kind, out)
    if content is not None and any(code != 2 for code in codes):
        codes.append(run_study(content, command, REPORT))
    return max(codes)


def _announcements(kind: str, out: Path) -> Path | None:
    return out / "launch" / f"jobs-{os.getpid()}" if kind in _ON_THIS_MACHINE else None


def _launch(words: Sequence[str], task: _Job, kind: str, out: Path) -> list[int]:
    """Runs every point; returns the exit codes, after a line for each thing that went wrong."""
    try:
        with nullcontext() if task.jobs is None else asking_jobs(task.jobs):
            ended = _ended(words, task, out)
    except Stopped:
        if kind == "JoblibLauncher":
            from joblib.externals.loky import get_reusable_executor

            # its processes have nothing to do any more, and would wait
            get_reusable_executor().shutdown(kill_workers=True)
        if kind == "SlurmLauncher":
            print("convtl: jobs that are in the queue go on; `scancel` ends them", file=sys.stderr)
        raise
    for line in dict.fromkeys(line for _, line in ended if line):
        print(f"convtl: {line}", file=sys.stderr)
    return [code for code, _ in ended]


def _typed(words: Sequence[str]) -> dict[str, Any]:
    """What words say of where a study is tracked, should nothing else be known of it."""
    given = dict(word.lstrip("+").split("=", 1) for word in words if "=" in word)
    tracking = {
        key.removeprefix("tracking."): text
        for key, text in given.items()
        if key.startswith("tracking.")
    }
    return {
        "tracking": {"mode": "disabled"} | tracking,
        "study": given.get("study"),
        "out": given.get("out"),
    }


def _ended(words: Sequence[str], task: _Job, out: Path) -> list[tuple[int, str]]:
    try:
        return multirun(words, task, out)
    except UserError:
        raise
    except (
        Exception
    ) as error:  # a worker that was killed, a cluster that refuses: whatever a launcher raises
        return [(1, redacted(f"hydra/launcher: {type(error).__name__}: {error}".splitlines()[0]))]


def _command(words: Sequence[str]) -> str:
    return "python -m convtl.run " + " ".join(shlex.quote(word) for word in words)
