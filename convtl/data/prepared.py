"""Typed scripts as prepared TFDS data sets: prepare once, read in bulk."""

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging as absl_logging

from convtl import keys
from convtl.config.domains import TypedScriptConfig
from convtl.data import typed_script as data_set
from convtl.data.split import SPLITS, Split
from convtl.data.stored import Progress
from convtl.data.typed import typed_identity
from convtl.storage.cache import FULL, Cache

_CHUNK = 4096
"""Records read at a time."""


def typed_script(
    content: TypedScriptConfig, cache: Cache, progress: Progress | None = None
) -> dict[str, Split]:
    """All splits of a typed script, read from its TFDS data set in the folder tfds of the cache.

    The data set is prepared first if it is missing, or if it was made with other fonts or letters; what was
    drawn for it just now is not read back.
    """
    with cache.lock("tfds", f"typed_script-{data_set.config_name(content)}"):
        drawn = _Drawn()
        builder = _prepare(content, cache.root / "tfds", progress, drawn)
        with quiet():
            return {
                split: drawn.split(split) or _read(builder.as_data_source(split=split))
                for split in SPLITS
            }


class _Drawn:
    """Keeps images as they are drawn, letter by letter."""

    def __init__(self) -> None:
        self._parts: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}

    def add(self, split: str, label: int, images: np.ndarray, faces: np.ndarray) -> None:
        labels = np.full(len(images), label, np.int32)
        self._parts.setdefault(split, []).append((images[..., None], labels, faces))

    def split(self, name: str) -> Split | None:
        """A split, which is handed out once; None if nothing was drawn."""
        parts = self._parts.pop(name, None)
        return _joined(parts) if parts else None


def _prepare(
    content: TypedScriptConfig, data_dir: Path, progress: Progress | None, drawn: _Drawn
) -> data_set.TypedScript:
    data_dir.mkdir(parents=True, exist_ok=True)
    stdout = sys.stdout

    def tell(line: str) -> None:
        with contextlib.redirect_stdout(stdout):
            if progress:
                progress(line)

    with quiet():
        builder = data_set.builder(content, data_dir)
        expected = keys.digest(typed_identity(content))
        if builder.is_prepared() and (builder.info.metadata or {}).get("digest") != expected:
            shutil.rmtree(builder.data_dir)
            builder = data_set.builder(content, data_dir)
        if not builder.is_prepared():
            builder.progress, builder.drawn = tell, drawn.add
            for left in Path(builder.data_dir).parent.glob(
                "incomplete.*"
            ):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            with _full_disk_as_such():
                builder.download_and_prepare()
    return builder


@contextlib.contextmanager
def _full_disk_as_such() -> Iterator[None]:
    """ArrayRecord tells of a full disk in the text of a RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        for code in FULL:
            if os.strerror(code) in str(error):
                raise OSError(code, os.strerror(code)) from None
        raise


def _read(source: Any) -> Split:
    """Decodes a data source; records lie in the order in which they were drawn."""
    parts = []
    for start in range(0, len(source), _CHUNK):
        records = source.__getitems__(list(range(start, min(start + _CHUNK, len(source)))))
        parts.append(
            (
                np.stack([record["image"] for record in records]),
                np.array([record["label"] for record in records], np.int32),
                np.array([record["face"] for record in records], np.int32),
            )
        )
    return _joined(parts)


def _joined(parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Split:
    """One split of (images, labels, strata) that follow each other."""
    images, labels, strata = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Split(images, labels, strata)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps TFDS from drawing its own progress bars and from printing where users read results."""
    import tensorflow_datasets as tfds

    before = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        absl_logging.set_verbosity(before)
