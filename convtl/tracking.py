"""Optional logging of a study to Weights & Biases.

During a study, trouble with wandb is reported once and the study goes on. No `study/` or `curve/` metric depends on the
test split: sweeps may optimise any of them.
"""

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from configparser import ConfigParser
from configparser import Error as ConfigError
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import BaseFileLock

from convtl.config.schema import TrackingConfig
from convtl.errors import UserError, redact, redacted
from convtl.keys import digest
from convtl.storage.files import take_lock
from convtl.study.rows import Row
from convtl.study.watcher import CurvePoint

_OFF = ("silent", "x_disable_stats", "disable_git", "disable_code")
_SETTINGS: dict[str, Any] = dict.fromkeys(_OFF, True) | {"console": "off", "save_code": False}
_FAILED, _STOPPED = 1, 255  # exit codes for W&B, which calls a run that ends with 255 killed


def open_tracker(
    config: TrackingConfig, study: str, content: Mapping[str, Any], out: Path
) -> "Tracker | None":
    """Start a W&B run; None if `tracking.mode` is `disabled`.

    A W&B agent names the run. Elsewhere its id is the digest of `out` and `content`, the config of this process's part
    of the study: the same command continues the same run, unless another process holds it.

    Raises:
      UserError: `online` without a login, a folder that names a server, or wandb refuses the run.
    """
    if config.mode == "disabled":
        return None
    import wandb  # takes half a second

    out, name, lock = out.absolute(), None, None
    try:
        if config.mode == "online":
            _check_login()
        (out / "wandb").mkdir(parents=True, exist_ok=True)
        if not os.environ.get("WANDB_RUN_ID"):
            name = digest([content, str(out)])
            lock = take_lock("out", out, f"tracking-{name}")
        run = wandb.init(
            mode=config.mode,
            project=config.project,
            group=study,
            config=redact(dict(content)),
            dir=str(out),
            id=None if lock is None else name,  # W&B chooses one beside a live process
            resume="allow",
            settings=_SETTINGS,
        )
    except (wandb.Error, ConfigError, OSError, ValueError) as error:
        reason = f"tracking.mode: {config.mode} does not work ({_first_line(error)})"
        raise UserError(reason) from None
    run.define_metric("trials_done")
    run.define_metric("trial/*", step_metric="trials_done")
    place = f"{Path(run.dir).parent} (wandb sync uploads it)"
    _say(str(run.url) if config.mode == "online" else place)
    return Tracker(run, config.requeue, lock)


def _say(line: str) -> None:
    print(f"tracking: {line}", file=sys.stderr, flush=True)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _check_login() -> None:
    """Refuse a missing login, or a server that the working directory names."""
    import wandb

    settings, parser = wandb.setup().settings, ConfigParser()
    parser.read(settings.settings_workspace, encoding="utf-8")
    given = {key for section in parser.values() for key in section} - {"entity", "project"}
    if given and not (given == {"base_url"} and os.environ.get("WANDB_BASE_URL")):
        raise UserError(
            f"tracking.mode: online with {', '.join(sorted(given))} in {settings.settings_workspace}; accepted: "
            "entity and project there, and a server as WANDB_BASE_URL=https://..."
        )
    if not wandb.login(prompt=False, verify=False):
        raise UserError(
            f"tracking.mode: online needs a login for {settings.base_url}; run `wandb login`, set WANDB_API_KEY, or "
            "use tracking.mode=offline"
        )


@contextmanager
def tracking_errors(tracker: "Tracker | None") -> Iterator[None]:
    """End the W&B run with the reason of an error in this block."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        if tracker is not None:
            reason = redacted(f"{'stopped by ' if stopped else kind}{error}")
            tracker.end(_STOPPED if stopped else _FAILED, reason)
        raise


def _mean(name: str, values: Iterable[float]) -> dict[str, float]:
    """Return the mean of the finite values by name; empty if there are none."""
    finite = [float(value) for value in values if math.isfinite(value)]
    return {name: math.fsum(finite) / len(finite)} if finite else {}


class RunningAccuracy:
    """Mean validation accuracy of the trials so far.

    A finished trial counts at its chosen rate, an unfinished one at its best rate so far; one that diverged, or was not
    evaluated yet, not at all.
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._finished: dict[str, float] = {}
        self._in_flight: dict[str, dict[float, float]] = {}
        for row in rows:
            self.add_row(row)

    def add_row(self, row: Row) -> None:
        if row["status"] in ("done", "diverged"):
            done = row["status"] == "done"
            self._finished[row["trial"]] = row["val_accuracy"] if done else math.nan
            self._in_flight.pop(row["trial"], None)

    def add_points(self, points: Iterable[CurvePoint]) -> None:
        for point in points:
            if point.trial not in self._finished and math.isfinite(point.val_accuracy):
                self._in_flight.setdefault(point.trial, {})[point.rate] = point.val_accuracy

    def values(self) -> dict[str, float]:
        """Return metrics by name."""
        best = [*self._finished.values(), *(max(r.values()) for r in self._in_flight.values())]
        return {"study/trials": len(self._finished)} | _mean("study/mean_val_accuracy", best)


