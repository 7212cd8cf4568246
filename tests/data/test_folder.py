"""Folders of pictures as people have them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from picture_folders import animation, bomb, fill, noise
from PIL import Image

from convtl import keys
from convtl.config.domains import Caps, ImageFolderConfig
from convtl.config.schema import DataConfig
from convtl.data.domains import Domain, identity, largest_class, load_domain
from convtl.data.folder import files_below
from convtl.data.pictures import NO_PICTURE
from convtl.data.splits import SPLITS
from convtl.errors import UserError


def _load(root: Path, said: list[str] | None = None, **settings: object) -> Domain:
    config = ImageFolderConfig(path=str(root), **{"size": 8, "grey": False, **settings})  # type: ignore[arg-type]
    say = said.append if said is not None else None
    return load_domain("pets", config, root.parent / "cache", say)


def _images(domain: Domain, split: str, label: int | None = None) -> set[bytes]:
    own = domain.splits(0, 0)[split]
    return {
        i.tobytes() for i, its in zip(own.images, own.labels, strict=True) if label in (None, its)
    }


# --- odd files ----------------------------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """200 files of two classes: 3 broken, an animation, one in CMYK, one that is far too large."""
    root = tmp_path / "my pets"
    for name in ("cat", "dog"):
        fill(root / name, 97)
    for name in ("cat/cut off.JPG", "cat/empty.png", "dog/garbled.jpeg"):
        (root / name).write_bytes(b"")
    noise(7, (60, 60)).save(root / "whole.jpg")
    (root / "cat/cut off.JPG").write_bytes((root / "whole.jpg").read_bytes()[:900])
    (root / "whole.jpg").unlink()
    (root / "dog/garbled.jpeg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(range(256)))
    animation(root / "dog" / "moving.gif")
    Image.new("CMYK", (30, 30), (255, 0, 0, 0)).save(root / "cat" / "printed.JPG")
    bomb(root / "dog" / "huge.png")
    return root


def test_a_folder_with_odd_pictures_is_read(odd: Path) -> None:
    said: list[str] = []
    domain = _load(odd, said)
    assert sum(len(domain.splits(0, 0)[split].labels) for split in SPLITS) == 196
    (line,) = (line for line in said if "left out" in line)
    assert line == (
        f"pets: 4 of 200 files in {odd} left out "
        "(broken (image file is truncated): cat/cut off.JPG; "
        f"{NO_PICTURE}: cat/empty.png, dog/garbled.jpeg; too large: dog/huge.png)"
    )
    everything = set[bytes]().union(*(_images(domain, split) for split in SPLITS))
    frame, printed = (
        np.full((8, 8, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 255, 255))
    )
    assert frame.tobytes() in everything
    assert (
        min(
            int(np.abs(np.frombuffer(i, np.uint8) - printed.ravel().astype(int)).max())
            for i in everything
        )
        < 3
    )


def test_many_broken_files_are_counted_and_three_are_named(tmp_path: Path) -> None:
    for name in "ab":
        fill(tmp_path / "pets" / name, 5)
        for index in range(4):
            (tmp_path / "pets" / name / f"x{index}.jpg").write_bytes(b"no")
    said: list[str] = []
    _load(tmp_path / "pets", said)
    (line,) = (line for line in said if "left out" in line)
    assert line.endswith(f"left out ({NO_PICTURE}: a/x0.jpg, a/x1.jpg, a/x2.jpg and 5 more)")


def test_files_that_are_no_pictures_are_no_error(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    for name in ("Ωmega", "日本"):
        fill(root / name, 6)
        for other in ("Thumbs.db", ".DS_Store", "notes.txt", "README"):
            (root / name / other).write_text("no picture")
        noise(99, (9, 9)).save(root / name / "é.JPEG", "JPEG")
        noise(len(name), (9, 9)).save(root / name / "no suffix", "PNG")
        hidden = root / name / ".thumbnails"
        fill(hidden, 3)
    said: list[str] = []
    domain = _load(root, said)
    assert domain.class_names == ("Ωmega", "日本")
    assert sum(len(domain.splits(0, 0)[split].labels) for split in SPLITS) == 16
    (line,) = (line for line in said if "left out" in line)
    assert line == (
        f"pets: 6 of 22 files in {root} left out ({NO_PICTURE}: "
        "Ωmega/README, Ωmega/Thumbs.db, Ωmega/notes.txt and 3 more)"
    )


def test_warnings_of_pillow_are_no_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture between the size that Pillow warns of and the size that it refuses is read."""
    for name in "ab":
        fill(tmp_path / "pets" / name, 5)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # warns of more, refuses more than 200
    assert sum(len(_load(tmp_path / "pets").splits(0, 0)[split].labels) for split in SPLITS) == 10


