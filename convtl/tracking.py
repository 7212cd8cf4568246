"""Mirror a study to Weights & Biases, on request; its rows on disk are the results.

Once a study runs, trouble with wandb is reported once and the study goes on. No `study/` or `curve/` metric
holds anything of the test split, which is read after every choice: sweeps may optimise any of these.
"""

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from configparser import ConfigParser
from configparser import Error as ConfigError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from convtl.config.schema import TrackingConfig
from convtl.errors import UserError
from convtl.keys import digest
from convtl.secrets import redact, redacted

MAX_ROWS = 10_000
"""Rows of the table that a finished study sends, as many as `wandb.Table` shows."""

_UNTRACKED = ("study", "config")
"""Columns that are equal in all rows of a W&B run."""

_FAILED, _STOPPED = 1, 255
"""Exit codes for W&B, which calls a run that ends with 255 killed."""

_OFF = ("silent", "x_disable_stats", "disable_git", "disable_code")
_SETTINGS: dict[str, Any] = dict.fromkeys(_OFF, True) | {"console": "off", "save_code": False}
"""Wandb neither talks nor looks around."""

Row = Mapping[str, Any]


class CurvePoint(NamedTuple):
    """One training run on its way: a trial at one learning rate, after `update` of its updates."""

    trial: str
    rate: float
    update: int
    updates: int
    loss: float
    """of the training images, at this update"""
    val_accuracy: float


def open_tracker(
    config: TrackingConfig, study: str, content: Mapping[str, Any], out: Path
) -> "Tracker | None":
    """Begin the W&B run that `tracking.mode` asks for; None, without importing wandb, if that is `disabled`.

    A W&B agent names the run. Elsewhere its id is the digest of `content` and `out`: the same command goes on in the
    same run, unless another process holds it.

    Args:
      study: the group of the run.
      content: the resolved config of this process's part of the study, shown beside the run.
      out: folder of the study; wandb's files go under `out/wandb`.

    Raises:
      UserError: `online` without a login, a folder that names a server, or wandb refuses the run.
    """
    if config.mode == "disabled":
        return None
    import wandb  # takes half a second

    if config.mode == "online":
        _check_login()
    folder = out.absolute() / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    name, lock = _own_run(content, folder)
    try:
        run = wandb.init(
            mode=config.mode,
            project=config.project,
            group=study,
            job_type="study",
            config=redact(dict(content)),
            dir=str(folder.parent),
            id=name,
            resume="allow",
            settings=_SETTINGS,
        )
    except (wandb.Error, OSError, ValueError) as error:
        reason = f"tracking.mode: {config.mode} does not work ({_first_line(error)})"
        raise UserError(reason) from None
    run.define_metric("trials_done")
    run.define_metric("trial/*", step_metric="trials_done")
    place = f"{Path(run.dir).parent} (wandb sync uploads it)"
    _say(str(run.url) if config.mode == "online" else place)
    return Tracker(run, config.requeue, lock)


def _say(line: str) -> None:
    print(f"tracking: {line}", file=sys.stderr, flush=True)


