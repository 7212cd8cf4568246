"""Weights on disk, and proof on the way back that they are what was saved. The only door to Orbax.

A checkpoint is a folder: `arrays/` written by Orbax and `metadata.json` with the path, shape, dtype and
digest of every leaf and the SHA-256 of every file. Orbax restores a partial checkpoint without a word
(google/orbax#2972); here nothing is returned before all files and all leaves have been checked, and nothing
takes its place before it has been read back.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from convtl.errors import StorageError, UserError
from convtl.keys import digest, digest_arrays
from convtl.storage.files import folder_for

_KIND = "convtl checkpoint 1"
_METADATA = "metadata.json"
_ARRAYS = "arrays"


def digests(variables: Mapping[str, Any]) -> dict[str, str]:
    """Path of every leaf, as `unit/collection/name`, -> digest of its dtype, shape and bytes."""
    return {path: _digest(leaf) for path, leaf in _leaves(_arrays(variables))}


def save(path: Path, variables: Mapping[str, Any], metadata: dict[str, Any]) -> None:
    """Writes nested dictionaries of arrays, with JSON-like metadata; appears complete, by a rename.

    A checkpoint that is there already is replaced, once the new one has been read back and is the same.

    Raises:
      UserError: `path` holds something that is not a checkpoint, or cannot be written, or what was written
        is not what can be read.
      ValueError: a name is empty or has a `/`, a leaf is no array of numbers or has no elements.
    """
    arrays = _arrays(variables)
    path = Path(path).absolute()
    if os.path.lexists(path):
        _require_checkpoint(path)
    try:
        with folder_for(path) as folder:
            _write_arrays(folder / _ARRAYS, arrays)
            _write_metadata(folder, arrays, metadata)
            _read_back(folder, path)
            _put(folder, path)
    except OSError as error:
        raise StorageError(
            f"checkpoint {path}: cannot be written ({(error.strerror or str(error)).lower()})"
        ) from None


def load(
    path: Path, expected: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a checkpoint, checking every file and every leaf.

    Args:
      path: folder that `save` wrote.
      expected: nested dictionaries whose leaves have `shape` and `dtype` (arrays, `jax.ShapeDtypeStruct`);
        the checkpoint must hold these leaves and no others.

    Returns:
      The nested dictionaries with NumPy arrays, and the metadata.

    Raises:
      UserError: it is missing, damaged, incomplete, something else, or not what is expected.
    """
    path = Path(path).absolute()
    record = _record(path)
    if expected is not None:
        _check_expected(path, record["leaves"], expected)
    _check_files(path, record["files"])
    found = dict(_leaves(_read_arrays(path)))
    for name, facts in record["leaves"].items():
        if name not in found:
            raise UserError(f"checkpoint {path}: weights {name} are missing")
        if _facts(found[name]) != facts:
            raise UserError(f"checkpoint {path}: weights {name} are not those that were saved")
    if additional := sorted(found.keys() - record["leaves"].keys()):
        raise UserError(f"checkpoint {path}: weights {additional[0]} were not saved with it")
    tree: dict[str, Any] = {}
    for name in (*record["leaves"], *record["empty"]):
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = found.get(name, {})
    return tree, record["metadata"]


# --- trees ------------------------------------------------------------------------------------------


def _arrays(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The same nested dictionaries, with NumPy arrays as leaves."""
    copied: dict[str, Any] = {}
    for name, value in tree.items():
        if not isinstance(name, str) or not name or "/" in name:
            raise ValueError(f"not a name for weights: {name!r}")
        copied[name] = _arrays(value) if isinstance(value, Mapping) else np.asarray(value)
        if isinstance(value, Mapping):
            continue
        if copied[name].dtype.kind not in "biufcV" or not copied[name].size:
            raise ValueError(f"{name}: not an array of numbers with elements: {copied[name]!r}")
    return copied


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(path, leaf) in the order of the names; empty dictionaries have no leaf."""
    for name in sorted(tree):
        if isinstance(tree[name], Mapping):
            yield from _leaves(tree[name], f"{above}{name}/")
        else:
            yield f"{above}{name}", tree[name]


def _empty(tree: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Paths of empty dictionaries: units without weights."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _empty(value, f"{above}{name}/") if value else iter([f"{above}{name}"])


def _digest(array: np.ndarray) -> str:
    # Types that NumPy does not know, such as bfloat16, all look like raw bytes: their name counts too.
    return digest([str(array.dtype), digest_arrays(array, length=32)], length=32)


def _facts(array: np.ndarray) -> dict[str, Any]:
    return {"shape": list(array.shape), "dtype": str(array.dtype), "digest": _digest(array)}


# --- files ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _checkpointer() -> Iterator[Any]:
    """Orbax, with a small folder for each leaf.

    It merges the parts of an OCDBT database by a glob of its whole path, and finds none of them below a
    folder with brackets in its name. Without OCDBT there is nothing to merge; it warns of that all the same.
    """
    import orbax.checkpoint as ocp  # here: importing it takes half a second

    log = logging.getLogger("absl")
    log.addFilter(_worth_telling)
    try:
        # The plain Checkpointer saves in the calling thread; what its event loop started ends by itself.
        alone = _without_others(ocp)
        handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False, multiprocessing_options=alone)
        with ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
            yield checkpointer
    finally:
        log.removeFilter(_worth_telling)


def _without_others(ocp: Any) -> Any:
    """Whoever writes has all of it: of several processes (`jax.distributed`) none waits for the others."""
    if not jax.distributed.is_initialized():
        return ocp.options.MultiprocessingOptions()
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process-{own}"
    )