def _plain(row: Row) -> dict[str, Any]:
    """Return the cells of a row that are numbers or texts."""
    return {name: cell for name, cell in row.items() if isinstance(cell, float | int | str)}


class Tracker:
    """A W&B run: trials and validation accuracy during a study, then its results."""

    def __init__(self, run: Any, requeue: bool = False, lock: BaseFileLock | None = None) -> None:
        self._run, self._requeue, self._lock = run, requeue, lock
        self._means, self._trials, self._broken = RunningAccuracy(), 0, False

    def begin(self, rows: Sequence[Row]) -> None:
        """Log the mean accuracy of the rows that exist."""
        self._means = RunningAccuracy(rows)
        if rows:
            self._try(lambda: self._run.log(self._means.values()))

    def curve(self, points: Sequence[CurvePoint]) -> None:
        """Log all current training runs at one update."""
        self._means.add_points(points)
        values = self._means.values()
        values |= {"curve/runs": len(points), "curve/update": points[0].update}
        values |= _mean("curve/loss", (point.loss for point in points))
        values |= _mean("curve/val_accuracy", (point.val_accuracy for point in points))
        self._try(lambda: self._run.log(values))

    def trial(self, row: Row) -> None:
        """Log the row of a finished trial."""
        self._trials += 1
        self._means.add_row(row)
        cells = _plain(row) | {"id": row["trial"]}
        left_out = ("study", "config", "trial")
        values = {f"trial/{name}": cells[name] for name in cells if name not in left_out}
        values |= {"trials_done": self._trials, **self._means.values()}
        self._try(lambda: self._run.log(values))

    def finish(
        self, rows: Sequence[Row], out: Path | None, summary: Mapping[str, Any], failure: str
    ) -> None:
        """Log all rows, a report's folder and a summary; end with any failure."""
        self._means = RunningAccuracy(rows)  # of all trials, whichever process ran them
        self._try(lambda: self._run.log(self._results(rows, out)))
        self._try(lambda: self._run.summary.update(summary))
        self.end(_FAILED if failure else 0, failure)

    def end(self, code: int, reason: str) -> None:
        """End the W&B run with an exit code and, of a failure or signal, the reason."""
        if code == _STOPPED and self._requeue:
            self._try(lambda: self._run.mark_preempting())
        if reason:
            self._try(lambda: self._run.summary.update({"failure": reason}))
        self._try(lambda: self._run.finish(exit_code=code))
        self._broken = True
        if self._lock is not None:
            self._lock.release()

    def _results(self, rows: Sequence[Row], out: Path | None) -> dict[str, Any]:
        import wandb

        values: dict[str, Any] = {"trials_done": self._trials} | self._means.values()
        if rows:
            table = [_plain(row) for row in rows[:10_000]]  # as many as `wandb.Table` shows
            columns: list[Any] = list(dict.fromkeys(name for row in table for name in row))
            cells: list[Any] = [[row.get(name) for name in columns] for row in table]
            values["results"] = wandb.Table(columns=columns, data=cells, allow_mixed_types=True)
        if out is not None:
            figures = sorted((out / "figures").glob("*.png"))
            values |= {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures}
            report = (out / "report.html").read_text(encoding="utf-8")
            values["report"] = wandb.Html(report, inject=False)
        return values

    def _try(self, tell: Callable[[], Any]) -> None:
        if self._broken:
            return
        try:
            tell()
        except Exception as error:
            self._broken = True
            _say(f"stopped ({_first_line(error)}); the study goes on, its rows are on disk")