# --- links --------------------------------------------------------------------------------------------


def test_links_are_followed_and_each_file_is_listed_once(tmp_path: Path) -> None:
    root, outside = tmp_path / "class", tmp_path / "outside"
    fill(root / "b", 2)
    fill(outside / "deep", 2)
    (root / "circle").symlink_to(root, target_is_directory=True)
    (root / "b" / "up").symlink_to(tmp_path, target_is_directory=True)
    (root / "a copy.png").symlink_to(root / "b" / "00.png")
    (root / "elsewhere").symlink_to(outside, target_is_directory=True)
    (root / "elsewhere again").symlink_to(outside, target_is_directory=True)
    (outside / "deep" / "back").symlink_to(outside, target_is_directory=True)
    (root / "nothing.png").symlink_to(tmp_path / "missing.png")
    (root / "itself.png").symlink_to(root / "itself.png")
    found = [path.relative_to(tmp_path).as_posix() for path in files_below(root)]
    assert found == [
        "class/b/00.png",
        "class/b/01.png",
        "class/elsewhere/deep/00.png",
        "class/elsewhere/deep/01.png",
    ]


def test_a_link_to_itself_is_no_folder(tmp_path: Path) -> None:
    for name in "ab":
        fill(tmp_path / "pets" / name, 5)
        (tmp_path / "pets" / name / "circle.png").symlink_to(
            tmp_path / "pets" / name / "circle.png"
        )
    (tmp_path / "pets" / "circle.png").symlink_to(tmp_path / "pets" / "circle.png")
    assert _load(tmp_path / "pets").counts["train"] == 3


def test_unreadable_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cats" / "more").mkdir(parents=True)
    (tmp_path / "cats" / "one.png").touch()
    iterdir = Path.iterdir

    def refused(path: Path) -> Iterator[Path]:
        if path.name == "more":
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(UserError, match=r"path: got .*more.*no permission"):
        files_below(tmp_path)


def test_a_linked_class_and_linked_pictures_are_read(tmp_path: Path) -> None:
    fill(tmp_path / "pets" / "cat", 6)
    fill(tmp_path / "store", 6)
    (tmp_path / "pets" / "dog").symlink_to(tmp_path / "store", target_is_directory=True)
    (tmp_path / "pets" / "cow").mkdir()
    for file in sorted((tmp_path / "store").iterdir()):
        (tmp_path / "pets" / "cow" / f"link to {file.name}").symlink_to(
            os.path.relpath(file, tmp_path / "pets" / "cow")
        )
    domain = _load(tmp_path / "pets")
    assert domain.class_names == ("cat", "cow", "dog")
    assert domain.counts == {"train": 3, "validation": 1, "test": 2}


# --- splits -------------------------------------------------------------------------------------------


def _split_folders(root: Path, sizes: dict[str, dict[str, int]]) -> Path:
    for seed, (split, classes) in enumerate(sizes.items()):
        (root / split).mkdir(parents=True)
        for name, count in classes.items():
            fill(root / split / name, count, seed)
    return root


