"""TFDS data set `typed_script`: letters of one script, typed in several faces, disturbed and noisy.

Importing this module registers the builder, so that what was prepared can be read as any other TFDS data
set: `tfds.data_source("typed_script/latin", data_dir=..., split="train")`. TensorFlow is not needed.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int32, UInt8

from convtl import keys
from convtl.config.domains import TypedScriptConfig
from convtl.config.roles import dump
from convtl.data import rendering
from convtl.data.scripts import SCRIPTS
from convtl.data.split import SPLITS
from convtl.data.typed import all_faces, faces_of, letters_of, typed_identity

_BLOCK = 100_000
"""Room for the images of one letter in a key, where they are not more."""


@dataclass
class TypedScriptBuilderConfig(tfds.core.BuilderConfig):
    """One script and how it is drawn."""

    content: TypedScriptConfig = field(default_factory=lambda: TypedScriptConfig(script="latin"))


def _builder_config(name: str, content: TypedScriptConfig) -> TypedScriptBuilderConfig:
    return TypedScriptBuilderConfig(
        name=name, description=f"Typed letters, {content.script}.", content=content
    )


class TypedScript(tfds.core.GeneratorBasedBuilder):
    """Images (size, size, 1) uint8, `label` (the letter) and `face` (the font it was drawn in)."""

    name = "typed_script"
    VERSION = tfds.core.Version(f"{rendering.VERSION}.0.0")
    RELEASE_NOTES = {f"{rendering.VERSION}.0.0": "Letters from matplotlib's bundled fonts."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        _builder_config(script, TypedScriptConfig(script=script)) for script in SCRIPTS
    ]
    progress: Callable[[str], None] | None = None
    """Called with a line now and then while letters are drawn."""
    drawn: (
        Callable[[str, int, UInt8[np.ndarray, "n size size"], Int32[np.ndarray, " n"]], None] | None
    ) = None
    """Called with the split, label, images and faces of each letter when its last record was handed out."""

    def _info(self) -> tfds.core.DatasetInfo:
        content = self.builder_config.content
        side = content.size
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(side, side, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=letters_of(content)),
                    "face": tfds.features.ClassLabel(names=all_faces(content)),
                }
            ),
            supervised_keys=("image", "label"),
            metadata=tfds.core.MetadataDict(digest=keys.digest(typed_identity(content))),
            disable_shuffling=True,  # records lie in the order of (letter, image): read in bulk
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # nothing is downloaded
        counts = dump(self.builder_config.content.per_class)
        return {split: self._generate_examples(split, counts[split]) for split in SPLITS}

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
        content, progress = self.builder_config.content, self.progress
        letters, room = letters_of(content), max(_BLOCK, count)
        faces = faces_of(content, split)
        numbers = np.array([all_faces(content).index(face) for face in faces], np.int32)
        drawn = rendering.draw_all(letters, faces, content.size, content.jitter, {split: count})
        for label, _, images in drawn:
            if progress and label % 8 == 0:
                progress(
                    f"drawing {content.script} ({split}): letter {label + 1} of {len(letters)}"
                )
            strata = numbers[images.faces]
            for index in range(count):
                yield (
                    label * room + index,
                    {
                        "image": png(images.images[index]),
                        "label": label,
                        "face": int(strata[index]),
                    },
                )
            if self.drawn:
                self.drawn(split, label, images.images, strata)


def config_name(content: TypedScriptConfig) -> str:
    """Name of a domain's builder config: the script's plain name where all else is default."""
    if content == TypedScriptConfig(script=content.script):
        return content.script
    return f"{content.script}-{keys.digest(typed_identity(content))}"


def builder(content: TypedScriptConfig, data_dir: Path) -> TypedScript:
    """The builder of a domain's data set in a folder, prepared or not."""
    name = config_name(content)
    chosen = name if name in SCRIPTS else _builder_config(name, content)
    return TypedScript(config=chosen, data_dir=data_dir, file_format="array_record")


_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def png(image: UInt8[np.ndarray, "height width"]) -> bytes:
    """A grey image as an uncompressed PNG file: noise would not shrink, and this is quick to write."""
    height, width = image.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row starts with its filter type, 0
    rows[:, 1:] = image
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        _SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(rows.tobytes(), 0))
        + _END
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )
