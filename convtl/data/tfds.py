"""Kind `tfds`: data sets of TensorFlow Datasets, prepared as array_record.

Read through `as_data_source`, which needs no TensorFlow; nothing is ever downloaded or prepared here.
"""

import io
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convtl import keys
from convtl.config.domains import TfdsConfig
from convtl.config.values import content
from convtl.data.images import Pool, SplitBuilder
from convtl.data.pictures import Fit
from convtl.data.splits import SPLITS, Domain, Store
from convtl.errors import UserError

VERSION = 1
"""Raised when code changes the images or their splits."""
_CHUNK = 256
"""Records whose labels are read at a time."""
_SHARES = {"validation": 0.1, "test": 0.2}
"""Shares of the train split, for splits that the data set lacks; caps leave more to training."""


def _open(config: TfdsConfig) -> Any:
    """Return a data set's builder; UserError if it is not prepared or keys do not fit."""
    import tensorflow_datasets as tfds  # takes seconds and is wanted only here

    data_dir = str(Path(config.data_dir).expanduser()) if config.data_dir else None
    try:
        builder = tfds.core.read_only_builder.builder_from_files(config.name, data_dir=data_dir)
        readable = tfds.core.FileFormat.with_random_access()
        prepared = bool(builder.info.available_file_formats() & readable)
    except (tfds.core.DatasetNotFoundError, ValueError):
        prepared = False
    if not prepared:
        where = f" --data_dir={shlex.quote(data_dir)}" if data_dir else ""
        raise UserError(
            f"name: got '{config.name}', which is not prepared in {data_dir or '~/tensorflow_datasets'}; accepted: "
            f"what `tfds build {shlex.quote(config.name)} --file_format=array_record{where}` has prepared (needs "
            "the extra 'tensorflow')"
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
    return builder


def _reader(builder: Any, split: str, feature: str) -> Callable[[Iterable[int]], list[Any]]:
    """Return a function from record numbers to one feature as it is stored."""
    import tensorflow_datasets as tfds

    records = builder.as_data_source(split=split).data_source  # safe for threads
    features = tfds.features.FeaturesDict({feature: builder.info.features[feature]})
    decoders = {feature: tfds.decode.SkipDecoding()}

    def read(indices: Iterable[int]) -> list[Any]:
        encoded = records.__getitems__(list(indices))
        return [features.deserialize_example_np(x, decoders=decoders)[feature] for x in encoded]

    return read


def identity(config: TfdsConfig) -> dict[str, Any]:
    """Return parameters, version and sizes of a data set, without its place."""
    info = _open(config).info
    written = {key: value for key, value in content(config).items() if key != "data_dir"}
    parts = sorted(info.splits.items())
    sizes = {name: [part.num_examples, part.num_bytes] for name, part in parts}
    # held-out caps have left the rest to training since they have this mark; other draws are as before
    caps = config.per_class
    rest: dict[str, Any] = {"rest": "train"} if caps.validation or caps.test else {}
    return {**written, **rest, "data_set": info.full_name, "splits": sizes, "version": VERSION}


def load(config: TfdsConfig, store: Store) -> Domain:
    """Return the domain, decoded now unless cached.

    Splits that the data set does not have, or has without labels, are drawn from its first one.
    """
    builder = _open(config)
    features = builder.info.features

    def pool(split: str) -> Pool | None:
        """Return the pictures of a split; None if it is empty or lacks labels."""
        count, read = (
            builder.info.splits[split].num_examples,
            _reader(builder, split, config.label_key),
        )
        chunks = (range(count)[first : first + _CHUNK] for first in range(0, count, _CHUNK))
        labels = np.array([label for chunk in chunks for label in read(chunk)], np.int32)
        if not count or labels.min() < 0:
            return None
        names, picture = (
            [f"{split}/{i}" for i in range(count)],
            _reader(builder, split, config.image_key),
        )
        return Pool(
            names, labels, [None] * count, lambda index: Image.open(io.BytesIO(*picture([index])))
        )

    def build(folder: Path) -> None:
        pools = {split: pool(split) for split in SPLITS if split in builder.info.splits}
        labelled = {split: part for split, part in pools.items() if part is not None}
        if not labelled:
            raise UserError(f"name: '{config.name}' has no labelled split {', '.join(SPLITS)}")
        grey = config.grey or features[config.image_key].shape[2] == 1
        fit = Fit(config.size, grey, config.crop, config.interpolation)
        rng = keys.generator(0, "tfds", VERSION, config.name)
        origin, caps = ("name", config.name), config.per_class
        SplitBuilder(folder, store, caps, origin, labelled, fit, _SHARES, rng).build()

    return store.decoded(tuple(features[config.label_key].names), build)