def _worth_telling(record: logging.LogRecord) -> bool:
    return "Skipping merge of OCDBT checkpoints" not in record.getMessage()


def _write_arrays(folder: Path, arrays: dict[str, Any]) -> None:
    try:
        with _checkpointer() as checkpointer:
            checkpointer.save(folder, arrays)
    except (ValueError, RuntimeError) as error:  # how TensorStore reports a full disk
        raise OSError(str(error).partition("\n")[0]) from error


def _read_arrays(path: Path) -> dict[str, Any]:
    try:
        with _checkpointer() as checkpointer:
            return _arrays(checkpointer.restore(path / _ARRAYS))
    except (
        Exception
    ) as error:  # Orbax and TensorStore raise what they like for what they cannot read
        reason = str(error).partition("\n")[0]
        raise UserError(f"checkpoint {path}: Orbax cannot read it ({reason})") from None


def _write_metadata(folder: Path, arrays: dict[str, Any], metadata: dict[str, Any]) -> None:
    record = {
        "kind": _KIND,
        "metadata": metadata,
        "leaves": {path: _facts(leaf) for path, leaf in _leaves(arrays)},
        "empty": list(_empty(arrays)),
        "files": _file_digests(folder / _ARRAYS),
    }
    record["digest"] = digest(record, length=32)
    with (folder / _METADATA).open("w", encoding="utf-8") as file:
        json.dump(record, file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())


def _read_back(folder: Path, path: Path) -> None:
    """Refuses what `load` would refuse, while whatever is at `path` is still there."""
    try:
        load(folder)
    except UserError as error:
        reason = str(error).removeprefix(f"checkpoint {folder}: ")
        raise UserError(
            f"checkpoint {path}: cannot be written so that it can be read ({reason})"
        ) from None


def _put(folder: Path, path: Path) -> None:
    """Renames a complete folder to its place; an old checkpoint there makes room first."""
    if not path.exists():
        folder.rename(path)
        return
    old = folder.with_name(f"{folder.name}.old")
    path.rename(old)
    folder.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _file_digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _require_checkpoint(path: Path) -> None:
    """Nothing but a checkpoint is ever replaced by one."""
    try:
        _record(path)
    except UserError:
        raise UserError(f"checkpoint {path}: there is something else in its place") from None


# --- checks -----------------------------------------------------------------------------------------


def _record(path: Path) -> dict[str, Any]:
    """The metadata file, if it is ours and whole."""
    if not path.is_dir():
        raise UserError(f"checkpoint {path}: there is no such folder")
    if not (path / _METADATA).is_file():
        raise UserError(f"checkpoint {path}: not a checkpoint of convtl (it has no {_METADATA})")
    try:
        record = json.loads((path / _METADATA).read_text(encoding="utf-8"))
        kind, told = record["kind"], record.pop("digest")
        whole = digest(record, length=32) == told
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"checkpoint {path}: {_METADATA} cannot be read") from None
    if kind != _KIND:
        raise UserError(f"checkpoint {path}: {_METADATA} is for {kind!r}, not {_KIND!r}")
    if not whole:
        raise UserError(f"checkpoint {path}: {_METADATA} is damaged")
    return record


def _check_files(path: Path, listed: dict[str, str]) -> None:
    try:
        found = _file_digests(path / _ARRAYS)
    except OSError as error:
        raise UserError(f"checkpoint {path}: cannot be read ({error.strerror})") from None
    for name in sorted(listed.keys() | found.keys()):
        if name not in found:
            raise UserError(f"checkpoint {path}: the file {_ARRAYS}/{name} is missing")
        if name not in listed:
            raise UserError(f"checkpoint {path}: the file {_ARRAYS}/{name} was not saved with it")
        if found[name] != listed[name]:
            raise UserError(f"checkpoint {path}: the file {_ARRAYS}/{name} is damaged")


def _check_expected(path: Path, leaves: dict[str, Any], expected: Mapping[str, Any]) -> None:
    wanted = dict(_leaves(expected))
    for name in sorted(wanted.keys() | leaves.keys()):
        if name not in leaves:
            raise UserError(f"checkpoint {path}: weights {name} are missing")
        if name not in wanted:
            raise UserError(f"checkpoint {path}: weights {name} are not expected")
        want = f"{np.dtype(wanted[name].dtype)} {tuple(wanted[name].shape)}"
        have = f"{leaves[name]['dtype']} {tuple(leaves[name]['shape'])}"
        if have != want:
            raise UserError(f"checkpoint {path}: weights {name} are {have}, expected {want}")
