"""From the words of a command line to studies: one, or those of a `-m` sweep by a launcher."""

import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convtl.cli import compose, compose_overrides, launcher_of, multirun, points, typed_keys
from convtl.conduct import cache_of, folder_of, out_folder, run_study
from convtl.errors import UserError
from convtl.parsing import parse
from convtl.secrets import redacted, refuse_typed_secrets
from convtl.study.assignments import refuse_hidden
from convtl.study.grid import expand
from convtl.study.materials import Materials
from convtl.study.runner import check_trials, unfinished
from convtl.study.shares import REPORT, Part, check_shard, own_trials, unshared
from convtl.study.store import RowStore
from convtl.study.tuning import tuning_points
from convtl.sweep import unshared_words, whole_of, with_shards
from convtl.tracking import told_to_agent
from convtl.training.devices import leave_accelerators, use_all_cores


def conduct(words: Sequence[str]) -> int:
    """Runs what the words of a command line ask for; returns the exit code.

    Raises:
      UserError: it cannot be done; nothing was trained.
    """
    use_all_cores()
    refuse_typed_secrets(words)
    if {"-m", "--multirun"} & set(words):
        return _sweep([word for word in words if word not in ("-m", "--multirun")])
    if (launcher := launcher_of(words)) != "basic":
        raise UserError(f"hydra/launcher: got '{launcher}' without -m; accepted: with -m")
    content = compose(words)
    with told_to_agent(content, lambda: folder_of(content["out"], content["study"])):
        refuse_hidden(typed_keys(words), content)
        return run_study(content, _command(unshared_words(words)))


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
            use_all_cores()  # before `expand` touches JAX
            config, trials = expand(content)
            mine = own_trials(config, trials, Materials(cache_of(config), lambda what: None))
            return run_study(self.whole, self.command, Part(mine, reports="never")), ""
        except UserError as error:
            return error.code, redacted(str(error))
        except Exception as error:
            traceback.print_exc()
            return 1, redacted(f"{type(error).__name__}: {error}".splitlines()[0])


def _sweep(words: Sequence[str]) -> int:
    """A `-m` sweep: every point is checked before the first is launched, and one report made of all of them."""
    launcher = launcher_of(words)
    words = with_shards(words)
    if launcher != "basic":
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
        ended = [(1, redacted(f"hydra/launcher: {type(error).__name__}: {error}".splitlines()[0]))]
    for line in dict.fromkeys(line for _, line in ended if line):
        print(f"convtl: {line}", file=sys.stderr)
    return [code for code, _ in ended]


def _command(words: Sequence[str]) -> str:
    return "python -m convtl.run " + " ".join(shlex.quote(word) for word in words)
