"""Any classification data set of TensorFlow Datasets that is prepared as array_record.

Read through `as_data_source`, which needs no TensorFlow; nothing is ever downloaded or prepared here.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets
from PIL import Image

from convtl import config as vocabulary
from convtl import keys
from convtl.config import TfdsConfig
from convtl.data import pictures
from convtl.data.prepared import quiet
from convtl.data.split import SPLITS, Split, stratified_parts
from convtl.data.stored import Progress
from convtl.errors import UserError, nearest

VERSION = 1
"""Raised whenever code changes the images or who goes where."""
_CHUNK = 1024
_SHARES = {"validation": 0.1, "test": 0.2}
"""Of the train split, where the data set has no such split of its own."""


@dataclass(frozen=True)
class Opened:
    """A prepared data set."""

    config: TfdsConfig
    builder: Any
    class_names: tuple[str, ...]

    def decode(self, progress: Progress | None = None) -> dict[str, Split]:
        """All splits; those that the data set does not have are drawn from train, stratified by class."""
        own = {name: self._read(name, progress) for name in SPLITS if name in self.builder.info.splits}
        own = {name: split for name, split in own.items() if (split.labels >= 0).all()}
        if "train" not in own:
            raise UserError(f"name: '{self.config.name}' has no labelled split 'train'")
        lacking: dict[str, float | int] = {name: _SHARES[name] for name in _SHARES if name not in own}
        train = own["train"]
        rng = keys.generator(0, "tfds", VERSION, self.config.name)
        parts = stratified_parts(train.labels, {"train": 0, **lacking}, rng)
        drawn = {
            name: Split(train.images[part], train.labels[part], train.strata[part])
            for name, part in parts.items()
        }
        return {name: drawn[name] if name in drawn else own[name] for name in SPLITS}

    def _read(self, name: str, progress: Progress | None) -> Split:
        with quiet():
            source = self.builder.as_data_source(split=name)
        images, labels = [], []
        for start in range(0, len(source), _CHUNK):
            if progress:
                progress(f"decoding {self.config.name} ({name}): image {start} of {len(source)}")
            with quiet():
                records = source.__getitems__(list(range(start, min(start + _CHUNK, len(source)))))
            for record in records:
                images.append(self._image(record[self.config.image_key]))
                labels.append(int(record[self.config.label_key]))
        shapes = {image.shape for image in images}
        if len(shapes) > 1:
            raise UserError(
                f"size: the images of '{self.config.name}' are of {len(shapes)} different shapes, such as "
                f"{' and '.join(str(shape) for shape in sorted(shapes)[:2])}; give a size to resize them to"
            )
        return Split(np.stack(images), np.array(labels, np.int32), np.zeros(len(labels), np.int32))

    def _image(self, pixels: np.ndarray) -> np.ndarray:
        if self.config.size is None and not self.config.grey:
            return pixels
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        if self.config.size is not None:
            return pictures.fit(picture, self.config.size, self.config.grey or pixels.shape[-1] == 1)
        return np.asarray(picture.convert("L"))[..., None]


def open_dataset(config: TfdsConfig) -> Opened:
    """Finds a prepared data set.

    Raises:
      UserError: the name is unknown, the data set is not prepared as array_record, or the keys do not name
        an image and a class label.
    """
    builder = _builder(config)
    info = builder.info
    suitable = tensorflow_datasets.core.FileFormat.with_random_access()
    if not info.available_file_formats() & suitable:
        raise UserError(
            f"name: '{config.name}' is prepared in {builder.data_dir} as {info.file_format.value}, which "
            f"cannot be read without TensorFlow; prepare it with: {_command(config)}"
        )
    for key, name in (("image_key", config.image_key), ("label_key", config.label_key)):
        if name not in info.features:
            known = ", ".join(sorted(info.features))
            raise UserError(f"{key}: '{config.name}' has no feature '{name}'; it has: {known}")
    image, label = info.features[config.image_key], info.features[config.label_key]
    if not isinstance(image, tensorflow_datasets.features.Image) or image.np_dtype != np.uint8:
        raise UserError(
            f"image_key: got '{config.image_key}', which is no image of 8 bits in '{config.name}'; accepted: a "
            "feature that is one"
        )
    if not isinstance(label, tensorflow_datasets.features.ClassLabel):
        raise UserError(
            f"label_key: got '{config.label_key}', which is no class label in '{config.name}'; accepted: a feature "
            "that is one"
        )
    return Opened(config, builder, tuple(label.names))


def tfds_identity(config: TfdsConfig) -> dict[str, Any]:
    """Parameters, version and sizes of a data set; where it lies is left out.

    Raises:
      UserError: as `open_dataset`.
    """
    info = open_dataset(config).builder.info
    content = {key: value for key, value in vocabulary.content(config).items() if key != "data_dir"}
    sizes = {name: [split.num_examples, split.num_bytes] for name, split in sorted(info.splits.items())}
    return {**content, "data_set": info.full_name, "splits": sizes, "version": VERSION}


def _builder(config: TfdsConfig) -> Any:
    """The builder from what lies on disk: the code that once prepared it is not needed."""
    try:
        with quiet():
            return tensorflow_datasets.core.read_only_builder.builder_from_files(
                config.name, data_dir=_data_dir(config)
            )
    except tensorflow_datasets.core.DatasetNotFoundError:
        raise _not_prepared(config) from None
    except ValueError:
        raise UserError(
            f"name: '{config.name}' is no name of a data set; accepted: NAME, NAME/CONFIG or NAME:VERSION"
        ) from None


def _not_prepared(config: TfdsConfig) -> UserError:
    known = tensorflow_datasets.list_builders(with_community_datasets=False)
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
