"""A content-addressed cache on disk that many processes may share.

An entry is a folder `root/kind/key`; the key is a digest of all that its content depends on. It is published by one
rename, and checked against its manifest on every read; an entry that fails counts as missing.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from convtl.errors import StorageError, UserError
from convtl.storage.files import (
    contents,
    is_full,
    locked,
    storage_errors,
    sweep,
    sync,
    temporary_folder,
)

MANIFEST = "manifest.json"
_UNREADABLE = "it cannot be read now"  # which may pass, so that nothing is removed for it


def default_root() -> Path:
    """Return $CONVTL_CACHE, or `convtl` in the user's cache folder."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        if chosen := os.environ.get("CONVTL_CACHE"):
            return Path(chosen).expanduser().absolute()
        if base.is_absolute():  # the XDG specification: relative ones are to be ignored
            return base / "convtl"
        return Path.home() / ".cache" / "convtl"
    except RuntimeError:
        raise UserError("cache: there is no home folder; choose a folder with cache=...") from None


class Cache:
    """Entries `root/kind/key/`: files and a manifest of their sizes and SHA-256."""

    def __init__(self, root: Path, say: Callable[[str], None] | None = None) -> None:
        self.root = Path(root)
        self._say = say or partial(print, file=sys.stderr, flush=True)

    def path(self, kind: str, key: str) -> Path:
        """Return the folder of an entry, whether it exists or not."""
        return self.root / kind / key

    def get(self, kind: str, key: str) -> Path | None:
        """Return the folder of an intact entry, or None; remove a damaged one."""
        entry = self.path(kind, key)
        if (fault := self.fault(kind, key)) is None:
            return entry
        if os.path.lexists(entry):
            self._say(f"cache: {entry} is not used: {fault}")
            with suppress(StorageError, OSError):  # a cache that is only read works too
                self._remove(kind, key)
        return None

    def get_or_build(self, kind: str, key: str, build: Callable[[Path], None]) -> Path:
        """Return an entry; if it is missing, build it while other processes wait."""
        if entry := self.get(kind, key):  # without a lock: a cache that is only read works too
            return entry
        with self.lock(kind, key):
            return self.get(kind, key) or self.publish(kind, key, build)

    def publish(self, kind: str, key: str, build: Callable[[Path], None]) -> Path:
        """Build an entry in a temporary folder, then rename it unless one exists."""
        entry = self.path(kind, key)
        sweep([entry.parent])
        with self._writable():
            self.root.mkdir(parents=True, exist_ok=True)
        with self._writable(), temporary_folder(entry) as folder:
            try:
                build(folder)
            except StorageError as error:  # of a checkpoint, which knows the temporary name only
                line = str(error).replace(f"checkpoint {folder}", f"cache: {entry}")
                raise StorageError(line) from None
            manifest = json.dumps(_manifest(folder, kind, key), indent=1)
            (folder / MANIFEST).write_text(manifest, encoding="utf-8")
            for path in (*folder.rglob("*"), folder):
                sync(path)
            if self.get(kind, key) is None:
                try:
                    folder.rename(entry)
                    sync(entry.parent)
                except OSError:  # another process may have published it since
                    if self.get(kind, key) is None:
                        raise
        return entry

    def lock(self, kind: str, key: str, blocking: bool = True) -> AbstractContextManager[bool]:
        """Hold the lock of an entry; False if it is taken and `blocking` is false."""
        name = f"entry.{kind}.{self.path(kind, key).name}"
        with storage_errors("cache", self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        return locked("cache", self.root, name, blocking)

    def entries(self) -> list[tuple[str, str]]:
        manifests = self.root.glob(f"[!.]*/[!.]*/{MANIFEST}")
        return sorted((path.parent.parent.name, path.parent.name) for path in manifests)

    def fault(self, kind: str, key: str) -> str | None:
        """Return the fault of an entry, or None."""
        entry = self.path(kind, key)
        try:
            listed = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
            if listed == _manifest(entry, kind, key):
                return None
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
            return "its manifest or its files are not there, or not as they were written"
        except OSError:
            return _UNREADABLE
        return "its files are not those of its manifest"

    def prune(self, older_than: float | None = None) -> int:
        """Remove entries that are damaged or over `older_than` seconds old; count them."""
        removed = 0
        for name in self.entries():
            path = self.path(*name)
            outdated = older_than is not None and time.time() - path.stat().st_mtime > older_than
            if not outdated and self.fault(*name) in (None, _UNREADABLE):
                continue
            with self.lock(*name, blocking=False) as held, self._writable():
                if held:  # else another process builds it
                    self._remove(*name, sound=outdated)
                    removed += 1
        sweep(self.root.glob("[!.]*"))
        return removed

    def _remove(self, kind: str, key: str, sound: bool = False) -> None:
        """Remove a damaged entry, or with `sound` also an intact one."""
        entry = self.path(kind, key)
        with locked("cache", self.root, "remove"), temporary_folder(entry) as folder:
            if sound or self.fault(kind, key) not in (None, _UNREADABLE):
                entry.rename(folder / key)

    @contextmanager
    def _writable(self) -> Iterator[None]:
        """Raise a full disk and errors about the cache's files as a StorageError."""
        try:
            yield
        except OSError as error:
            if not is_full(error) and not str(error.filename or "").startswith(str(self.root)):
                raise
            with storage_errors("cache", self.root):
                raise


def folder_size(folder: Path) -> int:
    """Return the bytes of all files below a folder; 0 where it does not exist."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # removed meanwhile
            size += path.stat().st_size if path.is_file() else 0
    return size


def _manifest(folder: Path, kind: str, key: str) -> dict[str, Any]:
    files = contents(folder)
    files.pop(MANIFEST, None)
    return {"format": 1, "kind": kind, "key": key, "files": files}
