"""Typed letters as images: deterministic, disjoint, legible, and a TFDS data set like any other."""

import dataclasses
import io
import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convtl import keys
from convtl.config.domains import Jitter, PerClass, TypedScriptConfig
from convtl.config.roles import dump
from convtl.data import rendering
from convtl.data.domains import Domain, identity, load_domain
from convtl.data.typed import letters_of

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


def test_a_stored_domain_is_read_and_not_drawn_again(
    small: Domain, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = small.split("train")

    def never(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(rendering.LetterRenderer, "draw", never)
    again = load_domain("again", SMALL, cache).split("train")
    np.testing.assert_array_equal(again.images, before.images)
    np.testing.assert_array_equal(again.strata, before.strata)


def test_reading_what_is_stored_loads_neither_tfds_nor_jax(small: Domain, cache: Path) -> None:
    small.split("train")
    code = (
        "import pathlib, sys, pydantic\n"
        "from convtl.config import TypedScriptConfig\n"
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


def test_damaged_images_are_made_again(tmp_path: Path) -> None:
    said: list[str] = []
    before = np.array(load_domain("small", SMALL, tmp_path).split("test").images)
    (stored,) = tmp_path.glob("images/*/test_images.npy")
    stored.write_bytes(stored.read_bytes()[:-100])
    after = load_domain("small", SMALL, tmp_path, said.append).split("test").images
    np.testing.assert_array_equal(after, before)
    assert any("damaged" in line for line in said)


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


def test_jitter_does_what_it_says() -> None:
    def ink(jitter: Jitter) -> np.ndarray:
        renderer = rendering.LetterRenderer("Г", ("DejaVu Sans",), 28, jitter)
        return renderer.draw("train", 64).images.astype(float)

    still = ink(BARE)
    assert (still == still[0]).all()
    assert still.min() == 64
    assert still.max() == 191
    noisy = ink(dataclasses.replace(BARE, noise=0.2)) - still
    assert noisy.std() == pytest.approx(0.2 * 127.5, rel=0.03)
    np.testing.assert_array_equal(ink(dataclasses.replace(BARE, inverted=1.0)), 255 - still)
    half = ink(dataclasses.replace(BARE, inverted=0.5)).mean(axis=(1, 2)) > 128
    assert 16 < half.sum() < 48
    columns = np.arange(28)
    weight = ink(dataclasses.replace(BARE, shift=2.0)) - 64
    centre = (weight.sum(axis=1) @ columns) / weight.sum(axis=(1, 2))
    assert 3 < np.ptp(centre) <= 4.1
    area = (ink(dataclasses.replace(BARE, scale=0.15)) - 64).sum(axis=(1, 2))
    assert 1.5 < area.max() / area.min() < (1.15 / 0.85) ** 2 * 1.1
    turned = (ink(dataclasses.replace(BARE, rotation=12.0)) - 64).sum(axis=(1, 2))
    np.testing.assert_allclose(
        turned, (still[0] - 64).sum(), rtol=0.03
    )  # ink is neither lost nor made


def test_scaling_is_about_the_middle() -> None:
    drawn = rendering.LetterRenderer(
        "О", ("DejaVu Sans",), 28, dataclasses.replace(BARE, scale=0.15)
    )
    weight = drawn.draw("train", 16).images.astype(float) - 64
    for axis in (1, 2):
        centre = weight.sum(axis=axis) @ np.arange(28) / weight.sum(axis=(1, 2))
        np.testing.assert_allclose(centre, 13.5, atol=0.1)


def test_it_is_a_real_tfds_data_set(cache: Path, small: Domain) -> None:
    import tensorflow_datasets as tfds

    from convtl.data import typed_script

    small.split("train")
    name = typed_script.config_name(SMALL)
    source = typed_script.builder(SMALL, cache / "tfds").as_data_source(split="validation")
    assert name.startswith("cyrillic-")
    assert len(source) == 36
    record = source[7]
    np.testing.assert_array_equal(record["image"], small.split("validation").images[7])
    assert record["label"] == 1
    assert source.dataset_info.features["label"].names == list("АБГДЖИ")
    assert source.dataset_info.features["face"].names == list(SMALL.faces)
    registered = tfds.builder("typed_script/latin", data_dir=cache / "tfds")
    assert registered.info.features["image"].shape == (28, 28, 1)
    assert set(registered.builder_configs) >= {"latin", "cyrillic", "armenian"}


def test_more_images_than_a_key_has_room_for(
    small: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys of letters do not run into each other, and the images stay in their order."""
    from convtl.data import typed_script

    monkeypatch.setattr(
        typed_script, "_BLOCK", 8
    )  # more than in validation, fewer than in train and test
    crowded = load_domain("crowded", SMALL, tmp_path)
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(crowded.split(name).images, small.split(name).images)
        np.testing.assert_array_equal(crowded.split(name).labels, small.split(name).labels)


def test_a_data_set_made_with_other_fonts_is_prepared_again(tmp_path: Path) -> None:
    from convtl.data import prepared, typed_script
    from convtl.storage.cache import Cache

    content = dataclasses.replace(SMALL, letters="АБ")
    prepared.typed_script(content, Cache(tmp_path))
    (metadata,) = tmp_path.glob("tfds/typed_script/*/*/metadata.json")
    metadata.write_text('{"digest": "of other fonts"}')
    again = prepared.typed_script(content, Cache(tmp_path))
    assert len(again["train"].images) == 24
    assert "other fonts" not in metadata.read_text()
    assert typed_script.builder(content, tmp_path / "tfds").is_prepared()


def test_preparing_is_quiet_but_progress_is_heard(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    load_domain("small", dataclasses.replace(SMALL, letters="АБ"), tmp_path, print).split("train")
    out, err = capfd.readouterr()
    assert "drawing cyrillic (train)" in out
    assert "Downloading" not in out
    assert not err


def test_png_is_png() -> None:
    from convtl.data.typed_script import png

    image = np.arange(28 * 20, dtype=np.uint8).reshape(28, 20)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(image)))), image)


def test_letters_can_be_told_apart_but_not_trivially(tmp_path: Path) -> None:
    """Nearest class mean on standardised pixels, 12 classes: far above chance, far from perfect."""
    from convtl.data.batches import standardise

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


def test_what_is_read_back_is_what_was_drawn(tmp_path: Path) -> None:
    """The first call keeps what it draws for the data set; a later one, without the cache, decodes it."""
    from convtl.data import prepared
    from convtl.storage.cache import Cache

    content = dataclasses.replace(SMALL, letters="АБ", test_faces=("DejaVu Serif",))
    drawn = prepared.typed_script(content, Cache(tmp_path))
    decoded = prepared.typed_script(content, Cache(tmp_path))
    for name in ("train", "validation", "test"):
        for array in ("images", "labels", "strata"):
            ours, theirs = getattr(drawn[name], array), getattr(decoded[name], array)
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
    assert set(drawn["test"].strata) == {4}
