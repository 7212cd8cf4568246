"""Prepared TFDS data sets and folders of pictures as domains."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convtl import keys
from convtl.config.domains import (
    ImageFolderConfig,
    PerClass,
    TfdsConfig,
)
from convtl.data import folder
from convtl.data.domains import Domain, identity, load_domain
from convtl.data.splits import SPLITS
from convtl.errors import UserError

FEW = PerClass(train=30, validation=10, test=20)


def _check(domain: Domain) -> None:
    """What holds for every domain."""
    assert set(domain.counts) == set(SPLITS)
    seen: set[bytes] = set()
    for name in SPLITS:
        split = domain.splits(0, 0)[name]
        assert split.images.shape[1:] == domain.image_shape
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int32
        assert len(split.images) == len(split.labels)
        counts = np.bincount(split.labels, minlength=len(domain.class_names))
        assert counts.min() == domain.counts[name]
        pictures = {image.tobytes() for image in split.images}
        assert not pictures & seen, f"an image of {name} is in another split too"
        seen |= pictures


# --- TFDS ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that holds a small prepared data set with splits train and validation."""
    import tensorflow_datasets as tfds

    class ConvtlShapes(tfds.core.GeneratorBasedBuilder):
        """Coloured noise of two sizes."""

        VERSION = tfds.core.Version("1.2.0")
        RELEASE_NOTES = {"1.2.0": "made for a test"}  # noqa: RUF012

        def _info(self) -> tfds.core.DatasetInfo:
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=["round", "square"]),
                "weight": tfds.features.Scalar(np.int64),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager: object) -> dict[str, object]:
            return {"train": self._generate_examples(40, 0), "test": self._generate_examples(10, 1)}

        def _generate_examples(self, count: int, seed: int):  # type: ignore[no-untyped-def]
            rng = np.random.default_rng(seed)
            for index in range(count):
                shape = (12, 10 + 4 * (index % 3 == 0), 3)
                picture = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
                yield index, {"image": picture, "label": index % 2, "weight": index}

    root = tmp_path_factory.mktemp("tfds")
    ConvtlShapes(data_dir=root, file_format="array_record").download_and_prepare()
    return root


