"""Compiled programs kept on disk for the next process: XLA's compilation cache, in the folder `xla` of the cache."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import jax

from convtl.storage.files import sweep, written


def keep_programs(cache_root: Path) -> None:
    """Keeps compiled programs, where the cache can be written; where it can only be read, takes what is there."""
    folder = cache_root / "xla"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():  # what needs the cache says so itself
        return
    sweep([folder])
    _write_whole_entries()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _write_whole_entries() -> None:
    """Has JAX put its entries in place by a rename.

    It writes them where they are read, and never again what is there: of a process that is killed, or finds the
    disk full, half an entry would stay for good, with a warning from every later process.
    """
    try:
        from jax._src import compilation_cache
        from jax._src.lru_cache import LRUCache

        original = compilation_cache.get_file_cache
    except (ImportError, AttributeError):  # a JAX of another make: as it does by itself
        return

    class WholeEntries(LRUCache):
        def put(self, key: str, val: bytes) -> None:
            # Asked only when there is none that can be read. What cannot be kept is compiled again next time.
            with suppress(OSError), written(Path(str(self.path)) / f"{key}-cache") as file:
                file.write(val)

    def get_file_cache(path: str) -> Any:
        if (
            compilation_cache.config.compilation_cache_max_size.value != -1
        ):  # JAX's own, with its eviction
            return original(path)
        return WholeEntries(path, max_size=-1), path

    if original.__name__ != "get_file_cache" or original.__module__ != __name__:
        compilation_cache.get_file_cache = get_file_cache
