"""How a step is measured: in a process of its own, which prints its figures as JSON."""

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

Figures = dict[str, Any]
UNIT = 2**30 if sys.platform == "darwin" else 2**20
"""Of `ru_maxrss`, in a GiB."""


def measure(steps: Sequence[Callable[..., Figures]]) -> None:
    """Runs the step that the command line names, with its arguments."""
    name, *arguments = sys.argv[1:]
    step = next(step for step in steps if step.__name__ == name)
    began = time.perf_counter()
    found = step(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNIT
    print(json.dumps(found | {"wall": time.perf_counter() - began, "gib": peak}))
