"""Two CPU devices as on the smallest machine that is supported, strict promotion, shape checks, an own cache."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Before JAX is imported, and in processes that tests start: no implicit change of dtype or rank.
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"

import jax
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

CHECKED = ("measure", "transfer")
"""Rooms whose annotations are all checked at run time."""
SHAPED = ("data", "models", "study", "training")
"""Rooms of whose annotations those of arrays are checked: shapes and dtypes."""
install_import_hook([f"convtl.{room}" for room in CHECKED], "beartype.beartype")
install_import_hook([f"convtl.{room}" for room in SHAPED], "shapes.arrays_checked")
# Of tests that are started in the background Ctrl-C is ignored, in every process that they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)
jax.config.update("jax_num_cpu_devices", 2)  # at import: a test module may touch JAX at its own
settings.register_profile("quick", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None)
settings.load_profile("quick")


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


@pytest.fixture(autouse=True)
def _own_cores() -> Iterator[None]:
    """A job that a launcher runs in this process sets its share of the cores for good."""
    yield
    os.environ.pop("CONVTL_CORES", None)


@pytest.fixture
def flax_promotes() -> Iterator[None]:
    """Flax's batch normalisation subtracts float32 statistics from bfloat16 images, its pooling divides by integers."""
    with jax.numpy_dtype_promotion("standard"):
        yield
