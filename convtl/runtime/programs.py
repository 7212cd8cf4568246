"""Compiled programs kept on disk for the next process, in a folder of the user's own."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax

from convtl.errors import UserError
from convtl.storage.cache import default_root
from convtl.storage.files import sweep, written


def keep_programs() -> None:
    """Turn JAX's compilation cache on, in the folder `xla` of the user's default cache.

    Compiled programs are machine code that JAX loads unchecked. So they are never read from a folder that a config
    or a command names, nor from one that another user owns or may write to.
    """
    try:
        folder = default_root() / "xla"
    except UserError:  # no home folder: programs are compiled anew
        return
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_private(folder):
        return
    sweep([folder])
    _write_whole_entries()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def is_private(folder: Path) -> bool:
    """Whether a folder is this user's, no link, and writable by nobody else."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    if not stat.S_ISDIR(status.st_mode):
        return False
    if not hasattr(os, "getuid"):  # no owners or modes to ask for on this platform
        return True
    others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid == os.getuid() and not others_write


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
