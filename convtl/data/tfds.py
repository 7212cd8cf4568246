"""Any classification data set of TensorFlow Datasets that is prepared as array_record.

Read through `as_data_source`, which needs no TensorFlow; nothing is ever downloaded or prepared here.
"""

import contextlib
import functools
import io
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from absl import logging as absl_logging
from PIL import Image

from convtl import keys
from convtl.config import roles as vocabulary
from convtl.config.domains import TfdsConfig
from convtl.data.building import Pool, Recipe, build_splits, load_pictures
from convtl.data.decoding import Means
from convtl.data.pictures import Fit
from convtl.data.splits import SPLITS, Domain, Store
from convtl.errors import UserError, nearest, unknown_name

VERSION = 1
"""Raised whenever code changes the images or who goes where."""
_CHUNK = 1024
"""Records whose labels are read at a time."""
_SHARES = {"validation": 0.1, "test": 0.2}
"""Of the train split, where the data set has no such split of its own; caps leave more to training."""
_DEFAULT_KEYS = {"image_key": "image", "label_key": "label"}


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


@dataclass(frozen=True)
class _Records:
    """Encoded pictures of a split, a `convtl.data.decoding.Source`; opened anew in each process."""

    data_dir: str
    split: str
    key: str
    fit: Fit
    records: tuple[int, ...]
    """the records that are meant, in order"""

    def ahead(self, indices: Sequence[int]) -> None:
        reader = _reader(self.data_dir, self.split, self.key)
        reader.ahead([self.records[index] for index in indices])

    def open(self, index: int) -> Image.Image:
        reader = _reader(self.data_dir, self.split, self.key)
        return Image.open(io.BytesIO(reader.encoded(self.records[index])))

    def looks_like_a_picture(self, index: int) -> bool:
        del index
        return True


class _Reader:
    """One feature of the records of a split; the others are not decoded."""

    def __init__(self, builder: Any, split: str, key: str) -> None:
        with quiet():
            self._records = builder.as_data_source(split=split).data_source
        self._key, self._skip = key, {key: _tfds().decode.SkipDecoding()}
        self._fetched: dict[int, bytes] = {}
        self._features = _tfds().features.FeaturesDict({key: builder.info.features[key]})

    def __len__(self) -> int:
        return len(self._records)

    def ahead(self, indices: Sequence[int]) -> None:
        """Fetches these records; many at once cost little more than one."""
        records = self._records.__getitems__(list(indices))
        self._fetched = dict(zip(indices, records, strict=True))

    def encoded(self, index: int) -> Any:
        """The value as it is stored: the bytes of a picture, the number of a class."""
        if index not in self._fetched:
            self.ahead([index])
        return self._features.deserialize_example_np(self._fetched[index], decoders=self._skip)[
            self._key
        ]


@functools.lru_cache(maxsize=8)
def _reader(data_dir: str, split: str, key: str) -> _Reader:
    """A reader of this process."""
    with quiet():
        builder = _tfds().core.read_only_builder.builder_from_directory(data_dir)
    return _Reader(builder, split, key)


@dataclass(frozen=True)
class Opened:
    """A prepared data set.

    Attributes:
      image_key, label_key: the features that hold image and class.
    """

    config: TfdsConfig
    builder: Any
    image_key: str
    label_key: str

    @property
    def class_names(self) -> tuple[str, ...]:
        names = tuple(self.builder.info.features[self.label_key].names)
        chosen = self.config.classes
        return names if chosen is None else tuple(name for name in names if name in chosen)

    def build(self, folder: Path, name: str, means: Means) -> None:
        """Decodes all splits into a folder (`convtl.data.building.build_splits`).

        Splits that the data set does not have, or has without labels, are drawn from its first one.

        Raises:
          UserError: no split has labels, images are of several sizes and are to be kept, no room on the disk.
        """
        config = self.config
        there = [split for split in SPLITS if split in self.builder.info.splits]
        labels = {split: self._labels(split, means) for split in there}
        labels = {split: own for split, own in labels.items() if len(own) and (own >= 0).all()}
        if not labels:
            raise UserError(f"name: '{config.name}' has no labelled split {', '.join(SPLITS)}")
        fit = Fit(config.size, self._channels(), config.crop, config.interpolation)
        pools = {split: self._pool(split, own, fit) for split, own in labels.items()}
        recipe = Recipe(
            name=name,
            where=config.name,
            shape=_shape(next(iter(pools.values())), fit),
            shares=_SHARES,
            rng=keys.generator(0, "tfds", VERSION, config.name),
            caps=config.per_class,
            broken=config.broken,
        )
        build_splits(folder, pools, recipe, means)

    def _pool(self, split: str, labels: np.ndarray, fit: Fit) -> Pool:
        """The records of the classes that are wanted, whose labels count those only."""
        names = self.builder.info.features[self.label_key].names
        places = np.array([self._place(name) for name in names], np.int32)[labels]
        records = np.flatnonzero(places >= 0)
        source = _Records(
            str(self.builder.data_dir),
            split,
            self.image_key,
            fit,
            tuple(int(index) for index in records),
        )
        names = [f"{split}/{index}" for index in records]
        return Pool(source, places[records], names, contents=(None,) * len(names))

    def _place(self, name: str) -> int:
        return self.class_names.index(name) if name in self.class_names else -1

    def _channels(self) -> int:
        channels = self.builder.info.features[self.image_key].shape[-1] or 3
        if self.config.grey or channels == 1:
            return 1
        return 3 if self.config.size is not None else channels

    def _labels(self, split: str, means: Means) -> np.ndarray:
        """Class of every record, int32; -1 where there is none."""
        reader = _Reader(self.builder, split, self.label_key)
        labels = np.empty(len(reader), np.int32)
        for start in range(0, len(reader), _CHUNK):
            if start % (16 * _CHUNK) == 0:
                means.tell(
                    f"reading labels of {self.config.name} ({split}): {start} of {len(reader)}"
                )
            chunk = range(start, min(start + _CHUNK, len(reader)))
            reader.ahead(chunk)
            labels[start : chunk.stop] = [int(reader.encoded(index)) for index in chunk]
        return labels


