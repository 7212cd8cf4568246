"""JAX's backend, its compilation cache, and several processes.

Several processes (`jax.distributed`) all train, in the same order; process 0 writes, and broadcasts what depends on
more than the config: what is done, which trial is free, whether to stop. If one is lost, JAX ends the others.
"""

import json
import os
import stat
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils

from convtl.config.schema import DistributedConfig
from convtl.errors import UserError
from convtl.runtime.stopping import obey, requested
from convtl.storage.cache import default_root

T = TypeVar("T")
is_distributed = jax.distributed.is_initialized  # which never starts JAX
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
LIMIT = "CONVTL_CORES"
"""Environment variable with which a launcher limits a job's cores; SLURM has its own."""


def prepare_jax() -> None:
    """Start JAX with 32-bit numbers and its compilation cache.

    JAX loads machine code unchecked: a folder that others may write to is not used.

    Raises:
      UserError: the backend that the environment asks for does not start.
    """
    jax.config.update("jax_enable_x64", False)
    with suppress(OSError, UserError):  # no folder: programs are compiled anew
        folder = default_root() / "xla"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not others_write:
            warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry")
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
            jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"JAX_PLATFORMS: got '{jax.config.jax_platforms}', which does not start here ({reason})"
        ) from None


# --- several processes ---------------------------------------------------------------------


def join(config: DistributedConfig | Literal["auto"] | None) -> None:
    """Initialise `jax.distributed`, once, before JAX is first used.

    Raises:
      UserError: JAX does not find the others.
    """
    if config is None or is_distributed():
        return
    # JAX's own service would take SIGTERM from `convtl.runtime.stopping`.
    jax.config.update("jax_enable_preemption_service", False)
    given: tuple[str | None, int | None, int | None] = (None, None, None)
    if config != "auto":
        given = (config.coordinator, config.processes, config.process)
    try:
        jax.distributed.initialize(
            *given,
            cluster_detection_method="deactivate" if given[0] else None,
            initialization_timeout=120,
            heartbeat_timeout_seconds=30,  # until JAX ends those that are left when one is lost
        )
    except (RuntimeError, ValueError) as error:
        reason = f"{given[0] or 'found by JAX'}: {error}".partition("\n")[0]
        raise UserError(f"distributed: the processes do not come together ({reason})") from None


def is_primary() -> bool:
    """Return whether this process decides and writes."""
    return not is_distributed() or jax.process_index() == 0


def broadcast_from_primary(decide: Callable[[], T]) -> T:
    """Return process 0's value of `decide` on every process, sent as JSON."""
    if not is_distributed():
        return decide()
    text = json.dumps(decide()).encode() if is_primary() else b""
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    # Powers of two: few sizes, so that few programs are compiled.
    buffer = np.frombuffer(text.ljust(1 << (size - 1).bit_length()), np.uint8)
    return cast(T, json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(buffer)))))


def any_process(flag: bool) -> bool:
    """Return whether `flag` is true on any process."""
    if not is_distributed():
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def obey_together() -> None:
    """Raise `Stopped` on every process if a signal has come to any of them."""
    obey(any_process(requested()))


# --- cores ---------------------------------------------------------------------------------


def visible_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def core_count() -> int:
    """Return the cores that container, cluster and launcher grant, at least one."""
    limits = [visible_cores()]
    with suppress(OSError, ValueError):  # no control groups, or no limit ("max")
        quota, period = _QUOTA.read_text().split()
        limits.append(int(quota) // int(period))
    given = (os.environ.get(name, "") for name in (LIMIT, "SLURM_CPUS_PER_TASK"))
    limits += [int(text) for text in given if text.isdecimal()]
    return max(1, min(limits))
