"""Typed letters as images: deterministic, disjoint, legible, verified when they are read."""

import dataclasses
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from convtl import keys
from convtl.config.domains import Jitter, PerClass, TypedScriptConfig
from convtl.config.roles import dump
from convtl.data import glyphs, typed_script
from convtl.data.domains import Domain, identity, load_domain
from convtl.data.typed_script import disturbed, letters_of

SMALL = TypedScriptConfig(
    script="cyrillic", letters="АБГДЖИ", per_class=PerClass(train=12, validation=6, test=9)
)
BARE = Jitter(rotation=0.0, shift=0.0, scale=0.0, shear=0.0, noise=0.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def small(cache: Path) -> Domain:
    return load_domain("small", SMALL, cache)


def test_a_domain_tells_what_it_is_before_it_draws(tmp_path: Path) -> None:
    domain = load_domain("small", SMALL, tmp_path)
    assert domain.class_names == tuple("АБГДЖИ")
    assert domain.image_shape == (28, 28, 1)
    assert domain.counts == {"train": 12, "validation": 6, "test": 9}
    assert not list(tmp_path.iterdir())


def test_splits_hold_every_class_in_every_face(small: Domain) -> None:
    for name, count in small.counts.items():
        split = small.split(name)
        assert split.images.shape == (6 * count, 28, 28, 1)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == split.strata.dtype == np.int32
        np.testing.assert_array_equal(np.bincount(split.labels), count)
        for label in range(6):
            faces = np.bincount(split.strata[split.labels == label], minlength=4)
            assert faces.max() - faces.min() <= 1
        assert small.split(name) is split


def test_no_image_is_in_two_splits_or_twice(small: Domain) -> None:
    images = np.concatenate([small.split(name).images for name in small.counts])
    assert len({image.tobytes() for image in images}) == len(images)


def test_images_do_not_depend_on_cache_process_or_company(small: Domain, tmp_path: Path) -> None:
    """The same letters again, alone and in another cache, and more of them."""
    changed = dataclasses.replace(
        SMALL, letters="ЖЯ", per_class=PerClass(train=20, validation=6, test=9)
    )
    other = load_domain("other", changed, tmp_path).split("train")
    ours = small.split("train")
    np.testing.assert_array_equal(other.images[:12], ours.images[ours.labels == 4])


def test_reading_what_is_stored_loads_neither_tfds_nor_jax(small: Domain, cache: Path) -> None:
    small.split("train")
    code = (
        "import pathlib, sys, pydantic\n"
        "from convtl.config.domains import TypedScriptConfig\n"
        "from convtl.data.domains import load_domain\n"
        "config = pydantic.TypeAdapter(TypedScriptConfig).validate_json(sys.argv[1])\n"
        "print(load_domain('small', config, pathlib.Path(sys.argv[2])).split('train').images.shape)\n"
        "assert not {'tensorflow_datasets', 'jax', 'sklearn', 'skimage'} & set(sys.modules)\n"
    )
    content = json.dumps(dump(SMALL))
    done = subprocess.run(
        [sys.executable, "-c", code, content, str(cache)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "(72, 28, 28, 1)"


def _draw(root: str, results: "multiprocessing.Queue[str]") -> None:
    split = load_domain("small", SMALL, Path(root), lambda line: None).split("train")
    results.put(keys.digest_arrays(np.asarray(split.images), split.labels))


def test_two_processes_at_once_get_the_same_images(small: Domain, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[str] = context.Queue()
    both = [context.Process(target=_draw, args=(str(tmp_path), results)) for _ in range(2)]
    for process in both:
        process.start()
    digests = {results.get(timeout=120) for _ in both}
    for process in both:
        process.join()
    split = small.split("train")
    assert digests == {keys.digest_arrays(np.asarray(split.images), split.labels)}


@pytest.mark.parametrize(
    "change",
    [
        {"script": "latin", "letters": None},
        {"letters": "АБГДЖ"},
        {"faces": ("DejaVu Sans",)},
        {"lookalike": 0.95},
        {"size": 32},
        {"per_class": PerClass(train=13, validation=6, test=9)},
        *({"jitter": Jitter(**{item.name: 0.5})} for item in dataclasses.fields(Jitter)),
    ],
    ids=lambda change: "-".join(f"{key}={value}" for key, value in change.items())[:40],
)
def test_any_parameter_changes_the_digest(change: dict[str, object]) -> None:
    changed = dataclasses.replace(SMALL, **change)  # type: ignore[arg-type]
    assert keys.digest(identity(changed)) != keys.digest(identity(SMALL))


def test_letters_can_be_told_apart_but_not_trivially(tmp_path: Path) -> None:
    """Nearest class mean on standardised pixels, 12 classes: far above chance, far from perfect."""
    from convtl.data.inputs import standardise

    letters = letters_of(TypedScriptConfig(script="cyrillic"))[::4][:12]
    content = TypedScriptConfig(
        script="cyrillic",
        letters="".join(letters),
        per_class=PerClass(train=40, validation=1, test=40),
    )
    domain = load_domain("letters", content, tmp_path)
    train, test = (domain.split(name) for name in ("train", "test"))
    means = standardise(train.images).reshape(12, 40, -1).mean(axis=1)
    guessed = (standardise(test.images).reshape(len(test.labels), -1) @ means.T).argmax(axis=1)
    assert 0.3 < np.mean(guessed == test.labels) < 0.9


def _ink(jitter: Jitter, letter: str = "Г") -> np.ndarray:
    reference = glyphs.reference(letter, "DejaVu Sans", 28)
    rng = keys.generator(0, "typed_script", 1, letter, "DejaVu Sans", "train")
    return disturbed(reference, 64, 28, jitter, rng).astype(float)


def test_jitter_amounts() -> None:
    still = _ink(BARE)
    assert (still == still[0]).all()
    assert (still.min(), still.max()) == (64, 191)
    noisy = _ink(dataclasses.replace(BARE, noise=0.2)) - still
    assert noisy.std() == pytest.approx(0.2 * 127.5, rel=0.03)
    np.testing.assert_array_equal(_ink(dataclasses.replace(BARE, inverted=1.0)), 255 - still)
    half = _ink(dataclasses.replace(BARE, inverted=0.5)).mean(axis=(1, 2)) > 128
    assert 16 < half.sum() < 48
    weight = _ink(dataclasses.replace(BARE, shift=2.0)) - 64
    centre = (weight.sum(axis=1) @ np.arange(28)) / weight.sum(axis=(1, 2))
    assert 3 < np.ptp(centre) <= 4.1
    area = (_ink(dataclasses.replace(BARE, scale=0.15)) - 64).sum(axis=(1, 2))
    assert 1.5 < area.max() / area.min() < (1.15 / 0.85) ** 2 * 1.1
    turned = (_ink(dataclasses.replace(BARE, rotation=12.0)) - 64).sum(axis=(1, 2))
    np.testing.assert_allclose(turned, (still[0] - 64).sum(), rtol=0.03)  # no ink is lost or made


def test_scaling_is_about_the_middle() -> None:
    weight = _ink(dataclasses.replace(BARE, scale=0.15), "О") - 64
    for axis in (1, 2):
        centre = weight.sum(axis=axis) @ np.arange(28) / weight.sum(axis=(1, 2))
        np.testing.assert_allclose(centre, 13.5, atol=0.1)


def test_stored_letters_are_read_and_not_drawn_again(
    small: Domain, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = small.split("train")
    monkeypatch.setattr(typed_script, "disturbed", None)
    again = load_domain("again", SMALL, cache).split("train")
    np.testing.assert_array_equal(again.images, before.images)
    np.testing.assert_array_equal(again.strata, before.strata)


def _flip(folder: Path) -> None:
    content = bytearray((folder / "train_images.npy").read_bytes())
    content[-100] ^= 1
    (folder / "train_images.npy").write_bytes(content)


def _swap(folder: Path) -> None:
    """Give train and test each other's images: same sizes, sound files, wrong splits."""
    train, test = folder / "train_images.npy", folder / "test_images.npy"
    train.rename(folder / "held")
    test.rename(train)
    (folder / "held").rename(test)


def _cut(folder: Path) -> None:
    os.truncate(folder / "test_images.npy", 2000)


def _relabel(folder: Path) -> None:
    labels = np.load(folder / "validation_labels.npy")
    np.save(folder / "validation_labels.npy", labels[::-1])


@pytest.mark.parametrize("damage", [_flip, _swap, _cut, _relabel])
def test_damaged_letters_are_noticed_and_drawn_again(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    equal = dataclasses.replace(SMALL, per_class=PerClass(train=6, validation=6, test=6))
    before = load_domain("small", equal, tmp_path)
    digests = [keys.digest_arrays(s.images, s.labels, s.strata) for s in before.load().values()]
    (folder,) = tmp_path.glob("images/*")
    damage(folder)
    said: list[str] = []
    after = load_domain("small", equal, tmp_path, said.append)
    assert digests == [
        keys.digest_arrays(s.images, s.labels, s.strata) for s in after.load().values()
    ]
    assert len([line for line in said if "damaged" in line]) == 1
    assert any(line.startswith("drawing small") for line in said)
