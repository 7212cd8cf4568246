"""The files below a folder, through symbolic links, each once."""

import os
from pathlib import Path

from convtl.errors import UserError

_NOBODYS = frozenset(
    {"$RECYCLE.BIN", "@eaDir", "System Volume Information", "__MACOSX", "__pycache__", "lost+found"}
)
"""Folders that systems and programs leave behind; Jupyter's `.ipynb_checkpoints` is hidden."""


def files_below(folder: Path) -> list[Path]:
    """Sorted paths of all files that are not hidden and lie in no hidden folder, nor in one of the system's.

    Links to files and folders are followed. What can be reached in several ways is listed once, under its own
    name rather than a link's; so links that lead in circles end. Links to nothing are left out.
    """
    found: dict[str, Path] = {}
    visited: set[str] = set()
    waiting = [folder]  # folders, then links to folders, in the order in which they are met
    links: list[Path] = []
    linked_files: list[Path] = []
    while waiting or links:
        if not waiting:
            waiting.append(links.pop(0))
        here = waiting.pop(0)
        real = os.path.realpath(here)
        if real in visited:
            continue
        visited.add(real)
        for entry in _entries(here):
            path = here / entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            elif entry.is_file(follow_symlinks=False):
                found.setdefault(os.path.join(real, entry.name), path)  # noqa: PTH118 - hot
            elif path.is_dir():
                links.append(path)
            elif path.is_file():
                linked_files.append(path)
    for path in linked_files:
        found.setdefault(os.path.realpath(path), path)
    return sorted(found.values())


def subfolders(folder: Path) -> list[Path]:
    """Sorted folders, and links to folders, that are not hidden and not the system's."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _ignored(path.name))


def _ignored(name: str) -> bool:
    return name.startswith(".") or name in _NOBODYS


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder that are not ignored, by name.

    Raises:
      UserError: the folder may not be read: its pictures would be missing without a word.
    """
    try:
        with os.scandir(folder) as entries:
            shown = (entry for entry in entries if not _ignored(entry.name))
            return sorted(shown, key=lambda entry: entry.name)
    except PermissionError:
        raise UserError(
            f"path: cannot read '{folder}' (no permission); accepted: folders that may be read"
        ) from None
