"""Pictures that are there more than once."""

import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from picture_folders import fill
from PIL import Image

from convtl.config.domains import Caps, ImageFolderConfig
from convtl.data.domains import Domain, load_domain
from convtl.data.splits import SPLITS


def _load(root: Path, said: list[str] | None = None, caps: Caps | None = None) -> Domain:
    config = ImageFolderConfig(path=str(root), size=8, grey=False, per_class=caps or Caps())
    return load_domain(
        "pets", config, root.parent / "cache", said.append if said is not None else None
    )


def _told(said: list[str]) -> list[str]:
    return [line for line in said if "several splits or classes" in line]


@pytest.fixture
def split(tmp_path: Path) -> Path:
    root = tmp_path / "pets"
    for seed, part in enumerate(("train", "val", "test")):
        for name in "ab":
            fill(root / part / name, 6, seed)
    return root


def test_different_pictures_are_not_worth_a_word(split: Path) -> None:
    said: list[str] = []
    (split / "train" / "a" / "notes.txt").write_text("the same")
    (split / "test" / "b" / "notes.txt").write_text("the same")
    _load(split, said)
    assert not _told(said)


def test_copies_in_two_splits_and_in_two_classes_are_told(split: Path) -> None:
    for index in range(4):
        shutil.copy(
            split / "train" / "a" / f"0{index}.png", split / "test" / "a" / f"copy {index}.png"
        )
    shutil.copy(split / "val" / "b" / "00.png", split / "test" / "b" / "copy.png")
    shutil.copy(split / "train" / "a" / "05.png", split / "train" / "b" / "copy.png")
    said: list[str] = []
    assert len(_load(split, said).splits(0, 0)["test"].labels) == 12 + 5  # told, not taken away
    assert _told(said) == [
        f"pets: 6 pictures of {split} are in several splits or classes (test/a/copy 0.png = train/a/00.png, "
        "test/a/copy 1.png = train/a/01.png, test/a/copy 2.png = train/a/02.png and 3 more)"
    ]


def test_a_split_that_is_a_link_to_another(split: Path) -> None:
    shutil.rmtree(split / "test")
    (split / "test").symlink_to(split / "train", target_is_directory=True)
    said: list[str] = []
    _load(split, said)
    (line,) = _told(said)
    assert "12 pictures " in line
    assert "(test/a/00.png = train/a/00.png, " in line


def test_a_class_that_is_a_link_to_another(tmp_path: Path) -> None:
    for name in ("cat", "cow"):
        fill(tmp_path / "pets" / name, 8)
    (tmp_path / "pets" / "dog").symlink_to(tmp_path / "pets" / "cat", target_is_directory=True)
    said: list[str] = []
    _load(tmp_path / "pets", said)
    (line,) = _told(said)
    assert "8 pictures " in line


@pytest.mark.parametrize("caps", [Caps(), Caps(validation=1, test=2), Caps(train=4)])
def test_copies_stay_in_one_split(caps: Caps, tmp_path: Path) -> None:
    """Each picture three times: no copy of a held-out picture is trained on, whatever a cap leaves."""
    for name in "ab":
        fill(tmp_path / "pets" / name, 12)
        for file in sorted((tmp_path / "pets" / name).iterdir()):
            for number in range(2):
                shutil.copy(file, file.with_name(f"{file.stem} copy {number}.png"))
    said: list[str] = []
    domain = _load(tmp_path / "pets", said, caps)
    assert not _told(said)
    seen = [{image.tobytes() for image in domain.splits(0, 0)[split].images} for split in SPLITS]
    for one, other in combinations(seen, 2):
        assert not one & other
    if caps == Caps():
        assert domain.counts == {"train": 21, "validation": 6, "test": 9}


def test_copies_change_nothing_for_the_others(tmp_path: Path) -> None:
    for name in "ab":
        fill(tmp_path / "pets" / name, 12)
    before = _load(tmp_path / "pets")
    shutil.copy(tmp_path / "pets" / "a" / "03.png", tmp_path / "pets" / "a" / "zz.png")
    after = _load(tmp_path / "pets")
    for split in SPLITS:
        own = [
            {image.tobytes() for image in domain.splits(0, 0)[split].images}
            for domain in (before, after)
        ]
        assert own[0] == own[1]
    assert sum(len(after.splits(0, 0)[split].labels) for split in SPLITS) == 25


def test_copies_have_the_same_bytes_not_only_the_same_pixels(tmp_path: Path) -> None:
    for name in "ab":
        fill(tmp_path / "pets" / name, 6)
    with Image.open(tmp_path / "pets" / "a" / "00.png") as picture:
        picture.save(tmp_path / "pets" / "b" / "other.bmp")
    said: list[str] = []
    domain = _load(tmp_path / "pets", said)
    assert not _told(said)
    assert np.sum([len(domain.splits(0, 0)[split].labels) for split in SPLITS]) == 13
