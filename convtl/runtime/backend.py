"""JAX set up the same for all commands: 32-bit numbers, a backend that is there, compiled programs kept on disk."""

import os
import stat
import warnings
from contextlib import suppress
from pathlib import Path

import jax

from convtl.errors import UserError
from convtl.storage.cache import default_root


def prepare_jax() -> None:
    """Set JAX up, after its devices are configured and before they are used.

    Raises:
      UserError: the backend that the environment asks for is not there.
    """
    check_backend()
    keep_programs()


def check_backend() -> None:
    """Start JAX's backend, with numbers of 32 bits whatever JAX_ENABLE_X64 says.

    Raises:
      UserError: the backend that the environment asks for is not there.
    """
    jax.config.update("jax_enable_x64", False)
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        name = jax.config.jax_platforms
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"JAX_PLATFORMS: got '{name}', which does not start here{reason and f' ({reason})'}"
        ) from None


def keep_programs() -> None:
    """Turn JAX's compilation cache on, in the folder `xla` of the user's default cache.

    Compiled programs are machine code that JAX loads unchecked. So they are never read from a folder that a config
    or a command names, nor from one that another user owns or may write to. An entry that was cut short is compiled
    again, with a warning of JAX's; one that cannot be written (a full disk) is compiled again next time.
    """
    try:
        folder = default_root() / "xla"
    except UserError:  # no home folder: programs are compiled anew
        return
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_private(folder):
        return
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def is_private(folder: Path) -> bool:
    """Return whether a folder is this user's, no link, and writable by nobody else."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not others_write