def test_tfds(prepared: Path, tmp_path: Path) -> None:
    config = TfdsConfig(name="convtl_shapes", data_dir=str(prepared), size=8, grey=True)
    domain = load_domain("shapes", config, tmp_path)
    _check(domain)
    assert domain.class_names == ("round", "square")
    assert domain.image_shape == (8, 8, 1)
    assert domain.counts == {"train": 18, "validation": 2, "test": 5}
    coloured = load_domain(
        "c", TfdsConfig(name="convtl_shapes:1.2.0", data_dir=str(prepared), size=8), tmp_path
    )
    assert coloured.image_shape == (8, 8, 3)
    content = identity(config)
    assert content["data_set"] == "convtl_shapes/1.2.0"
    assert str(prepared) not in str(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "convtl_shapez"}, "domains.x.name: got 'convtl_shapez', which is not prepared"),
        (
            {"name": "mnist"},
            r"name: got 'mnist', which is not prepared in .*: what `tfds build mnist --file_format=array_record "
            r"--data_dir=.*tensorflow'\)$",
        ),
        ({"name": "no name at all"}, "domains.x.name: got 'no name at all', which is not prepared"),
        (
            {"image_key": "picture"},
            "image_key: got 'picture' for 'convtl_shapes'; accepted: image$",
        ),
        ({"image_key": "weight"}, "image_key: got 'weight' for 'convtl_shapes'; accepted: image$"),
        ({"label_key": "weight"}, "label_key: got 'weight' for 'convtl_shapes'; accepted: label$"),
    ],
)
def test_tfds_that_cannot_be_read(
    change: dict[str, object],
    message: str,
    prepared: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    settings = {"name": "convtl_shapes", "data_dir": str(prepared), "size": 8, **change}
    with pytest.raises(UserError, match=message) as caught:
        load_domain("x", TfdsConfig(**settings), tmp_path)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


# --- folders ------------------------------------------------------------------------------------------


def _fill(folder: Path, count: int, seed: int = 0, extent: tuple[int, int] = (40, 30)) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, *folder.name.encode()])
    for index in range(count):
        pixels = rng.integers(0, 256, (*extent, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(
            folder / f"picture {index:02}.{('png', 'jpg', 'bmp')[index % 3]}"
        )


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    root = tmp_path / "my pets (old) [1]"
    for name in ("cat", "dog", "Ω sheep"):
        _fill(root / name, 12)
    (root / ".hidden").mkdir()
    (root / "cat" / ".DS_Store").write_text("nothing")
    return root


def test_a_folder_of_classes(pets: Path, tmp_path: Path) -> None:
    (pets / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n not really")
    (pets / "dog" / "notes.txt").write_text("no picture")
    said: list[str] = []
    domain = load_domain("pets", ImageFolderConfig(path=str(pets)), tmp_path / "cache", said.append)
    _check(domain)
    assert domain.class_names == ("cat", "dog", "Ω sheep")
    assert domain.image_shape == (28, 28, 1)
    assert domain.counts == {"train": 7, "validation": 2, "test": 3}
    assert any(line.startswith("pets: 2 of 38 files ") for line in said)
    coloured = load_domain(
        "p", ImageFolderConfig(path=str(pets), grey=False, size=20), tmp_path / "cache"
    )
    assert coloured.image_shape == (20, 20, 3)


def test_where_a_folder_lies_does_not_matter_but_its_files_do(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys.digest(identity(ImageFolderConfig(path=str(pets))))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keys.digest(identity(ImageFolderConfig(path=f"~/{pets.name}"))) == before
    moved = pets.rename(tmp_path / "elsewhere")
    assert keys.digest(identity(ImageFolderConfig(path=str(moved)))) == before
    _fill(moved / "cow", 3)
    assert keys.digest(identity(ImageFolderConfig(path=str(moved)))) != before


def _invert(file: Path) -> None:
    """Other pixels in a file of the same name, size and time of change."""
    before = file.stat()
    with Image.open(file) as picture:
        pixels = 255 - np.asarray(picture)
    Image.fromarray(pixels).save(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_pictures_edited_in_place_are_other_pictures(pets: Path, tmp_path: Path) -> None:
    config = ImageFolderConfig(path=str(pets))
    before = load_domain("pets", config, tmp_path / "cache")
    time.sleep(0.02)  # clocks of files tick slowly
    for file in pets.rglob("*.bmp"):
        _invert(file)
    after = load_domain("pets", config, tmp_path / "cache")
    assert after.digest != before.digest
    assert after.counts == before.counts
    assert (after.splits(0, 0)["train"].images != before.splits(0, 0)["train"].images).any()
    again = load_domain("pets", config, tmp_path / "cache")
    assert again.digest == after.digest


def test_pictures_that_have_not_changed_are_not_read_again(pets: Path) -> None:
    config = ImageFolderConfig(path=str(pets))
    before = identity(config)
    read = folder._read.cache_info().misses
    assert identity(config) == before
    assert folder._read.cache_info().misses == read
    (pets / "dog" / "new.png").write_bytes(b"no picture")
    assert identity(config) != before
    assert folder._read.cache_info().misses == read + 1


def test_a_file_that_cannot_be_read_has_an_identity_too(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ImageFolderConfig(path=str(pets))
    before, read = identity(config), folder._read

    def refused(path: Path, *facts: int) -> tuple[str, str | None]:
        if path.stem == "picture 00":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *facts)

    monkeypatch.setattr(folder, "_read", refused)
    assert identity(config) != before


@pytest.mark.parametrize(("names", "counts"), [(("val", "test"), (6, 4, 5)), ((), (4, 1, 2))])
def test_folders_of_splits(names: tuple[str, ...], counts: tuple[int, ...], tmp_path: Path) -> None:
    sizes = {"train": 6, "val": 4, "test": 5}
    if not names:
        sizes["train"] = 7
    for seed, part in enumerate(("train", *names)):
        for name in ("a", "b"):
            _fill(tmp_path / "root" / part / name, sizes[part], seed)
    domain = load_domain("f", ImageFolderConfig(path=str(tmp_path / "root")), tmp_path / "cache")
    _check(domain)
    assert tuple(domain.counts[name] for name in SPLITS) == counts


def test_pictures_are_turned_cut_and_flattened() -> None:
    from convtl.data.pictures import Fit

    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40, 0], wide[:10, 20:40, 1] = 200, 100
    plain = Fit(20, grey=False)(Image.fromarray(wide))
    assert plain.shape == (20, 20, 3)
    assert (plain[:, 1:-1, 0] == 200).all()
    turned = Image.fromarray(wide)
    turned.getexif()[0x0112] = 6  # to be shown a quarter turned clockwise
    np.testing.assert_array_equal(
        Fit(20, grey=False)(turned)[2:-2, 2:-2], np.rot90(plain, -1)[2:-2, 2:-2]
    )
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert (Fit(8, grey=True)(clear) == 255).all()
    deep = Image.fromarray(np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8))
    assert Fit(8, grey=True)(deep).min() == 0
    assert Fit(8, grey=True)(deep).max() == 255
    assert Fit(28, grey=True)(Image.new("1", (9, 30), 1)).shape == (28, 28, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "domains.f.path: got '.*', where there is no folder; accepted: "),
        (lambda root: root.mkdir(), "domains.f.path: got '.*' with 0 class folders; accepted: "),
        (lambda root: _fill(root / "only", 3), "root' with 1 class folder; accepted: "),
        (
            lambda root: [_fill(root / "train" / name, 3) for name in "a"],
            "train' with 1 class folder; accepted: ",
        ),
        (
            lambda root: [_fill(root / name, count) for name, count in (("a", 8), ("b", 1))],
            r"class 'b' has too few readable pictures in the folder for training; accepted: at least 3 ",
        ),
    ],
)
def test_folders_that_hold_no_domain(make, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "root")
    with pytest.raises(UserError, match=message):
        load_domain("f", ImageFolderConfig(path=str(tmp_path / "root")), tmp_path / "cache")


# --- all ----------------------------------------------------------------------------------------------


def test_a_study_of_the_same_photographs_as_source_and_target_is_refused_in_one_line() -> None:
    from tiny import trials

    from convtl.storage.cache import Cache, default_root
    from convtl.study.materials import Materials

    per_class = "per_class={train: 16,validation: 4,test: 8}"
    words = [f"domains.textures.{per_class}", f"+domains.clear.{per_class}"]
    words += ["+domains.clear.kind=patches", "+domains.clear.jitter.noise=0"]
    materials = Materials(Cache(default_root()), lambda what: None)
    (between,) = trials("source=textures", "target=clear", *words)
    told = "^source: got 'textures', of which 0 classes are unlike all of the target's; accepted: a source .*"
    with pytest.raises(UserError, match=told) as refused:
        materials.check([between])
    assert "\n" not in str(refused.value)
    (within,) = trials("source=textures", "target=textures", *words)
    materials.check([within])
    request, target = materials.request(within), materials.target_data(within)
    ((_, drawn),) = request.parts
    assert not set(drawn.classes) & set(target.draw.classes)
