"""How a step is measured: in a process of its own, which prints its figures as JSON."""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import psutil

Figures = dict[str, Any]
_EVERY = 0.25
"""Seconds between two looks at the memory of processes."""


def measure(steps: Sequence[Callable[..., Figures]]) -> None:
    """Runs the step that the command line names, with its arguments."""
    name, *arguments = sys.argv[1:]
    step = next(step for step in steps if step.__name__ == name)
    began = time.perf_counter()
    found = step(*arguments)
    print(json.dumps(found | {"wall": time.perf_counter() - began}))


def run_measured(command: Sequence[str]) -> tuple[int, str, float, float]:
    """Runs a command to its end.

    Returns:
      Its exit code; what it said; seconds; GiB that it and its children held at once, at most.
    """
    began, peak = time.perf_counter(), 0.0
    with tempfile.TemporaryFile() as said:
        process = psutil.Popen(command, stdout=said)
        while process.poll() is None:
            peak = max(peak, _held_by(process))
            time.sleep(_EVERY)
        seconds = time.perf_counter() - began
        said.seek(0)
        return process.returncode, said.read().decode(), seconds, peak / 2**30


def _held_by(process: psutil.Process) -> float:
    """Bytes of a process and its children; pages that several share are counted once where the system tells."""
    total = 0.0
    with suppress(psutil.Error):
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                held = one.memory_full_info()
                total += getattr(held, "pss", held.rss)
    return total
