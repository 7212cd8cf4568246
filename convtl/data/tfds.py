"""Kind `tfds`: a classification data set of TensorFlow Datasets, prepared as array_record.

Read through `as_data_source`, which needs no TensorFlow; nothing is ever downloaded or prepared here.
"""

import contextlib
import io
import re
import shlex
import threading
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from absl import logging as absl_logging
from PIL import Image

from convtl import keys
from convtl.config.domains import TfdsConfig
from convtl.config.values import content
from convtl.data.images import Pool, SplitBuilder
from convtl.data.pictures import Fit
from convtl.data.splits import SPLITS, Domain, Indices, Labels, Store
from convtl.errors import UserError, nearest

VERSION = 1
"""Raised whenever code changes the images or who goes where."""
_CHUNK = 256
"""Records whose labels are read at a time."""
_SHARES = {"validation": 0.1, "test": 0.2}
"""Of the train split, where the data set has no such split of its own; caps leave more to training."""


@cache
def _tfds() -> ModuleType:
    """Import TFDS, which takes seconds and is wanted only here."""
    import tensorflow_datasets

    tensorflow_datasets.disable_progress_bar()
    return tensorflow_datasets


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep TFDS from writing where users read results."""
    _tfds()
    before = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        absl_logging.set_verbosity(before)


class _Feature:
    """One feature of the records of a split, encoded; the others are not read. Safe for threads."""

    def __init__(self, builder: Any, split: str, feature: str) -> None:
        with quiet():
            self._records = builder.as_data_source(split=split).data_source
        self._feature, self._lock = feature, threading.Lock()
        self._skip = {feature: _tfds().decode.SkipDecoding()}
        self._features = _tfds().features.FeaturesDict({feature: builder.info.features[feature]})

    def __len__(self) -> int:
        return len(self._records)

    def read(self, indices: range) -> list[Any]:
        """Return the values as they are stored: the bytes of a picture, the number of a class."""
        with self._lock:
            records = self._records.__getitems__(list(indices))
        decode = self._features.deserialize_example_np
        return [decode(record, decoders=self._skip)[self._feature] for record in records]

    def picture(self, records: Indices, index: int) -> Image.Image:
        """Open the picture of the record at an index."""
        (encoded,) = self.read(range(records[index], records[index] + 1))
        return Image.open(io.BytesIO(encoded))

    def numbers(self) -> Labels:
        """Return the class of every record; -1 where there is none."""
        starts = range(0, len(self), _CHUNK)
        chunks = (self.read(range(start, min(start + _CHUNK, len(self)))) for start in starts)
        return np.array([int(label) for chunk in chunks for label in chunk], np.int32)


def _open(config: TfdsConfig) -> Any:
    """Return the builder of a prepared data set.

    Raises:
      UserError: it is not prepared as array_record, the keys do not name an image and a class label, fewer
        than two classes or unknown ones are chosen, or a size is needed.
    """
    tfds = _tfds()
    data_dir = str(Path(config.data_dir).expanduser()) if config.data_dir else None
    try:
        with quiet():
            builder = tfds.core.read_only_builder.builder_from_files(config.name, data_dir=data_dir)
        readable = tfds.core.FileFormat.with_random_access()
        prepared = bool(builder.info.available_file_formats() & readable)
    except (tfds.core.DatasetNotFoundError, ValueError):
        prepared = False
    if not prepared:
        known = tfds.list_builders(with_community_datasets=False)
        plain = re.split("[/:]", config.name)[0]
        hint = "" if plain in known else nearest(plain, known)
        where = f" --data_dir={shlex.quote(data_dir)}" if data_dir else ""
        raise UserError(
            f"name: got '{config.name}', which is not prepared in {data_dir or '~/tensorflow_datasets'}; accepted: "
            f"what `tfds build {shlex.quote(config.name)} --file_format=array_record{where}` has prepared (needs "
            f"the extra 'tensorflow'){hint and '.'}{hint}"
        )
    features = builder.info.features
    for key, kind in (("image_key", tfds.features.Image), ("label_key", tfds.features.ClassLabel)):
        suitable = [
            name
            for name, feature in features.items()
            if isinstance(feature, kind) and feature.np_dtype in (np.uint8, np.int64)
        ]
        if (name := getattr(config, key)) not in suitable:
            raise UserError(
                f"{key}: got '{name}' for '{config.name}'; accepted: {' or '.join(suitable) or 'no feature of it'}"
            )
    if config.size is None and (config.crop < 1 or None in features[config.image_key].shape[:2]):
        raise UserError("size: got null; accepted: pixels, to crop to or to make images equal")
    chosen, names = config.classes, features[config.label_key].names
    if chosen is not None and (len(set(chosen)) < 2 or not set(chosen) <= set(names)):
        accepted = f"at least two of {', '.join(names[:20])}"
        raise UserError(f"classes: got {list(chosen)}; accepted: {accepted}")
    return builder


def identity(config: TfdsConfig) -> dict[str, Any]:
    """Return parameters, version and sizes of a data set, but no place."""
    info = _open(config).info
    written = {key: value for key, value in content(config).items() if key != "data_dir"}
    parts = sorted(info.splits.items())
    sizes = {name: [part.num_examples, part.num_bytes] for name, part in parts}
    # held-out caps have left the rest to training since they have this mark; other draws are as before
    caps = config.per_class
    rest: dict[str, Any] = {"rest": "train"} if caps.validation or caps.test else {}
    if config.size is None:  # turned, on white and without a fourth channel, as resized ones are
        rest["kept"] = 2
    return {**written, **rest, "data_set": info.full_name, "splits": sizes, "version": VERSION}


def load(config: TfdsConfig, store: Store) -> Domain:
    """Return the domain; its pictures are decoded now where they are not in the cache.

    Splits that the data set does not have, or has without labels, are drawn from its first one.

    Raises:
      UserError: as `_open`, or no split has labels.
    """
    builder = _open(config)
    every = builder.info.features[config.label_key].names
    classes = tuple(name for name in every if config.classes is None or name in config.classes)
    places = np.array([classes.index(n) if n in classes else -1 for n in every], np.int32)

    def build(folder: Path) -> None:
        pools = {}
        for split in SPLITS:
            if split in builder.info.splits:
                labels = _Feature(builder, split, config.label_key).numbers()
                if len(labels) and (labels >= 0).all():
                    records = np.flatnonzero(places[labels] >= 0)
                    picture = partial(_Feature(builder, split, config.image_key).picture, records)
                    names = [f"{split}/{record}" for record in records]
                    unknown = [None] * len(records)
                    pools[split] = Pool(names, places[labels[records]], unknown, picture)
        if not pools:
            raise UserError(f"name: '{config.name}' has no labelled split {', '.join(SPLITS)}")
        height, width, channels = builder.info.features[config.image_key].shape
        grey = config.grey or channels == 1
        shape = (config.size or height, config.size or width, 1 if grey else 3)
        fit = Fit(config.size, grey, config.crop, config.interpolation)
        rng = keys.generator(0, "tfds", VERSION, config.name)
        origin, caps = ("name", config.name), config.per_class
        SplitBuilder(folder, store, caps, origin, pools, fit, shape, _SHARES, rng).build()

    return store.decoded(classes, build)
