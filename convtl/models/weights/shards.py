"""Weights of TensorFlow.js and Keras: `model.json` with a `weightsManifest`, and binary shards beside it.

The shards of a group are one stream of bytes, cut anywhere, in which the leaves follow one another as the
manifest lists them (TensorFlow.js: tfjs-core, io/types.ts). Only unquantised float32 is read: it is exact.
"""

import hashlib
import json
import math
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from convtl.errors import UserError

TOPOLOGY = "model.json"
_TARBALLS = (".tgz", ".tar.gz", ".tar")


def recognised(path: Path) -> bool:
    """Whether a path is a folder, a tarball or a file in which shards are looked for."""
    if path.name.endswith(".pth.tar"):  # a PyTorch checkpoint, no tarball
        return False
    return path.is_dir() or path.name == TOPOLOGY or path.name.endswith(_TARBALLS)


def read(path: Path, key: str) -> dict[str, np.ndarray]:
    """Reads all leaves.

    Raises:
      UserError: there is no model.json, or more than one; a shard is missing, short or too long; a leaf is
        quantised or not float32.
    """
    with _opened(path, key) as files:
        arrays: dict[str, np.ndarray] = {}
        for group in _groups(files, key):
            _cut(
                b"".join(_shard(files, name, key) for name in group["paths"]),
                group,
                arrays,
                files,
                key,
            )
        return arrays


def sha256(path: Path, key: str) -> str:
    """Hex SHA-256 of model.json and the shards in their order: the same for a folder and a tarball of it."""
    with _opened(path, key) as files:
        state = hashlib.sha256(files.topology)
        for group in _groups(files, key):
            for name in group["paths"]:
                state.update(_shard(files, name, key))
        return state.hexdigest()


class _Files:
    """model.json and the files beside it, in a folder or a tarball."""

    def __init__(self, path: Path, archive: tarfile.TarFile | None, key: str) -> None:
        self.path = path
        place = self._find(archive, key)
        self._folder = Path(place).parent
        # A compressed tarball is read from front to back once: going back in it starts anew.
        self._inside = None if archive is None else _beside(archive, PurePosixPath(place).parent)
        self.topology = self.bytes_of(TOPOLOGY)

    def _find(self, archive: tarfile.TarFile | None, key: str) -> str:
        if self.path.name == TOPOLOGY:
            return self.path.as_posix()
        if archive is not None:
            names = [item.name for item in archive if item.isfile()]
        else:
            names = [found.as_posix() for found in self.path.rglob(TOPOLOGY)]
        found = sorted(name for name in names if PurePosixPath(name).name == TOPOLOGY)
        if len(found) != 1:
            count = "none" if not found else f"{len(found)}: {', '.join(found[:3])}"
            raise UserError(f"{key}: {self.path}: one {TOPOLOGY} is accepted, there is {count}")
        return found[0]

    def bytes_of(self, name: str) -> bytes:
        """Content of a file beside model.json; FileNotFoundError if there is none."""
        if self._inside is None:
            return (self._folder / name).read_bytes()
        if name not in self._inside:
            raise FileNotFoundError(2, "no such file", name)
        return self._inside[name]


def _beside(archive: tarfile.TarFile, folder: PurePosixPath) -> dict[str, bytes]:
    """Name -> content of the files in one folder of an archive."""
    found = {}
    for item in archive:
        stream = archive.extractfile(item) if item.isfile() else None
        if stream is not None and PurePosixPath(item.name).parent == folder:
            found[PurePosixPath(item.name).name] = stream.read()
    return found


@contextmanager
def _opened(path: Path, key: str) -> Iterator[_Files]:
    try:
        if path.name.endswith(_TARBALLS):
            with tarfile.open(path) as archive:
                yield _Files(path, archive, key)
        else:
            yield _Files(path, None, key)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        reason = (
            (getattr(error, "strerror", None) or str(error).partition("\n")[0]).lower().rstrip(":")
        )
        raise UserError(f"{key}: {path} cannot be read ({reason})") from None


def _groups(files: _Files, key: str) -> list[dict[str, Any]]:
    """The manifest, if it is one."""
    try:
        groups = list(json.loads(files.topology)["weightsManifest"])
        whole = bool(groups) and all(_well_formed(group) for group in groups)
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise UserError(
            f"{key}: {files.path}: {TOPOLOGY} is damaged or has no weightsManifest of files beside it"
        )
    return groups


def _well_formed(group: dict[str, Any]) -> bool:
    """Whether a group names its shards, and its leaves with shape and type."""
    return all(
        isinstance(name, str) and PurePosixPath(name).name == name for name in group["paths"]
    ) and all(
        isinstance(leaf["name"], str)
        and isinstance(leaf["dtype"], str)
        and all(isinstance(side, int) and side >= 0 for side in leaf["shape"])
        for leaf in group["weights"]
    )


def _shard(files: _Files, name: str, key: str) -> bytes:
    try:
        return files.bytes_of(name)
    except FileNotFoundError:
        raise UserError(f"{key}: {files.path}: the shard {name} is missing") from None


def _cut(
    stream: bytes, group: dict[str, Any], arrays: dict[str, np.ndarray], files: _Files, key: str
) -> None:
    """Adds the leaves of one group's bytes to `arrays`."""
    place = 0
    for leaf in group["weights"]:
        name, shape = leaf["name"], tuple(leaf["shape"])
        if leaf["dtype"] != "float32" or "quantization" in leaf:
            kind = "quantised" if "quantization" in leaf else leaf["dtype"]
            raise UserError(f"{key}: {files.path}: {name} is {kind}; accepted: float32")
        if name in arrays:
            raise UserError(f"{key}: {files.path}: {name} is there twice")
        size = math.prod(shape)
        if place + 4 * size > len(stream):
            raise UserError(f"{key}: {files.path} is damaged: the shards end inside {name}")
        arrays[name] = np.frombuffer(stream, "<f4", size, place).reshape(shape).astype(np.float32)
        place += 4 * size
    if place != len(stream):
        raise UserError(
            f"{key}: {files.path} is damaged: the shards hold {len(stream) - place} bytes too many"
        )
