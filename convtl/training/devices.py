"""One place that sets JAX up, devices and the compilation cache, and says what this process runs on."""

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import jax

from convtl.cores import core_count, visible_cores


def use_all_cores() -> None:
    """Makes one CPU device of each core; to be called before JAX is first used, without effect later.

    Lanes spread over devices, so that the same code serves several cores and several accelerators.
    """
    if core_count() < visible_cores():  # XLA's own threads know of no cluster's or launcher's limit
        os.environ.setdefault("NPROC", str(core_count()))
    # JAX may be in use already (a notebook, a test): then its devices are taken as they are.
    with suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", core_count())


def leave_accelerators() -> None:
    """Keeps a process that trains nothing from taking the memory of an accelerator that others need."""
    with suppress(RuntimeError):
        jax.config.update("jax_platforms", "cpu")


def keep_programs(cache_root: Path) -> None:
    """Keeps compiled programs on disk, for the next process."""
    jax.config.update("jax_compilation_cache_dir", str(cache_root / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def device_count() -> int:
    """Devices of this process, over which lanes spread."""
    return jax.local_device_count()


def device_line() -> str:
    """Number and kind of the devices, for records."""
    devices = jax.local_devices()
    return f"{len(devices)} x {devices[0].device_kind}"


def peak_memory_gib() -> float:
    """Largest resident memory of this process so far, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