def _own_run(content: Mapping[str, Any], folder: Path) -> tuple[str | None, FileLock]:
    """Return the id of this command's run, and the lock that says that this process is in it.

    None is an id that somebody else chooses: an agent, or W&B where another process is in that run.
    """
    name = None if os.environ.get("WANDB_RUN_ID") else digest([content, str(folder)])
    lock = FileLock(folder / f"{name}.lock", fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except (Timeout, OSError, NotImplementedError):  # in use, or a file system without locks
        name = None
    return name, lock


def _check_login() -> None:
    """Refuse to go online without a login, or to a server that the working directory names."""
    import wandb

    parser = ConfigParser()
    try:
        settings = wandb.setup().settings
        with suppress(OSError):
            parser.read_string(Path(settings.settings_workspace).read_text(encoding="utf-8"))
    except (ConfigError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"tracking.mode: online with wandb settings that cannot be read: {reason}"
        ) from None
    given = {key for section in parser.values() for key in section} - {"entity", "project"}
    if given and not (given == {"base_url"} and os.environ.get("WANDB_BASE_URL")):
        raise UserError(
            f"tracking.mode: online with {', '.join(sorted(given))} in {settings.settings_workspace}; accepted: "
            "entity and project there, and a server as WANDB_BASE_URL=https://..."
        )
    try:
        known = wandb.login(prompt=False, verify=False)
    except wandb.Error as error:
        raise UserError(f"tracking.mode: online does not work ({_first_line(error)})") from None
    if not known:
        raise UserError(
            f"tracking.mode: online needs a login for {settings.base_url}; run `wandb login`, set WANDB_API_KEY, or "
            "use tracking.mode=offline"
        )


@contextmanager
def tracking_errors(tracker: "Tracker | None") -> Iterator[None]:
    """Report whatever ends the work in this block, with its reason."""
    try:
        yield
    except BaseException as error:
        stopped, kind = isinstance(error, KeyboardInterrupt | SystemExit), type(error).__name__
        known = "" if isinstance(error, UserError) else f"{kind}: "
        reason = redacted(f"{'stopped by ' if stopped else known}{error}")
        if tracker is not None:
            (tracker.stop if stopped else tracker.fail)(reason)
        raise


class RunningAccuracy:
    """Validation accuracy over the trials that were begun, as it is now.

    A finished trial counts with the accuracy of its chosen rate, one in flight with what its best rate has reached;
    one that diverged, or was not evaluated yet, not at all.
    """

    def __init__(self) -> None:
        self._accuracy: dict[str, dict[float | None, Any]] = {}
        self._finished: dict[str, bool] = {}

    def add_row(self, row: Mapping[str, Any]) -> None:
        trial, accuracy = str(row.get("trial")), plain(row.get("val_accuracy"))
        diverged = row.get("status") == "diverged"
        if diverged or (isinstance(accuracy, float | int) and math.isfinite(accuracy)):
            self._finished[trial] = not diverged
            self._accuracy[trial] = {} if diverged else {None: accuracy}

    def add_points(self, points: Iterable[CurvePoint]) -> None:
        for point in points:
            if point.trial not in self._finished and math.isfinite(point.val_accuracy):
                self._accuracy.setdefault(point.trial, {})[point.rate] = point.val_accuracy

    def values(self) -> dict[str, float]:
        """Return metrics by name."""
        done = list(self._finished.values())
        values: dict[str, float] = {"study/trials": len(done), "study/diverged": done.count(False)}
        if best := [max(rates.values()) for rates in self._accuracy.values() if rates]:
            values["study/mean_val_accuracy"] = math.fsum(best) / len(best)
            values["study/best_val_accuracy"] = max(best)
            values["study/worst_val_accuracy"] = min(best)
        return values


def curve_values(points: Sequence[CurvePoint]) -> dict[str, float]:
    """Return means over the training runs in flight, at the update where they are."""
    values: dict[str, float] = {"curve/runs": len(points), "curve/update": points[0].update}
    for name in ("loss", "val_accuracy"):
        finite = [value for p in points if math.isfinite(value := float(getattr(p, name)))]
        if finite:
            values[f"curve/{name}"] = math.fsum(finite) / len(finite)
    return values


def plain(value: Any) -> float | int | bool | str | None:
    """Return a number or text as Python's own type; None for anything else."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    return value if isinstance(value, float | int | bool | str) else None


class Tracker:
    """One W&B run: trials and validation accuracy as they come, the results at the end."""

    follows = True
    """it wants `curve`, which costs an evaluation on validation images"""

    def __init__(self, run: Any, requeue: bool = False, lock: FileLock | None = None) -> None:
        self._run, self._requeue, self._lock = run, requeue, lock
        self._means, self._trials, self._broken = RunningAccuracy(), 0, False

    def begin(self, rows: Sequence[Row]) -> None:
        """Take the rows that are there already."""
        for row in rows:
            self._means.add_row(row)
        if rows:
            self._log(self._means.values())

    def curve(self, points: Sequence[CurvePoint]) -> None:
        """Take all runs in flight at one update, some times in a schedule."""
        if points:
            self._means.add_points(points)
            self._log(curve_values(points) | self._means.values())

    def trial(self, row: Row) -> None:
        """Take the row of a trial that has ended."""
        self._trials += 1
        self._means.add_row(row)
        values = {
            "trial/id" if name == "trial" else f"trial/{name}": value
            for name, cell in row.items()
            if name not in _UNTRACKED and (value := plain(cell)) is not None
        }
        self._log(values | {"trials_done": self._trials} | self._means.values())

    def finish(
        self, rows: Sequence[Row], out: Path | None, summary: Row, failures: Sequence[str] = ()
    ) -> None:
        """End with `MAX_ROWS` rows at most, the folder of a report, headline numbers, reasons of failures."""
        self._means = RunningAccuracy()  # of all trials, whichever process ran them
        for row in rows:
            self._means.add_row(row)
        self._try(lambda: self._run.log(self._results(rows, out)))
        self._try(lambda: self._run.summary.update(summary))
        counts = {reason: failures.count(reason) for reason in failures}
        reasons = (f"{n} trial{'s'[: n > 1]} failed: {reason}" for reason, n in counts.items())
        self._end(_FAILED if failures else 0, "; ".join(reasons))

    def fail(self, reason: str) -> None:
        """End with an error."""
        self._end(_FAILED, reason)

    def stop(self, reason: str) -> None:
        """End by a signal; the same command goes on later."""
        if self._requeue:
            self._try(self._run.mark_preempting)
        self._end(_STOPPED, reason)

    def _results(self, rows: Sequence[Row], out: Path | None) -> dict[str, Any]:
        import wandb

        values: dict[str, Any] = {"trials_done": self._trials} | self._means.values()
        if rows:
            columns: list[Any] = list(dict.fromkeys(name for row in rows for name in row))
            cells: list[Any] = [[plain(row.get(name)) for name in columns] for row in rows]
            values["results"] = wandb.Table(columns=columns, data=cells, allow_mixed_types=True)
        if out is not None:
            figures = sorted((out / "figures").glob("*.png"))
            values |= {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures}
            report = (out / "report.html").read_text(encoding="utf-8")
            values["report"] = wandb.Html(report, inject=False)
        return values

    def _end(self, code: int, reason: str) -> None:
        if reason:
            self._try(lambda: self._run.summary.update({"failure": reason}))
        self._try(lambda: self._run.finish(exit_code=code))
        self._broken = True
        if self._lock is not None:
            self._lock.release()

    def _log(self, values: dict[str, Any]) -> None:
        self._try(lambda: self._run.log(values))

    def _try(self, tell: Callable[[], Any]) -> None:
        if self._broken:
            return
        try:
            tell()
        except Exception as error:
            self._broken = True
            _say(f"stopped ({_first_line(error)}); the study goes on, its rows are on disk")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
