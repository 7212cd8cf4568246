"""Kind `tfds`: a classification data set of TensorFlow Datasets, prepared as array_record.

Read through `as_data_source`, which needs no TensorFlow; nothing is ever downloaded or prepared here.
"""

import contextlib
import functools
import io
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from absl import logging as absl_logging
from PIL import Image

from convtl import keys
from convtl.config.domains import TfdsConfig
from convtl.config.roles import content
from convtl.data.images import Pool, SplitBuilder, load_pictures
from convtl.data.pictures import Fit
from convtl.data.splits import SPLITS, Domain, Store
from convtl.errors import UserError, nearest, unknown_name

VERSION = 1
"""Raised whenever code changes the images or who goes where."""
_CHUNK = 256
"""Records whose labels are read at a time."""
_SHARES = {"validation": 0.1, "test": 0.2}
"""Of the train split, where the data set has no such split of its own; caps leave more to training."""


@functools.cache
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


class _Column:
    """One feature of the records of a split, encoded; the others are not read. Safe for threads."""

    def __init__(self, builder: Any, split: str, feature: str) -> None:
        with quiet():
            self._records = builder.as_data_source(split=split).data_source
        self.split, self._feature, self._lock = split, feature, threading.Lock()
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


def _open(config: TfdsConfig) -> tuple[Any, str, str]:
    """Return the builder of a prepared data set, and the features that hold image and class.

    Raises:
      UserError: the name is unknown, the data set is not prepared as array_record, the keys do not name
        an image and a class label, or a crop is given without a size.
    """
    tfds, data_dir = _tfds(), _data_dir(config)
    try:
        with quiet():
            builder = tfds.core.read_only_builder.builder_from_files(config.name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        raise _not_prepared(config) from None
    except ValueError:
        raise UserError(
            f"name: '{config.name}' is no name of a data set; accepted: NAME, NAME/CONFIG or NAME:VERSION"
        ) from None
    info = builder.info
    if not info.available_file_formats() & tfds.core.FileFormat.with_random_access():
        raise UserError(
            f"name: '{config.name}' is prepared in {builder.data_dir} as {info.file_format.value}, which "
            f"cannot be read without TensorFlow; prepare it with: {_command(config)}"
        )
    if config.size is None and config.crop < 1:
        raise UserError(f"crop: got {config.crop} without a size; accepted: with a size to crop to")
    image, label = (_feature(config, info, key) for key in ("image", "label"))
    for name in config.classes or ():
        if name not in info.features[label].names:
            raise unknown_name("classes", name, info.features[label].names)
    if config.classes is not None and len(set(config.classes)) < 2:
        raise UserError(f"classes: got {list(config.classes)}; accepted: at least two")
    return builder, image, label


def _feature(config: TfdsConfig, info: Any, default: str) -> str:
    """Return the name of the image or label feature: as configured, else the only one that suits."""
    features, key = _tfds().features, f"{default}_key"
    if default == "image":
        kind, required = "image of 8 bits", features.Image
    else:
        kind, required = "class label", features.ClassLabel

    def suits(feature: Any) -> bool:
        eight_bits = default == "label" or feature.np_dtype == np.uint8
        return isinstance(feature, required) and eight_bits

    name: str = getattr(config, key)
    if name not in info.features:
        suitable = [str(other) for other, feature in info.features.items() if suits(feature)]
        if name == default and len(suitable) == 1:
            return suitable[0]
        known = ", ".join(sorted(info.features))
        raise UserError(f"{key}: '{config.name}' has no feature '{name}'; it has: {known}")
    if not suits(info.features[name]):
        raise UserError(
            f"{key}: got '{name}', which is no {kind} in '{config.name}'; accepted: a feature that is one"
        )
    return name


def identity(config: TfdsConfig) -> dict[str, Any]:
    """Return parameters, version and sizes of a data set, but no place.

    Raises:
      UserError: as `_open`.
    """
    info = _open(config)[0].info
    written = {key: value for key, value in content(config).items() if key != "data_dir"}
    sizes = {
        name: [part.num_examples, part.num_bytes] for name, part in sorted(info.splits.items())
    }
    # held-out caps have left the rest to training since they have this mark; other draws are as before
    caps = config.per_class
    rest = {"rest": "train"} if caps.validation or caps.test else {}
    return {**written, **rest, "data_set": info.full_name, "splits": sizes, "version": VERSION}


def load(config: TfdsConfig, store: Store) -> Domain:
    """Return the domain; its pictures are decoded now where they are not in the cache.

    Splits that the data set does not have, or has without labels, are drawn from its first one.

    Raises:
      UserError: as `_open`, no split has labels, images are of several sizes and are to be kept, or
        there is no room on the disk.
    """
    builder, image, label = _open(config)
    every = builder.info.features[label].names
    names = tuple(name for name in every if config.classes is None or name in config.classes)
    places = np.array([names.index(name) if name in names else -1 for name in every], np.int32)

    def build(folder: Path) -> None:
        pools = {}
        for split in SPLITS:
            if split in builder.info.splits:
                labels = _labels(_Column(builder, split, label), store)
                if len(labels) and (labels >= 0).all():
                    pools[split] = _pool(_Column(builder, split, image), places[labels])
        if not pools:
            raise UserError(f"name: '{config.name}' has no labelled split {', '.join(SPLITS)}")
        channels = builder.info.features[image].shape[-1] or 3
        channels = 1 if config.grey else channels if config.size is None else min(channels, 3)
        width = height = config.size
        if width is None or height is None:
            with next(iter(pools.values())).open(0) as picture:
                width, height = picture.size
        shape = (height, width, channels)
        fit = Fit(config.size, channels, config.crop, config.interpolation)
        rng = keys.generator(0, "tfds", VERSION, config.name)
        SplitBuilder(folder, store, config, config.name, pools, fit, shape, _SHARES, rng).build()

    return load_pictures(store, names, build)


def _labels(column: _Column, store: Store) -> np.ndarray:
    """Return the class of every record, int32; -1 where there is none."""
    labels = np.empty(len(column), np.int32)
    for start in range(0, len(column), _CHUNK):
        if start % (64 * _CHUNK) == 0:
            store.say(f"reading labels of {store.name} ({column.split}): {start} of {len(column)}")
        chunk = range(start, min(start + _CHUNK, len(column)))
        labels[start : chunk.stop] = [int(value) for value in column.read(chunk)]
    return labels


def _pool(column: _Column, labels: np.ndarray) -> Pool:
    """Return the pictures that have a label, of at least 0."""
    records = np.flatnonzero(labels >= 0)

    def open_picture(index: int) -> Image.Image:
        record = int(records[index])
        return Image.open(io.BytesIO(column.read(range(record, record + 1))[0]))

    names = [f"{column.split}/{record}" for record in records]
    return Pool(names, labels[records], (None,) * len(records), open_picture)


def _not_prepared(config: TfdsConfig) -> UserError:
    known = _tfds().list_builders(with_community_datasets=False)
    plain = config.name.split("/")[0].split(":")[0]
    place = _data_dir(config) or "~/tensorflow_datasets"
    if plain not in known:
        return UserError(
            f"name: '{config.name}' is not prepared in {place} and no data set of TFDS."
            f"{nearest(plain, known)}"
        )
    return UserError(
        f"name: '{config.name}' is not prepared in {place}; prepare it, where there is a network, with: "
        f"{_command(config)} (this needs the extra 'tensorflow': pip install 'convtl[tensorflow]')"
    )


def _command(config: TfdsConfig) -> str:
    where = f" --data_dir={shlex.quote(_data_dir(config) or '')}" if config.data_dir else ""
    return f"tfds build {shlex.quote(config.name)} --file_format=array_record{where}"


def _data_dir(config: TfdsConfig) -> str | None:
    return str(Path(config.data_dir).expanduser()) if config.data_dir else None
