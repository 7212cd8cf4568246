"""Progress of a long run: a bar on a terminal, plain lines in a pipe."""

import re
import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from convtl.study.rows import Row
from convtl.study.watcher import CurvePoint, Watcher
from convtl.tracking import Tracker

_SECONDS_BETWEEN_LINES = 15.0


class Progress(Watcher):
    """Counter of trials, with the work in progress.

    Args:
      total: trials of the study.
      done: trials finished before.

    Attributes:
      tracker: receives trials and, where it follows, training; None without one.
    """

    def __init__(self, total: int, done: int) -> None:
        self.tracker: Tracker | None = None
        self._total, self._done = total, done
        self._began = self._last = time.monotonic()
        self._expected, self._finished = 0.0, 0.0
        self._what = ""
        self._bar: Any = None
        if sys.stderr.isatty():
            form = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} trials, {elapsed} gone{postfix}"
            self._bar = tqdm(
                total=total, initial=done, bar_format=form, leave=False, dynamic_ncols=True
            )

    def say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def working_on(self, what: str) -> None:
        if what == self._what:
            return
        # What comes after a colon or in brackets is how far it is; alone it is no news for a pipe.
        step = re.split(r"[:(]", what)[0] != re.split(r"[:(]", self._what)[0]
        self._what = what
        if self._bar is not None:
            self._bar.set_description_str(what)
        else:
            self._show(at_once=step)

    def expect(self, flops: float) -> None:
        self._began, self._expected, self._finished = time.monotonic(), flops, 0.0

    @property
    def follows(self) -> bool:
        """Return whether `curve` has a receiver."""
        return self.tracker is not None

    def curve(self, points: Sequence[CurvePoint]) -> None:
        """Pass on points of all runs in flight at one update."""
        if self.tracker is not None:
            self.tracker.curve(points)

    def trial(self, row: Row, flops: float) -> None:
        self._done += 1
        self._finished += flops
        if self.tracker is not None:
            self.tracker.trial(row)
        if self._bar is not None:
            self._bar.update(1)
        if row["status"] == "diverged":
            self.say(
                f"diverged: {row['source']} -> {row['target']}, depth {row['depth']}, {row['reason']}"
            )
        self._show()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, at_once: bool = False) -> None:
        left = self._left()
        if self._bar is not None:
            self._bar.set_postfix_str(left, refresh=True)
        elif at_once or time.monotonic() - self._last > _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self.say(
                ", ".join(filter(None, (f"{self._done}/{self._total} trials", self._what, left)))
            )

    def _left(self) -> str:
        """Estimate the time left, from the share of the arithmetic that is done."""
        if self._finished <= 0.02 * self._expected:
            return ""
        seconds = (time.monotonic() - self._began) * (self._expected / self._finished - 1)
        return (
            f"about {seconds / 60:.0f} min left" if seconds > 90 else f"about {seconds:.0f} s left"
        )
