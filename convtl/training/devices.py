"""One place that sets JAX up: devices and the compilation cache."""

import os
from pathlib import Path

import jax


def set_up(cache_root: Path) -> list[jax.Device]:
    """Makes one CPU device of each core and keeps compiled programs on disk; call it before any computation.

    Lanes spread over devices, so that the same code serves several cores and several accelerators.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        jax.config.update("jax_num_cpu_devices", cores)
    except RuntimeError:  # JAX is in use already (a notebook, a test): its devices are taken as they are
        return list(jax.local_devices())
    jax.config.update("jax_compilation_cache_dir", str(cache_root / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return list(jax.local_devices())
