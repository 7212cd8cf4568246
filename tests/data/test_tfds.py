"""Data sets of TFDS as they are: of any size, with names of their own, without some splits."""

import io
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from picture_folders import noise
from PIL import Image

from convtl import keys
from convtl.cli import compose
from convtl.config.domains import Caps, TfdsConfig
from convtl.data import images
from convtl.data.domains import Domain, identity, load_domain
from convtl.data.pictures import Fit
from convtl.data.splits import SPLITS
from convtl.errors import UserError


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG")
    return file.getvalue()


def _pets(first: int, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Photographs of many sizes, as of cats and dogs, some grey and some in CMYK."""
    for index in range(first, first + count):
        picture = noise(index, (10 + index % 7, 12 + index % 5)).convert(
            ("RGB", "RGB", "L", "CMYK")[index % 4]
        )
        mask = Image.new("L", picture.size)
        yield (
            index,
            {"photo": _jpeg(picture), "mask": mask, "species": index % 2, "file": f"{index}.jpg"},
        )


class ConvtlPets(tfds.core.GeneratorBasedBuilder):
    """Made for a test."""

    VERSION = tfds.core.Version("2.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "photo": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "mask": tfds.features.Image(
                shape=(None, None, 1), dtype=np.uint16, encoding_format="png"
            ),
            "species": tfds.features.ClassLabel(names=["cat", "dog"]),
            "file": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: object) -> dict[str, object]:
        return {"train": _pets(0, 40), "validation": _pets(100, 8)}

    def _generate_examples(self, examples: object) -> object:
        return examples


class ConvtlOnlyTest(tfds.core.GeneratorBasedBuilder):
    """Made for a test: one split and, of another, no labels."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(6, 6, 1)),
            "label": tfds.features.ClassLabel(num_classes=3),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: object) -> dict[str, object]:
        return {"test": self._generate_examples(30, 0), "train": self._generate_examples(9, -1)}

    def _generate_examples(self, count: int, label: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(count):
            picture = noise(1000 * (label + 1) + index, (6, 6)).convert("L")
            yield index, {"image": picture, "label": label if label < 0 else index % 3}


class ConvtlDamaged(ConvtlPets):
    """Made for a test: a picture that cannot be read."""

    def _split_generators(self, dl_manager: object) -> dict[str, object]:
        def damaged() -> Iterator[tuple[int, dict[str, Any]]]:
            for index, example in _pets(0, 20):
                yield index, example | ({"photo": b"\xff\xd8 no"} if index == 3 else {})

        return {"train": damaged()}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tfds")
    for builder in (ConvtlPets, ConvtlOnlyTest, ConvtlDamaged):
        builder(data_dir=root, file_format="array_record").download_and_prepare()
    return root


def _config(name: str, data_dir: Path, **settings: object) -> TfdsConfig:
    photos = {} if name == "convtl_only_test" else {"image_key": "photo", "label_key": "species"}
    return TfdsConfig(name=name, data_dir=str(data_dir), **{**photos, **settings})  # type: ignore[arg-type]


def _load(
    name: str, data_dir: Path, cache: Path, said: list[str] | None = None, **settings: object
) -> Domain:
    config = _config(name, data_dir, **settings)
    return load_domain("x", config, cache, said.append if said is not None else None)


def test_pictures_of_many_sizes_and_features_with_other_names(
    data_dir: Path, tmp_path: Path
) -> None:
    domain = _load("convtl_pets", data_dir, tmp_path, size=8, crop=0.9, interpolation="bicubic")
    assert domain.class_names == ("cat", "dog")
    assert domain.image_shape == (8, 8, 3)
    assert domain.counts == {"train": 16, "validation": 4, "test": 4}
    found = {image.tobytes() for split in SPLITS for image in domain.splits(0, 0)[split].images}
    expected = set()
    for _, example in [*_pets(0, 40), *_pets(100, 8)]:
        with Image.open(io.BytesIO(example["photo"])) as picture:
            expected.add(Fit(8, False, 0.9, "bicubic")(picture).tobytes())
    assert found == expected


def test_caps_and_threads(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caps = [Caps(train=cap, test=cap) for cap in (2, 3)]
    few, more = (_load("convtl_pets", data_dir, tmp_path, size=8, per_class=cap) for cap in caps)
    assert (few.counts, more.counts) == (
        {"train": 2, "validation": 4, "test": 2},
        {"train": 3, "validation": 4, "test": 3},
    )
    for split in SPLITS:
        one, other = (
            {i.tobytes() for i in domain.splits(0, 0)[split].images} for domain in (few, more)
        )
        assert one <= other
    loaded = []
    for cores in (1, 4):
        monkeypatch.setattr(images, "core_count", partial(int, cores))
        loaded.append(
            _load("convtl_pets", data_dir, tmp_path / str(cores), size=8).splits(0, 0)["train"]
        )
    np.testing.assert_array_equal(loaded[0].images, loaded[1].images)


def test_what_caps_of_drawn_splits_leave_is_for_training(data_dir: Path, tmp_path: Path) -> None:
    whole, capped = (
        _load("convtl_pets", data_dir, tmp_path, size=8, per_class=caps)
        for caps in (Caps(), Caps(validation=3, test=1))
    )
    assert whole.counts == {"train": 16, "validation": 4, "test": 4}
    assert capped.counts == {
        "train": 19,
        "validation": 3,
        "test": 1,
    }  # validation is the data set's own
    before, after = (
        {i.tobytes() for i in domain.splits(0, 0)["train"].images} for domain in (whole, capped)
    )
    assert before < after
    assert not after & {i.tobytes() for i in capped.splits(0, 0)["test"].images}


def test_cats_and_dogs_have_as_many_training_pictures_as_the_experiment_asks_for() -> None:
    experiment = compose(["+experiment=imagenet_cats_dogs"])
    caps = experiment["domains"]["cats_dogs"]["per_class"]
    smaller = 11_604  # class of TFDS's cats_vs_dogs, which has a train split only
    assert caps["validation"] >= experiment["validation_per_class"]
    assert caps["test"] >= experiment["test_per_class"]
    assert smaller - caps["validation"] - caps["test"] >= max(experiment["n_per_class"]) == 10_000


def test_only_caps_of_held_out_splits_change_the_draw(data_dir: Path) -> None:
    config = _config("convtl_pets", data_dir, size=8, per_class=Caps(train=3))
    assert "rest" not in identity(config)
    assert identity(replace(config, per_class=Caps(test=3)))["rest"] == "train"


def test_splits_are_drawn_from_the_first_that_has_labels(data_dir: Path, tmp_path: Path) -> None:
    domain = _load("convtl_only_test", data_dir, tmp_path, size=6)
    assert domain.class_names == ("0", "1", "2")
    assert domain.image_shape == (6, 6, 1)
    assert domain.counts == {"train": 7, "validation": 1, "test": 2}
    pictures = {image.tobytes() for split in SPLITS for image in domain.splits(0, 0)[split].images}
    assert len(pictures) == 30


def test_features_that_are_no_pictures_are_refused_and_nothing_is_printed(
    data_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="image_key: got 'mask' for 'convtl_pets'; accepted: photo"):
        _load("convtl_pets", data_dir, tmp_path, image_key="mask")
    _load("convtl_pets", data_dir, tmp_path)
    assert not any(capfd.readouterr())


def test_records_that_cannot_be_read(data_dir: Path, tmp_path: Path) -> None:
    said: list[str] = []
    domain = _load("convtl_damaged", data_dir, tmp_path, said, size=8)
    assert sum(len(domain.splits(0, 0)[split].labels) for split in SPLITS) == 19
    (line,) = (line for line in said if "left out" in line)
    assert line.startswith(
        "x: 1 of 20 files in convtl_damaged left out (no picture that can be read, convert to JPEG or PNG: train/"
    )


def test_later_keys_leave_identities_alone(data_dir: Path) -> None:
    config = _config("convtl_pets", data_dir, size=8)
    assert set(identity(config)) == {
        "name",
        "kind",
        "size",
        "grey",
        "image_key",
        "label_key",
        "data_set",
        "splits",
        "version",
    }
    other = replace(config, crop=0.875)
    assert keys.digest(identity(other)) != keys.digest(identity(config))
