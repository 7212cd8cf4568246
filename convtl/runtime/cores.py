"""How many cores this process may use."""

import os
from contextlib import suppress
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
LIMIT = "CONVTL_CORES"
"""Variable in which a launcher says how many cores a job has; SLURM says it in its own."""


def visible_cores() -> int:
    """Those that the system lets this process run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def core_count() -> int:
    """Its affinity, and what a container, a cluster or a launcher gives it where they say so; at least one."""
    limits = [visible_cores()]
    with suppress(OSError, ValueError):  # no control groups, or no limit ("max")
        quota, period = _QUOTA.read_text().split()
        limits.append(int(quota) // int(period))
    given = (os.environ.get(name, "") for name in (LIMIT, "SLURM_CPUS_PER_TASK"))
    limits += [int(text) for text in given if text.isdecimal()]
    return max(1, min(limits))
