"""One run of W&B. The only door to wandb."""

import _thread
import netrc
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import wandb

from convtl.config.schema import TrackingConfig
from convtl.errors import UserError
from convtl.keys import digest
from convtl.tracking.kept_id import KeptId
from convtl.tracking.means import Means, curve_values, plain
from convtl.tracking.tracker import CurvePoint, Row, Tracker

_UNTOLD = ("study", "config")
"""columns that are the same in all rows of a run"""

_PUBLIC_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com", "forge.coreweave.com")
"""names of the one public server; a login for one of them is a login for all"""

_FAILED, _STOPPED = 1, 255
"""exit codes that W&B is told: it calls a run that ends with the second one killed"""

_SECONDS = 5
"""how long W&B may take to answer a process that is about to be taken away"""


def begin_run(
    config: TrackingConfig,
    study: str,
    resolved: dict[str, Any],
    out: Path,
    say: Callable[[str], None],
) -> Tracker:
    """Begins a run, or goes on with that of an earlier process; see `open_tracker`.

    An id that an agent gives (WANDB_RUN_ID) comes before the one that was kept.

    Raises:
      UserError: `online` without a login, or wandb refuses the run.
    """
    if config.mode == "online":
        _require_login(wandb.setup().settings)
    # wandb goes elsewhere, with a warning that is silenced here, if the folder is not there
    out.mkdir(parents=True, exist_ok=True)
    stop, kept = _Stop(), KeptId(out, digest(resolved))
    earlier = None if os.environ.get("WANDB_RUN_ID") else kept.id

    def begin(name: str | None) -> Any:
        return wandb.init(
            mode=config.mode,
            project=config.project,
            entity=config.entity,
            group=config.group or study,
            job_type="study",
            config=resolved,
            dir=str(out),
            id=name,
            resume="allow",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                save_code=False,
                x_disable_stats=True,
                stop_fn=stop,
            ),
        )

    try:
        try:
            run = begin(earlier)
        except (wandb.Error, OSError, ValueError) as error:
            if earlier is None:
                raise
            run = begin(None)
            say(
                f"tracking: run {earlier} does not go on ({_first_line(error)}); another one is begun"
            )
    except (wandb.Error, OSError, ValueError) as error:
        kept.release()
        refused = UserError(f"tracking.mode: {config.mode} does not work ({_first_line(error)})")
        refused.told = True  # as far as it can be
        raise refused from None
    kept.keep(run.id)
    run.define_metric("trials_done")
    for pattern in ("trial/*", "progress/*"):
        run.define_metric(pattern, step_metric="trials_done")
    folder = Path(run.dir).parent
    say(
        f"tracking: {run.url}"
        if config.mode == "online"
        else f"tracking: {folder} (wandb sync uploads it)"
    )
    return WandbTracker(run, say, kept, stop)


