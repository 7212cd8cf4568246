"""Weights on disk: arrays saved by Orbax, verified by file digests when read.

Orbax restores a partial checkpoint without an error (google/orbax#2972).
"""

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from convtl.errors import StorageError, UserError
from convtl.keys import digest, digest_arrays
from convtl.storage.files import contents, replace_folder, sync, temporary_folder

_KIND = "convtl checkpoint 2"
_METADATA = "metadata.json"
_ARRAYS = "arrays"
_SILENT = logging.Filter("convtl")  # drops what other loggers say


def digests(variables: Mapping[str, Any]) -> dict[str, str]:
    """Return leaf path `unit/collection/name` -> digest of dtype, shape and bytes."""
    return {
        # Types that NumPy does not know, such as bfloat16, look like raw bytes: their name counts too.
        name: digest([str(leaf.dtype), digest_arrays(leaf, length=32)], length=32)
        for name, leaf in _leaves(variables).items()
        if leaf is not None
    }


def save(path: Path, variables: Mapping[str, Any], metadata: dict[str, Any]) -> None:
    """Write a checkpoint, read it back, and replace an earlier one.

    Raises:
      UserError: `path` holds something else, or cannot be written and read back (StorageError).
      ValueError: a name is empty or has a `/`, a leaf is no array of numbers or has no elements.
    """
    path, leaves = Path(path).absolute(), _leaves(variables)
    record: dict[str, Any] = {"kind": _KIND, "metadata": metadata}
    digest(record)  # refuses metadata that JSON cannot hold, before anything is written
    if os.path.lexists(path):
        _read_record(path)
    # Of the files around the numbers of a leaf, 16 kB at most.
    size = sum(16_384 + (0 if leaf is None else leaf.nbytes) for leaf in leaves.values())
    try:
        with temporary_folder(path) as folder:
            if size > (free := shutil.disk_usage(folder).free):  # else Orbax prints tracebacks
                room = f"{size / 1e9:.1f} GB needed, {free / 1e9:.1f} free"
                raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({room})")
            with _checkpointer() as checkpointer:
                checkpointer.save(folder / _ARRAYS, _nested(leaves))
            record["files"] = contents(folder / _ARRAYS)
            record["digest"] = digest(record, length=32)
            (folder / _METADATA).write_text(json.dumps(record, indent=1), encoding="utf-8")
            sync(folder / _METADATA)
            if digests(load(folder)[0]) != digests(variables):
                raise ValueError("what is read back is not what was written")
            replace_folder(folder, path)
    except (OSError, ValueError, RuntimeError, UserError) as error:  # TensorStore raises all three
        reason = (getattr(error, "strerror", None) or str(error)).partition("\n")[0]
        raise StorageError(f"checkpoint {path}: cannot be written ({reason.lower()})") from None


def load(
    path: Path, expected: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Verify and read a checkpoint: nested dictionaries of arrays, and metadata.

    Args:
      expected: leaves whose `shape` and `dtype` the checkpoint must declare.

    Raises:
      UserError: it is missing, damaged, incomplete, something else, or not as expected.
    """
    path = Path(path).absolute()
    record = _read_record(path)
    try:
        if contents(path / _ARRAYS) != record["files"]:
            raise ValueError("its files are not those that were saved")
        with _checkpointer() as checkpointer:
            if expected is not None:
                declared = _shapes(checkpointer.metadata(path / _ARRAYS).item_metadata.tree)
                right = _shapes(expected)
                for name in sorted(name for name, _ in right.items() ^ declared.items()):
                    was, accepted = declared.get(name, "missing"), right.get(name, "none")
                    line = f"weights {name} are {was}, expected {accepted}"
                    raise UserError(f"checkpoint {path}: {line}")
            leaves = _leaves(checkpointer.restore(path / _ARRAYS))
    except UserError:
        raise
    except Exception as error:  # Orbax and TensorStore raise errors of any type
        reason = str(error).partition("\n")[0]
        raise UserError(f"checkpoint {path}: {_ARRAYS} is damaged ({reason})") from None
    return _nested(leaves), record["metadata"]


def _leaves(tree: Mapping[str, Any], above: str = "") -> dict[str, np.ndarray | None]:
    """Leaf path -> array; None for an empty mapping (a unit without weights)."""
    leaves: dict[str, np.ndarray | None] = {}
    for name, value in tree.items():
        if not isinstance(name, str) or not name or "/" in name:
            raise ValueError(f"not a name for weights: {name!r}")
        if isinstance(value, Mapping):
            leaves |= _leaves(value, f"{above}{name}/") or {above + name: None}
            continue
        array = leaves[above + name] = np.asarray(value)
        if array.dtype.kind not in "biufcV" or not array.size:
            raise ValueError(f"{name}: not an array of numbers with elements: {array!r}")
    return dict(sorted(leaves.items()))


def _nested(leaves: Mapping[str, np.ndarray | None]) -> dict[str, Any]:
    return traverse_util.unflatten_dict(
        {name: {} if leaf is None else leaf for name, leaf in leaves.items()}, sep="/"
    )


@contextmanager
def _checkpointer() -> Iterator[Any]:
    """Orbax's checkpointer, silent; without OCDBT, which fails below `[` in paths."""
    import orbax.checkpoint as ocp  # here: importing it takes half a second

    process = jax.process_index() if jax.distributed.is_initialized() else 0
    alone = ocp.options.MultiprocessingOptions(  # the process that writes waits for no other
        primary_host=process,
        active_processes={process} if jax.distributed.is_initialized() else None,
        barrier_sync_key_prefix=f"process-{process}",
    )
    log = logging.getLogger("absl")
    log.addFilter(_SILENT)
    try:
        handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False, multiprocessing_options=alone)
        with ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
            yield checkpointer
    finally:
        log.removeFilter(_SILENT)


def _read_record(path: Path) -> dict[str, Any]:
    """Read and verify the metadata file of a checkpoint."""
    if not (path / _METADATA).is_file():
        raise UserError(f"checkpoint {path}: not a checkpoint of convtl (it has no {_METADATA})")
    try:
        record = json.loads((path / _METADATA).read_text(encoding="utf-8"))
        checksum = record.pop("digest")
        sound = record["kind"] == _KIND and digest(record, length=32) == checksum
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise UserError(f"checkpoint {path}: {_METADATA} is of something else, or is damaged")
    return record


def _shapes(tree: Mapping[str, Any]) -> dict[str, str]:
    leaves = traverse_util.flatten_dict(dict(tree), sep="/")
    return {name: f"{leaf.dtype} {tuple(leaf.shape)}" for name, leaf in leaves.items()}
