"""JAX set up the same for all commands: 32-bit numbers, a backend that is there, compiled programs kept on disk."""

import os
import stat
import warnings
from contextlib import suppress

import jax

from convtl.errors import UserError
from convtl.storage.cache import default_root


def prepare_jax() -> None:
    """Start JAX's backend, with numbers of 32 bits whatever JAX_ENABLE_X64 says, and keep its programs.

    Raises:
      UserError: the backend that the environment asks for is not there.
    """
    jax.config.update("jax_enable_x64", False)
    _keep_programs()
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        name, reason = jax.config.jax_platforms, str(error).partition("\n")[0]
        line = f"JAX_PLATFORMS: got '{name}', which does not start here"
        raise UserError(f"{line} ({reason})" if reason else line) from None


def _keep_programs() -> None:
    """Turn JAX's compilation cache on, in the folder `xla` of the user's default cache.

    Compiled programs are machine code that JAX loads unchecked. So they are never read from a folder that a config
    or a command names, nor from one that another user owns or may write to.
    """
    with suppress(OSError, UserError):  # no folder: programs are compiled anew
        folder = default_root() / "xla"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or others_write:
            return
        warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry")
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