def test_splits_may_lack_classes(tmp_path: Path) -> None:
    sizes = {"train": {"a": 4, "b": 5, "c": 3}, "val": {"b": 2}, "test": {"a": 1, "b": 2, "c": 0}}
    root, said = _split_folders(tmp_path / "pets", sizes), list[str]()
    domain = _load(root, said)
    assert domain.counts == {"train": 3, "validation": 0, "test": 0}
    assert [len(domain.splits(0, 0)[split].labels) for split in SPLITS] == [12, 2, 3]
    np.testing.assert_array_equal(domain.splits(0, 0)["validation"].labels, [1, 1])
    lacking = "12 train, 2 validation (none of a, c), 3 test (none of c)"
    again: list[str] = []
    _load(root, again)  # also when nothing is decoded
    assert said[-1] == again[-1] == f"pets: 3 classes (a, b, c), images: {lacking}"


def test_a_split_without_a_readable_picture_is_an_empty_split(tmp_path: Path) -> None:
    root = _split_folders(
        tmp_path / "pets", {"train": {"a": 4, "b": 4}, "val": {"a": 0}, "test": {"a": 1}}
    )
    (root / "val" / "a" / "x.png").write_bytes(b"broken")
    domain = _load(root)
    assert domain.splits(0, 0)["validation"].images.shape == (0, 8, 8, 3)
    assert domain.counts["validation"] == 0