def _shape(pool: Pool, fit: Fit) -> tuple[int, int, int]:
    """Of every image; of the first one where they are kept as large as they are."""
    if fit.size is not None:
        return fit.size, fit.size, fit.channels
    with pool.source.open(0) as picture:
        return picture.height, picture.width, fit.channels


def open_dataset(config: TfdsConfig) -> Opened:
    """Finds a prepared data set.

    Raises:
      UserError: the name is unknown, the data set is not prepared as array_record, the keys do not name
        an image and a class label, or a crop is asked for without a size.
    """
    builder = _builder(config)
    info = builder.info
    suitable = _tfds().core.FileFormat.with_random_access()
    if not info.available_file_formats() & suitable:
        raise UserError(
            f"name: '{config.name}' is prepared in {builder.data_dir} as {info.file_format.value}, which "
            f"cannot be read without TensorFlow; prepare it with: {_command(config)}"
        )
    if config.size is None and config.crop < 1:
        raise UserError(f"crop: got {config.crop} without a size; accepted: with a size to crop to")
    image = _feature(config, info, "image_key", "image of 8 bits", _is_image)
    label = _feature(config, info, "label_key", "class label", _is_label)
    for name in config.classes or ():
        if name not in info.features[label].names:
            raise unknown_name("classes", name, info.features[label].names)
    if config.classes is not None and len(set(config.classes)) < 2:
        raise UserError(f"classes: got {list(config.classes)}; accepted: at least two")
    return Opened(config, builder, image, label)


def load(config: TfdsConfig, store: Store) -> Domain:
    """Return the domain; its pictures are decoded now where they are not in the cache.

    Raises:
      UserError: as `open_dataset`, or pictures cannot be used.
    """
    opened = open_dataset(config)
    return load_pictures(store, opened.class_names, opened.build)


def _is_image(feature: Any) -> bool:
    return isinstance(feature, _tfds().features.Image) and feature.np_dtype == np.uint8


def _is_label(feature: Any) -> bool:
    return isinstance(feature, _tfds().features.ClassLabel)


def _feature(
    config: TfdsConfig, info: Any, key: str, kind: str, suits: Callable[[Any], bool]
) -> str:
    """The name of a feature: as configured or, where nothing was said, the only one that suits."""
    name: str = getattr(config, key)
    if name not in info.features:
        suitable = [other for other, feature in info.features.items() if suits(feature)]
        if name == _DEFAULT_KEYS[key] and len(suitable) == 1:
            return str(suitable[0])
        known = ", ".join(sorted(info.features))
        raise UserError(f"{key}: '{config.name}' has no feature '{name}'; it has: {known}")
    if not suits(info.features[name]):
        raise UserError(
            f"{key}: got '{name}', which is no {kind} in '{config.name}'; accepted: a feature that is one"
        )
    return name


def identity(config: TfdsConfig) -> dict[str, Any]:
    """Parameters, version and sizes of a data set; where it lies is left out.

    Raises:
      UserError: as `open_dataset`.
    """
    info = open_dataset(config).builder.info
    content = {key: value for key, value in vocabulary.content(config).items() if key != "data_dir"}
    sizes = {
        name: [split.num_examples, split.num_bytes] for name, split in sorted(info.splits.items())
    }
    # what a cap leaves has gone to training since there are such caps with this mark; the others draw as before
    rest = {"rest": "train"} if config.per_class.of_held_out else {}
    return {**content, **rest, "data_set": info.full_name, "splits": sizes, "version": VERSION}


def _builder(config: TfdsConfig) -> Any:
    """The builder from what lies on disk: the code that once prepared it is not needed."""
    try:
        with quiet():
            return _tfds().core.read_only_builder.builder_from_files(
                config.name, data_dir=_data_dir(config)
            )
    except _tfds().core.DatasetNotFoundError:
        raise _not_prepared(config) from None
    except ValueError:
        raise UserError(
            f"name: '{config.name}' is no name of a data set; accepted: NAME, NAME/CONFIG or NAME:VERSION"
        ) from None


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
