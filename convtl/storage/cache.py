"""A content-addressed cache on disk that many processes may share.

An entry is a folder, named by what it was made from. It appears by one rename, complete, and is checked
against its manifest whenever it is asked for; what does not pass counts as missing. So locks only
save work (one process builds, the others wait): what is read never depends on them.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from convtl.errors import StorageError, UserError

MANIFEST = "manifest.json"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""What a file system answers that takes nothing more, whatever is written."""
_FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What a file system answers that has no locks."""
_OLD = 24 * 3600.0
"""Seconds after which what is half built there is nobody's."""
_WORTH_A_WORD = 2.0
"""seconds of waiting for another process after which the user is told why nothing happens"""


def default_root() -> Path:
    """Where the cache is without `cache=`: $CONVTL_CACHE, or `convtl` in the user's cache folder.

    Raises:
      UserError: there is no home folder to put it in.
    """
    if chosen := os.environ.get("CONVTL_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():  # the XDG specification: relative ones are to be ignored
        return base / "convtl"
    try:
        return Path.home() / ".cache" / "convtl"
    except RuntimeError:
        raise UserError("cache: there is no home folder; choose a folder with cache=...") from None


def refuse_without_room(folder: Path, needed: int, what: str, root: Path, instead: str) -> None:
    """Refuses what would fill the disk.

    Args:
      folder: where it is to be written.
      needed: bytes.
      what: the subject of the line, such as `features of 300 images`.
      root: folder that the user knows.
      instead: what can be done.

    Raises:
      StorageError: there is less room than that.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"cache: {what} need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {root}; {instead}"
        )


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Cache:
    """Entries `root/kind/key/`, each a folder with files and a manifest of their sizes and SHA-256.

    Args:
      root: folder of the cache; made when something is published.
      say: takes one line for the user, when an entry is damaged or another process is waited for.
    """

    def __init__(self, root: Path, say: Callable[[str], None] = _to_stderr) -> None:
        self.root = Path(root)
        self._say = say
        self._has_locks = True

    def path(self, kind: str, key: str) -> Path:
        """Folder of an entry, whether it exists or not.

        Raises:
          ValueError: `kind` or `key` is not a plain name (letters, digits, `_`, `-`, `.`).
        """
        for name in (kind, key):
            if not _NAME.fullmatch(name):
                raise ValueError(f"not a name for a cache entry: {name!r}")
        return self.root / kind / key

    def get(self, kind: str, key: str) -> Path | None:
        """Folder of an entry that passes its check, or None; what does not pass is moved aside."""
        entry = self.path(kind, key)
        if _fault(entry, kind, key) is None:
            return entry
        if os.path.lexists(entry):
            self._set_aside(kind, key)
            if _fault(entry, kind, key) is None:  # another process has put a good one in its place
                return entry
        return None

    def publish(self, kind: str, key: str, build: Callable[[Path], None]) -> Path:
        """Makes an entry: `build` fills a temporary folder, which then takes its place by one rename.

        If another process has published the entry first, its entry stays and is returned.

        Raises:
          UserError: the cache cannot be written (rights, a full disk).
        """
        entry = self.path(kind, key)
        with self._temporary(kind, key) as folder:
            build(folder)
            with self._writable():
                _seal(folder, kind, key)
                entry.parent.mkdir(parents=True, exist_ok=True)
                for _ in range(3):
                    if self.get(kind, key) is not None:
                        return entry
                    with contextlib.suppress(OSError):  # one has appeared since: look at it again
                        folder.rename(entry)
                        _sync(entry.parent)
                        return entry
                folder.rename(entry)
        return entry

    @contextlib.contextmanager
    def lock(self, kind: str, key: str, blocking: bool = True) -> Iterator[bool]:
        """Holds the lock of an entry; the kernel releases it when the process dies, however it dies.

        Yields True while it is held. With `blocking=False`, yields False at once if another has it. On a file
        system without locks everyone has it: the same may be built twice, and one of them is kept.

        Raises:
          UserError: the lock file cannot be made.
        """
        with self._os_lock(f"entry.{kind}.{self.path(kind, key).name}", blocking) as held:
            yield held

    def get_or_build(self, kind: str, key: str, build: Callable[[Path], None]) -> Path:
        """The entry, built if it is missing; of several processes one builds and the others wait.

        Raises:
          UserError: the cache cannot be written (rights, a full disk).
        """
        if (
            entry := self.get(kind, key)
        ) is not None:  # no lock: a cache that is only read works too
            return entry
        with self.lock(kind, key):
            if (entry := self.get(kind, key)) is not None:
                return entry
            self._sweep()
            return self.publish(kind, key, build)

    def entries(self) -> Iterator[tuple[str, str]]:
        """Yield (kind, key) of every published entry, sound or not, in order."""
        for manifest in sorted(self.root.glob(f"[!.]*/*/{MANIFEST}")):
            yield manifest.parent.parent.name, manifest.parent.name

    def fault(self, kind: str, key: str) -> str | None:
        """Return why an entry does not pass its check, or None for a sound one."""
        return _fault(self.path(kind, key), kind, key)

    def remove(self, kind: str, key: str) -> bool:
        """Delete an entry; return False where another process is building or holds it.

        Raises:
          StorageError: the cache cannot be written.
        """
        with self.lock(kind, key, blocking=False) as held:
            if held:
                with self._writable():
                    aside = self.root / ".damaged" / f"{kind}.{key}.{uuid.uuid4().hex[:8]}"
                    aside.parent.mkdir(parents=True, exist_ok=True)
                    self.path(kind, key).rename(aside)
                    shutil.rmtree(aside)
            return held

    def remove_leftovers(self) -> None:
        """Delete damaged entries set aside and what killed processes left."""
        with self._writable():
            shutil.rmtree(self.root / ".damaged", ignore_errors=True)
            self._sweep()

    # --- inside -------------------------------------------------------------------------------------

    def _set_aside(self, kind: str, key: str) -> None:
        """Moves a damaged entry out of the way, unless it has been replaced by a good one meanwhile."""
        entry = self.path(kind, key)
        try:
            with self._os_lock("set-aside"):
                reason = _fault(entry, kind, key)
                if reason is None or not os.path.lexists(entry):
                    return
                aside = self.root / ".damaged" / f"{kind}.{key}.{uuid.uuid4().hex[:8]}"
                aside.parent.mkdir(parents=True, exist_ok=True)
                entry.rename(aside)
        except (UserError, OSError):
            self._say(f"cache: {entry} is damaged and cannot be moved aside; it is not used")
        else:
            self._say(f"cache: {entry} is not used ({reason}); moved to {aside}")

    @contextlib.contextmanager
    def _temporary(self, kind: str, key: str) -> Iterator[Path]:
        """A folder on the cache's own file system, under a lock that shows that its owner lives."""
        name = f"{kind}.{key}.{uuid.uuid4().hex[:12]}"
        folder = self.root / ".building" / name
        with self._os_lock(f"building.{name}"):
            try:
                with self._writable(folder):
                    folder.mkdir(parents=True)
                    yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                (self._locks / f"building.{name}").unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Removes what killed processes left half built."""
        for lock in self._locks.glob("building.*"):
            with contextlib.suppress(OSError), self._os_lock(lock.name, blocking=False) as held:
                if held and (self._has_locks or time.time() - lock.stat().st_mtime > _OLD):
                    shutil.rmtree(
                        self.root / ".building" / lock.name.removeprefix("building."),
                        ignore_errors=True,
                    )
                    lock.unlink(missing_ok=True)

    @property
    def _locks(self) -> Path:
        return self.root / ".locks"

    @contextlib.contextmanager
    def _os_lock(self, name: str, blocking: bool = True) -> Iterator[bool]:
        lock = filelock.FileLock(self._locks / name)
        with self._writable():
            self._locks.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=_WORTH_A_WORD if blocking else 0)
            except filelock.Timeout:
                if not blocking:
                    yield False
                    return
                self._say(f"cache: waiting for another process ({name})")
                lock.acquire()
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                if self._has_locks:
                    self._say(
                        f"cache: no file locks in {self.root}: processes may build the same twice"
                    )
                self._has_locks = False
        try:
            yield True
        finally:
            lock.release()

    @contextlib.contextmanager
    def _writable(self, inside: Path | None = None) -> Iterator[None]:
        """Turns "no rights" and "no room" into a line for the user.

        With `inside`, other people's code runs here: only errors about that folder, and a full disk, count.
        """
        try:
            yield
        except OSError as error:
            full = error.errno in FULL
            ours = inside is None or str(error.filename or "").startswith(str(inside))
            if not (full or ours):
                raise
            reason = (error.strerror or str(error)).lower()
            raise StorageError(
                f"cache: cannot write in {self.root} ({reason}); choose another folder with cache=..."
            ) from None


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _files(folder: Path) -> dict[str, Path]:
    """Relative name -> path, of all files of an entry but its manifest."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path.name} is not a plain file")
        if path.is_file() and path != folder / MANIFEST:
            found[path.relative_to(folder).as_posix()] = path
    return found


def _facts(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        return {
            "size": os.fstat(file.fileno()).st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


def _seal(folder: Path, kind: str, key: str) -> None:
    """Brings the files to disk and writes the manifest, last."""
    files = _files(folder)
    for path in files.values():
        _sync(path)
    manifest = {
        "format": _FORMAT,
        "kind": kind,
        "key": key,
        "files": {n: _facts(p) for n, p in files.items()},
    }
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
    _sync(folder / MANIFEST)
    for path in folder.rglob("*"):
        if path.is_dir():
            _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows has no handle for a folder
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fault(entry: Path, kind: str, key: str) -> str | None:
    """Why an entry cannot be used, or None if every file is what its manifest says."""
    try:
        manifest = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
        if (manifest["format"], manifest["kind"], manifest["key"]) != (_FORMAT, kind, key):
            return "it was made for something else"
        found, listed = _files(entry), manifest["files"]
        if found.keys() != listed.keys():
            return f"{min(found.keys() ^ listed.keys())} is missing or was not there before"
        for name, path in found.items():
            if path.stat().st_size != listed[name]["size"] or _facts(path) != listed[name]:
                return f"{name} is damaged"
    except FileNotFoundError:
        return "it has no manifest"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "it cannot be read"
    return None
