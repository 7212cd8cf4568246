"""Experiments on photographs, on stand-ins: data sets of the same names and features, weights of the same leaves."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from safetensors.numpy import save_file

from convtl.cli import compose
from convtl.conduct import run_study
from convtl.config.parsing import parse
from convtl.study.grid import expand
from convtl.study.store import RowStore

sys.path.append(str(Path(__file__).parent / "models"))
from foreign_files import drawn, shapes

SETS = {
    "oxford_iiit_pet": ((None, None, 3), ("Abyssinian", "beagle", "pug"), ("train", "test")),
    "cats_vs_dogs": ((None, None, 3), ("cat", "dog"), ("train",)),
}
"""Name -> shape of an image, classes, splits: as TFDS has them (of the 37 breeds of pets three)."""
LITE = "imagenet_efficientnet_lite0"


def _examples(
    shape: tuple[int | None, ...], classes: int, each: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    rng = np.random.default_rng(classes)
    for index in range(classes * each):
        size = (shape[0] or 30 + index % 5, shape[1] or 34 + index % 3)
        pixels = rng.integers(0, 200, (*size, 3), np.uint8)
        yield index, {"image": Image.fromarray(pixels), "label": index % classes}


def _prepare(name: str, root: Path) -> None:
    shape, classes, splits = SETS[name]

    def info(self: Any) -> Any:
        features = {
            "image": tfds.features.Image(shape=shape, encoding_format="png"),
            "label": tfds.features.ClassLabel(names=list(classes)),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def generators(self: Any, manager: Any) -> Any:
        return {split: _examples(shape, len(classes), 40) for split in splits}

    content = {
        "__module__": __name__,
        "VERSION": tfds.core.Version("3.0.2"),
        "name": name,
        "url_infos": {},
        "_info": info,
        "_split_generators": generators,
        "_generate_examples": lambda self, examples: examples,
    }
    with tfds.core.registered.skip_registration():
        builder = type(name, (tfds.core.GeneratorBasedBuilder,), content)
    builder(data_dir=str(root), file_format="array_record").download_and_prepare()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for name in SETS:
        _prepare(name, root)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """EfficientNet-Lite0 of random weights, under the names of the package's file."""
    path = tmp_path_factory.mktemp("weights") / "lite0.safetensors"
    save_file(drawn(shapes("efficientnet_lite0_efficientnet_lite_pytorch")), path)
    return {
        "kind": "file",
        "model": "efficientnet_lite0",
        "naming": "efficientnet_lite_pytorch",
        "path": str(path),
        "size": 32,
        "mean": [127.0] * 3,
        "std": [128.0] * 3,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for index, example in _examples((None, None, 3), 3, 40):
        own = root / f"class {example['label']}"
        own.mkdir(exist_ok=True)
        example["image"].save(own / f"{index}.png")
    return root


def _content(
    name: str, words: list[str], prepared: Path, folder: Path, weights: dict[str, Any]
) -> dict[str, Any]:
    content = compose([f"+experiment={name}", f"path={folder}", *words])
    content["weights"] = {**content["weights"], LITE: weights}
    for domain in content["domains"].values():
        if domain["kind"] == "tfds":
            domain |= {"data_dir": str(prepared)}
            domain.pop("per_class", None)
    return content


CUT = [
    "replicates=1",
    "updates=4",
    "steps_per_call=4",
    "lr=1e-3",
    "batch_size=4",
    "n_per_class=2",
    "test_per_class=5",
    "validation_per_class=3",
    "pretrain={images_per_class: 8,updates: 4}",
]


IMAGENET = ["imagenet_groceries", "imagenet_pets", "imagenet_cats_dogs"]


@pytest.mark.parametrize("name", IMAGENET)
def test_every_part_of_a_study_of_imagenet_expands(name, prepared, folder, weights) -> None:
    content = _content(name, [], prepared, folder, weights)
    _, trials = expand(parse(content))
    assert {"scratch", LITE, f"{LITE}:shuffled", "random"} <= {trial.source for trial in trials}
    assert {trial.model for trial in trials} == {"efficientnet_lite0"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [IMAGENET[0], *(pytest.param(name, marks=pytest.mark.long) for name in IMAGENET[1:])]
)
def test_photographs_with_a_net_from_elsewhere(name, prepared, folder, weights, tmp_path) -> None:
    words = [
        *CUT,
        "blocks=null",
        f"source=['{LITE}','{LITE}:shuffled',random]",
        "depth=[1,2]",
        f"out={tmp_path}",
    ]
    content = _content(name, words, prepared, folder, weights)
    target = content["domains"][content["target"]]
    target["size"] = 32
    assert run_study(content, "python -m convtl.run") == 0
    rows = RowStore(tmp_path).read().values()
    assert len(rows) == 6
    assert {(row["status"], row["frozen_ok"]) for row in rows} == {("done", True)}