class _Stop:
    """What wandb calls when its server wants the run to end: as Ctrl-C, but remembered as what it is."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> None:
        self.asked = True
        _thread.interrupt_main()


class WandbTracker:
    """Every trial of this process, validation accuracy while it trains, and the results at the end."""

    follows = True

    def __init__(
        self,
        run: Any,
        say: Callable[[str], None],
        kept: KeptId | None = None,
        stop: _Stop | None = None,
    ) -> None:
        self._run, self._say, self._kept, self._stop = run, say, kept, stop
        self._means, self._tuning = Means(), True
        self._trials = 0
        self._broken = False

    def begin(self, there: Iterable[Row]) -> None:
        self._tuning = False
        for row in there:
            self._means.add_row(row)
        if self._means.done:
            self._tell(self._study_values())

    def curve(self, points: Sequence[CurvePoint]) -> None:
        if not points:
            return
        if not self._tuning:
            self._means.add_points(points)
        self._tell(curve_values(points) | self._study_values())

    def trial(self, row: Row) -> None:
        self._trials += 1
        if not self._tuning:
            self._means.add_row(row)
        values = {
            _trial_key(name): plain(value) for name, value in row.items() if name not in _UNTOLD
        }
        told = {name: value for name, value in values.items() if value is not None}
        self._tell(told | {"trials_done": self._trials} | self._study_values())

    def progress(self, done: int, total: int) -> None:
        self._tell({"trials_done": self._trials, "progress/done": done, "progress/total": total})

    def finish(
        self,
        table: Sequence[Row],
        figures: Sequence[Path],
        report: Path | None,
        summary: dict[str, Any],
        failures: Sequence[str] = (),
    ) -> None:
        final = Means()  # whoever ran them
        for row in table:
            final.add_row(row)
        self._means, self._tuning = final, False
        self._try(lambda: self._tell_results(table, figures, report))
        self._try(lambda: self._run.summary.update(summary))
        if failures:
            counts = {reason: failures.count(reason) for reason in failures}
            told = (
                f"{n} {'trial' if n == 1 else 'trials'} failed: {reason}"
                for reason, n in counts.items()
            )
            self._end(_FAILED, "; ".join(told))
        else:
            self._end(0)

    def fail(self, reason: str) -> None:
        self._end(_FAILED, reason)

    def preempted(self, reason: str) -> None:
        if (self._stop is not None and self._stop.asked) or self._unwanted():
            self._end(
                _STOPPED, "stopped by W&B"
            )  # early, as bad as it is, or by hand: not to be run again
            return
        self._try(self._run.mark_preempting)
        self._try(lambda: self._run.summary.update({"preempted": reason}))
        self._end(_STOPPED, later=True)

    def _unwanted(self) -> bool:
        """Whether W&B wants this run to end: an agent says so by the signal that a scheduler sends, too."""
        if self._broken or self._run.offline or not os.environ.get("WANDB_SWEEP_ID"):
            return False
        try:
            from wandb.sdk.launch.api import LaunchApi  # the one place of wandb that asks for it

            asking = LaunchApi(timeout=_SECONDS)
            return asking.check_stop_requested(self._run.project, self._run.entity, self._run.id)
        except Exception:  # a network that is gone, another wandb: then it is to go on
            return False

    def _study_values(self) -> dict[str, float]:
        return {} if self._tuning else self._means.values()

    def _tell_results(
        self, table: Sequence[Row], figures: Sequence[Path], report: Path | None
    ) -> None:
        told: dict[str, Any] = {"trials_done": self._trials} | self._study_values()
        if table:
            columns: list[Any] = list(dict.fromkeys(name for row in table for name in row))
            cells: list[Any] = [[plain(row.get(name)) for name in columns] for row in table]
            told["results"] = wandb.Table(columns=columns, data=cells, allow_mixed_types=True)
        for path in figures:
            told[f"figures/{path.stem}"] = wandb.Image(str(path))
        if report is not None:
            told["report"] = wandb.Html(report.read_text(encoding="utf-8"), inject=False)
        self._run.log(told)

    def _end(self, code: int, reason: str | None = None, later: bool = False) -> None:
        """Ends the run once; an invocation that goes on `later` keeps its id."""
        if reason is not None:
            self._try(lambda: self._run.summary.update({"failure": reason}))
        self._try(lambda: self._run.finish(exit_code=code))
        self._broken = True
        if self._kept is not None:
            (self._kept.release if later else self._kept.forget)()
            self._kept = None

    def _tell(self, values: dict[str, Any]) -> None:
        if values:
            self._try(lambda: self._run.log(values))

    def _try(self, tell: Callable[[], Any]) -> None:
        """Tracking never ends a study: whatever wandb raises is told once."""
        if self._broken:
            return
        try:
            tell()
        except Exception as error:
            self._broken = True
            self._say(
                f"tracking: stopped ({_first_line(error)}); the study goes on, its rows are on disk"
            )


def _trial_key(name: str) -> str:
    return "trial/id" if name == "trial" else f"trial/{name}"


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
        except (
            OSError,
            RuntimeError,
            netrc.NetrcParseError,
        ):  # none, none of ours, or no home folder
            continue
    return False
