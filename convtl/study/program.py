"""Which program is running: what a row is signed with."""

import subprocess
from functools import cache
from pathlib import Path

DIRTY = "-dirty"
"""Follows a commit whose files had been changed."""

_ROOT = Path(__file__).parent.parent.parent
_OURS = ("convtl", "conf")


@cache
def commit() -> str | None:
    """Git commit of a checkout of convtl, as first read; None for an installed package.

    `-dirty` follows where the package or its configs had been changed since that commit.
    """
    if not (_ROOT / ".git").exists():
        return None
    try:
        head = _git("rev-parse", "HEAD").stdout.strip()
        changed = _git("diff", "--quiet", "HEAD", "--", *_OURS, check=False).returncode == 1
    except (OSError, subprocess.SubprocessError):
        return None
    return head + DIRTY * changed


def short(name: str) -> str:
    """The first ten digits of a commit, and that it was changed."""
    return name.removesuffix(DIRTY)[:10] + DIRTY * name.endswith(DIRTY)


def _git(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(_ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=10)
