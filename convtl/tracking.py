"""What Weights & Biases is told about a study, if anything. The only door to wandb.

Rows on disk are the results; tracking only mirrors them. So once a study runs, trouble with wandb is
told once and the study goes on.
"""

import math
import netrc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlparse

from convtl.config import TrackingConfig
from convtl.errors import UserError

_UNTOLD = ("study", "config")
"""columns that are the same in all rows of a run"""

MOST_ROWS = 10_000
"""rows of the table that a finished study sends: wandb shows no more (`wandb.Table.MAX_ROWS`); the disk has them all"""

_PUBLIC_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com", "forge.coreweave.com")
"""names of the one public server; a login for one of them is a login for all"""


class Tracker(Protocol):
    """Listens to one process that works on a study."""

    def trial(self, row: dict[str, Any]) -> None:
        """A trial has ended and left `row`."""

    def progress(self, done: int, total: int) -> None:
        """So many of the study's trials are done, by whichever process."""

    def finish(
        self, table: list[dict[str, Any]], figures: list[Path], report: Path | None, summary: dict[str, Any]
    ) -> None:
        """The study is complete: its rows (`MOST_ROWS` at most), PNG files, the HTML report, the headline numbers."""

    def fail(self, reason: str) -> None:
        """The process ends before the study does."""


class _Silence:
    """Tells nobody."""

    def trial(self, row: dict[str, Any]) -> None: ...

    def progress(self, done: int, total: int) -> None: ...

    def finish(
        self, table: list[dict[str, Any]], figures: list[Path], report: Path | None, summary: dict[str, Any]
    ) -> None: ...

    def fail(self, reason: str) -> None: ...


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def open_tracker(
    config: TrackingConfig,
    study: str,
    resolved: dict[str, Any],
    out: Path,
    say: Callable[[str], None] = _to_stderr,
) -> Tracker:
    """Starts what `tracking.mode` asks for; `disabled` does not even import wandb.

    Args:
      config: mode, project, entity and group; the group is the study's name if there is none.
      study: name of the study.
      resolved: the resolved config as plain data, shown beside the run.
      out: folder of the study; wandb's files go under `out/wandb`.
      say: takes one line that tells where the run can be seen, and one if tracking breaks down.

    Raises:
      UserError: `online` without a login, or wandb refuses the run.
    """
    if config.mode == "disabled":
        return _Silence()
    import wandb  # here: it takes half a second

    if config.mode == "online":
        _require_login(wandb.setup().settings)
    # wandb goes elsewhere, with a warning that is silenced here, if the folder is not there
    out = Path(out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(
        silent=True, console="off", disable_git=True, disable_code=True, save_code=False, x_disable_stats=True
    )
    try:
        run = wandb.init(
            mode=config.mode,
            project=config.project,
            entity=config.entity,
            group=config.group or study,
            job_type="study",
            config=resolved,
            dir=str(out),
            settings=settings,
        )
    except (wandb.Error, OSError, ValueError) as error:
        raise UserError(f"tracking.mode: {config.mode} does not work ({_first_line(error)})") from None
    run.define_metric("trials_done")
    for pattern in ("trial/*", "study/*", "progress/*"):
        run.define_metric(pattern, step_metric="trials_done")
    folder = Path(run.dir).parent
    say(f"tracking: {run.url}" if config.mode == "online" else f"tracking: {folder} (wandb sync uploads it)")
    return _WandbTracker(run, say)


class _WandbTracker:
    """One wandb run: every trial of this process, running means, and the results at the end."""

    def __init__(self, run: Any, say: Callable[[str], None]) -> None:
        self._run = run
        self._say = say
        self._trials = 0
        self._diverged = 0
        self._val_accuracies: list[float] = []
        self._broken = False

    def trial(self, row: dict[str, Any]) -> None:
        self._trials += 1
        self._diverged += row.get("status") == "diverged"
        accuracy = _plain(row.get("val_accuracy"))
        if isinstance(accuracy, float | int) and math.isfinite(accuracy):
            self._val_accuracies.append(accuracy)
        values = {_trial_key(name): _plain(value) for name, value in row.items() if name not in _UNTOLD}
        told = {name: value for name, value in values.items() if value is not None} | self._study_values()
        self._try(lambda: self._run.log(told))

    def progress(self, done: int, total: int) -> None:
        told = {"trials_done": self._trials, "progress/done": done, "progress/total": total}
        self._try(lambda: self._run.log(told))

    def finish(
        self, table: list[dict[str, Any]], figures: list[Path], report: Path | None, summary: dict[str, Any]
    ) -> None:
        self._try(lambda: self._tell_results(table, figures, report))
        self._try(lambda: self._run.summary.update(summary))
        self._try(lambda: self._run.finish(exit_code=0))

    def fail(self, reason: str) -> None:
        self._try(lambda: self._run.summary.update({"failure": reason}))
        self._try(lambda: self._run.finish(exit_code=1))

    def _study_values(self) -> dict[str, float]:
        """What a sweep may optimise: never anything of the test split, which is read after every choice."""
        values: dict[str, float] = {"trials_done": self._trials, "study/diverged": self._diverged}
        if self._val_accuracies:
            values["study/mean_val_accuracy"] = math.fsum(self._val_accuracies) / len(self._val_accuracies)
            values["study/best_val_accuracy"] = max(self._val_accuracies)
            values["study/worst_val_accuracy"] = min(self._val_accuracies)
        return values

    def _tell_results(self, table: list[dict[str, Any]], figures: list[Path], report: Path | None) -> None:
        import wandb

        told: dict[str, Any] = {"trials_done": self._trials}
        if table:
            columns: list[Any] = list(dict.fromkeys(name for row in table for name in row))
            cells: list[Any] = [[_plain(row.get(name)) for name in columns] for row in table]
            told["results"] = wandb.Table(columns=columns, data=cells, allow_mixed_types=True)
        for path in figures:
            told[f"figures/{path.stem}"] = wandb.Image(str(path))
        if report is not None:
            told["report"] = wandb.Html(report.read_text(encoding="utf-8"), inject=False)
        self._run.log(told)

    def _try(self, tell: Callable[[], Any]) -> None:
        """Tracking never ends a study: whatever wandb raises is told once."""
        if self._broken:
            return
        try:
            tell()
        except Exception as error:
            self._broken = True
            self._say(f"tracking: stopped ({_first_line(error)}); the study goes on, its rows are on disk")


def _trial_key(name: str) -> str:
    return "trial/id" if name == "trial" else f"trial/{name}"


def _plain(value: Any) -> float | int | bool | str | None:
    """A number or text as Python's own type; None for what is neither."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    return value if isinstance(value, float | int | bool | str) else None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _require_login(settings: Any) -> None:
    """wandb would ask on the terminal, in the middle of a batch job too."""
    host = urlparse(settings.base_url).netloc
    known = settings.api_key or getattr(settings, "identity_token_file", None) or _in_netrc(host)
    if not known:
        raise UserError(
            f"tracking.mode: online needs a login for {host}; run `wandb login`, set WANDB_API_KEY,"
            " or use tracking.mode=offline"
        )


def _in_netrc(host: str) -> bool:
    hosts = _PUBLIC_HOSTS if host in _PUBLIC_HOSTS else (host,)
    named = os.environ.get("NETRC")
    for path in (named,) if named else ("~/.netrc", "~/_netrc"):
        try:
            logins = netrc.netrc(Path(path).expanduser()).hosts  # without its catch-all `default`
            if any(name in logins for name in hosts):
                return True
        except (OSError, RuntimeError, netrc.NetrcParseError):  # none, none of ours, or no home folder
            continue
    return False
