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

from convtl.config import TrackingConfig
from convtl.errors import UserError
from convtl.secrets import redact, redacted
from convtl.stopping import REQUEUE
from convtl.tracking.tracker import CurvePoint, Silence, Tracker

__all__ = ["MOST_ROWS", "CurvePoint", "Tracker", "open_tracker", "told_of_errors", "told_to_agent"]

MOST_ROWS = 10_000
"""rows of the table that a finished study sends: wandb shows no more (`wandb.Table.MAX_ROWS`); the disk has them all"""


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
    if config.mode == "disabled":
        return Silence()
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
    """What is refused in here, before it is tracked, fails the W&B run for which an agent has started this process.

    Args:
      content: the composed config, which may be what is wrong.
      out: where the study's folder would be.
    """
    try:
        yield
    except UserError as error:
        if os.environ.get("WANDB_RUN_ID") and not error.told:
            with suppress(UserError, TypeError, ValueError):
                config = TrackingConfig(**content["tracking"])
                tracker = open_tracker(config, str(content["study"] or "trials"), redact(content), out())
                tracker.fail(redacted(str(error)))
        raise
