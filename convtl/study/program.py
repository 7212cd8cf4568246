"""Which program is running: what a row is signed with."""

import subprocess
from functools import cache, partial
from pathlib import Path

DIRTY = "-dirty"
"""Follows a commit whose files had been changed."""

_ROOT = Path(__file__).parent.parent.parent


@cache
def commit() -> str | None:
    """Git commit of a checkout of convtl, as first read; None for an installed package.

    `-dirty` follows where the package or its configs had been changed since that commit.
    """
    if not (_ROOT / ".git").exists():
        return None
    run = partial(subprocess.run, cwd=_ROOT, capture_output=True, text=True, timeout=10)
    try:
        head = run(["git", "rev-parse", "HEAD"], check=True).stdout.strip()
        changed = run(["git", "diff", "--quiet", "HEAD", "--", "convtl", "conf"]).returncode == 1
    except (OSError, subprocess.SubprocessError):
        return None
    return str(head) + DIRTY * changed


def short(name: str) -> str:
    """The first ten digits of a commit, and that it was changed."""
    return name.removesuffix(DIRTY)[:10] + DIRTY * name.endswith(DIRTY)
