"""What Weights & Biases is told about a study, if anything.

Rows on disk are the results; tracking only mirrors them. So once a study runs, trouble with wandb is
told once and the study goes on.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from convtl.config.schema import TrackingConfig
from convtl.errors import UserError
from convtl.runtime.stopping import REQUEUE
from convtl.secrets import redact, redacted
from convtl.tracking.tracker import CurvePoint, Silence, Tracker

__all__ = [
    "MOST_ROWS",
    "CurvePoint",
    "Silence",
    "Tracker",
    "open_tracker",
    "told_of_errors",
    "told_to_agent",
]

MOST_ROWS = 10_000
"""rows of the table that a finished study sends: wandb shows no more (`wandb.Table.MAX_ROWS`); the disk has them all"""


_opened = 0
"""How often this process has begun a run."""


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

    A run that an earlier process of the same invocation has left open is gone on with.

    Args:
      config: mode, project, entity and group; the group is the study's name if there is none.
      study: name of the study.
      resolved: the resolved config as plain data, shown beside the run.
      out: folder of the study; wandb's files go under `out/wandb`.
      say: takes one line that tells where the run can be seen, and one if tracking breaks down.

    Raises:
      UserError: `online` without a login, or wandb refuses the run.
    """
    global _opened
    if config.mode == "disabled":
        return Silence()
    _opened += 1
    from convtl.tracking.wandb_run import begin_run  # here: wandb takes half a second

    return begin_run(config, study, resolved, Path(out).absolute(), say)


@contextmanager
def told_of_errors(tracker: Tracker) -> Iterator[None]:
    """Whatever ends the work in here is told, with its reason."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        tracker.preempted("stopped from outside")
        raise
    except UserError as error:
        tell = tracker.preempted if error.code == REQUEUE else tracker.fail
        tell(redacted(str(error)))
        error.told = True
        raise
    except BaseException as error:
        tracker.fail(redacted(f"{type(error).__name__}: {error}"))
        raise


@contextmanager
def told_to_agent(content: Mapping[str, Any], out: Callable[[], Path]) -> Iterator[None]:
    """What ends the work in here before it is tracked ends the W&B run for which an agent has started this process.

    Args:
      content: the composed config, which may be what is wrong.
      out: where the study's folder would be.
    """
    if not os.environ.get("WANDB_RUN_ID"):
        yield
        return
    opened = _opened
    try:
        yield
    except UserError as error:
        if not error.told:
            reason = redacted(str(error))
            _tell(content, out, lambda tracker: tracker.fail(reason))
            error.told = True
        raise
    except KeyboardInterrupt:
        if opened == _opened:
            _tell(content, out, lambda tracker: tracker.preempted("stopped from outside"))
        raise


def _tell(
    content: Mapping[str, Any], out: Callable[[], Path], what: Callable[[Tracker], None]
) -> None:
    with suppress(UserError, TypeError, ValueError):
        config = TrackingConfig(**content["tracking"])
        what(open_tracker(config, str(content["study"] or "trials"), redact(content), out()))
