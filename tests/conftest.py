"""Two CPU devices as on the smallest machine that is supported, shape checks, and a cache of the tests' own."""

import os
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

CHECKED = ("measure", "transfer")
"""Rooms whose annotations are all checked at run time, and whose tests promote strictly."""
SHAPED = ("data", "models", "study", "training")
"""Rooms of whose annotations those of arrays are checked: shapes and dtypes."""
install_import_hook([f"convtl.{room}" for room in CHECKED], "beartype.beartype")
install_import_hook([f"convtl.{room}" for room in SHAPED], "shapes.arrays_checked")
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
def _strict_promotion(request: pytest.FixtureRequest) -> Iterator[None]:
    """No implicit change of dtype or rank in the rooms that are checked."""
    if request.path.relative_to(Path(__file__).parent).parts[0] not in CHECKED:
        yield
        return
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