def test_an_empty_folder_is_no_split(tmp_path: Path) -> None:
    root = _split_folders(
        tmp_path / "pets", {"train": {"a": 8, "b": 8}, "val": {"a": 0}, "test": {}}
    )
    assert _load(root).counts == {"train": 5, "validation": 1, "test": 2}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"train": {"a": 4, "b": 0}},
            r"'b' has too few readable pictures in the folder for training; accepted: ",
        ),
        (
            {"train": {"a": 4, "b": 4}, "val": {"a": 1, "x": 1, "y": 1}},
            r"path: got '.*val' with classes that '.*train' does not have \(x, y\); accepted: ",
        ),
    ],
)
def test_splits_that_cannot_be_used(
    sizes: dict[str, dict[str, int]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        _load(_split_folders(tmp_path / "pets", sizes))
    assert "\n" not in str(caught.value)


# --- caps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("splits", [True, False])
def test_caps_are_nested(splits: bool, tmp_path: Path) -> None:
    sizes = {"train": {"a": 9, "b": 4}, "val": {"a": 5, "b": 5}, "test": {"a": 3, "b": 3}}
    root = tmp_path / "pets"
    if splits:
        _split_folders(root, sizes)
    else:
        for name in "ab":
            fill(root / name, 20)
    loaded = {
        cap: _load(root, per_class=Caps(train=cap, validation=cap, test=cap))
        for cap in (1, 2, 3, 5, 100)
    }
    whole = _load(root)
    for split in SPLITS:
        for label in range(2):
            all_of_it = _images(whole, split, label)
            chain = [_images(domain, split, label) for domain in loaded.values()]
            assert [len(own) for own in chain] == [min(cap, len(all_of_it)) for cap in loaded]
            for few, more in zip(chain, [*chain[1:], all_of_it], strict=True):
                assert few <= more
            assert chain[-1] == all_of_it


def test_a_cap_of_one_split_leaves_the_others(tmp_path: Path) -> None:
    for name in "ab":
        fill(tmp_path / "pets" / name, 20)
    whole, capped = _load(tmp_path / "pets"), _load(tmp_path / "pets", per_class=Caps(train=4))
    assert capped.counts == whole.counts | {"train": 4}
    for split in ("validation", "test"):
        np.testing.assert_array_equal(
            capped.splits(0, 0)[split].images, whole.splits(0, 0)[split].images
        )


def test_what_caps_of_drawn_splits_leave_is_for_training(tmp_path: Path) -> None:
    for name in "ab":
        fill(tmp_path / "pets" / name, 20)
    whole = _load(tmp_path / "pets")
    few = Caps(validation=1, test=2)
    capped = _load(tmp_path / "pets", per_class=few)
    assert (whole.counts, capped.counts) == (
        {"train": 12, "validation": 3, "test": 5},
        {"train": 17, "validation": 1, "test": 2},
    )
    everything = [_images(capped, split) for split in SPLITS]
    assert len(set[bytes]().union(*everything)) == 40
    assert largest_class(ImageFolderConfig(path=str(tmp_path / "pets"), per_class=few)) == 17
    both = _load(tmp_path / "pets", per_class=Caps(train=12, validation=1, test=2))
    assert _images(both, "train") == _images(whole, "train")  # its own pictures come first
    more = _load(tmp_path / "pets", per_class=Caps(train=14, validation=1, test=2))
    assert more.counts["train"] == 14
    assert _images(both, "train") <= _images(more, "train") <= _images(capped, "train")


def test_caps_of_given_splits_leave_nothing_to_training(tmp_path: Path) -> None:
    root = _split_folders(tmp_path / "pets", {"train": {"a": 8, "b": 8}, "test": {"a": 6, "b": 6}})
    counts = _load(root, per_class=Caps(validation=1, test=2)).counts
    assert counts == {"train": 7, "validation": 1, "test": 2}


def test_in_place_of_a_broken_picture_a_cap_takes_the_next(tmp_path: Path) -> None:
    sizes = {"train": {"a": 6, "b": 6}, "val": {"a": 2, "b": 2}, "test": {"a": 2, "b": 2}}
    root = _split_folders(tmp_path / "pets", sizes)
    (first,) = _images(_load(root, per_class=Caps(train=1)), "train", 0)
    three = _images(_load(root, per_class=Caps(train=3)), "train", 0)
    (file,) = (f for f in (root / "train" / "a").iterdir() if _decoded(f) == first)
    file.write_bytes(b"broken")
    replaced = _images(_load(root, per_class=Caps(train=3)), "train", 0)
    assert len(replaced) == 3
    assert three - {first} <= replaced


def _decoded(file: Path) -> bytes:
    from convtl.data.pictures import Fit

    with Image.open(file) as picture:
        return Fit(8, grey=False)(picture).tobytes()


# --- the rest -----------------------------------------------------------------------------------------


def test_later_keys_leave_identities_alone(tmp_path: Path) -> None:
    """Digests as they were before there were crops, caps and the like."""
    for name in "ab":
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(4):
            Image.new("L", (1, 1), index).save(tmp_path / "pets" / name / f"{index}.png")
    config = ImageFolderConfig(path=str(tmp_path / "pets"))
    content = identity(config)
    assert set(content) == {"kind", "size", "grey", "classes", "files", "version"}
    for change in (
        {"crop": 0.9},
        {"interpolation": "bicubic"},
        {"per_class": Caps(train=2)},
    ):
        other = ImageFolderConfig(path=str(tmp_path / "pets"), **change)  # type: ignore[arg-type]
        assert keys.digest(identity(other)) != keys.digest(content)


def test_splits_are_drawn_as_they_always_were(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(20):
            grey = Image.new("L", (9, 9), 10 * index + (name == "b"))
            grey.save(tmp_path / "pets" / name / f"{index:02}.png")
    domain = load_domain(
        "pets",
        ImageFolderConfig(path=str(tmp_path / "pets")),
        tmp_path / "cache",
        None,
        DataConfig(),
    )
    shutil.rmtree(tmp_path / "pets")  # what is cached needs no files
    drawn = {split: domain.splits(0, 0)[split].images[:, 0, 0, 0].tolist() for split in SPLITS}
    assert drawn["validation"] == [10, 50, 110, 111, 141, 151]
    assert drawn["test"] == [30, 90, 100, 130, 190, 71, 101, 121, 131, 191]
