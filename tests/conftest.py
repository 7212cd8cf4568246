"""Two CPU devices as on the smallest machine that is supported, and a cache of the tests' own."""

import os
from pathlib import Path

import jax
import pytest
from hypothesis import settings

jax.config.update("jax_num_cpu_devices", 2)  # at import: a test module may touch JAX at its own
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing of the machine leaks into a test, and no test leaves anything behind.

    Under pytest-xdist all workers share one cache, which also tries the cache with several processes.
    """
    root = tmp_path_factory.getbasetemp()
    shared = root.parent if os.environ.get("PYTEST_XDIST_WORKER") else root
    cache = shared / "convtl-cache"
    os.environ["CONVTL_CACHE"] = str(cache)
    os.environ["WANDB_MODE"] = "offline"
    jax.config.update("jax_compilation_cache_dir", str(Path(cache) / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
