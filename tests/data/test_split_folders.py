"""Which folders are splits, which are classes, and which are neither."""

import os
import unicodedata
from pathlib import Path

import pytest
from picture_folders import fill

from convtl.config.domains import ImageFolderConfig
from convtl.data.domains import load_domain
from convtl.data.folder import scan
from convtl.errors import UserError


def _folders(root: Path, words: str, count: int = 3) -> ImageFolderConfig:
    """Folders with pictures, by their paths below the root."""
    for word in words.split():
        fill(root / word, count)
    return ImageFolderConfig(path=str(root))


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("Train", "Val", "Test"),
        ("training", "valid", "testing"),
        ("TRAIN", "Validation", "TEST"),
        ("train", "eval", "test"),
        ("train", "dev", "test"),
        ("training_set", "val-set", "TestSet"),
    ],
)
def test_splits_go_by_many_names(train: str, validation: str, test: str, tmp_path: Path) -> None:
    words = " ".join(f"{split}/{name}" for split in (train, validation, test) for name in "ab")
    tree = scan(_folders(tmp_path / "pets", words))
    assert tree.class_names == ("a", "b")
    assert {split: len(files) for split, files in tree.files.items()} == dict.fromkeys(
        ("train", "validation", "test"), 6
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "val/a val/b test/a test/b",
            r"path: got '.*pets' with folders of splits \(test, val\) and none for training; accepted: one folder "
            r"for each split, of training at least \(train, training; val, .*; test, testing\), or folders of classes",
        ),
        ("Test Val", r"with folders of splits \(Test, Val\) and none for training; accepted: "),
        (
            "cat dog val/cat val/dog",
            r"with folders of splits \(val\) and none for training; accepted: ",
        ),
        (
            "train/a train/b test/a test/b annotations",
            r"with 'train' beside folders that are no split \(annotations\); accepted: one folder "
            "for each split, ",
        ),
        (
            "train car bus",
            r"with 'train' beside folders that are no split \(bus, car\); accepted: ",
        ),
        (
            "train/a train/b Training/a",
            "with two train folders, 'Training' and 'train'; accepted: one",
        ),
        (
            "early/a early/b late/a late/b",
            r"with folders that hold the same folders \(early, late\); accepted: one folder ",
        ),
        (
            "train/a train/b val/a valid/a",
            "with two validation folders, 'val' and 'valid'; accepted: one",
        ),
    ],
)
def test_folders_of_which_it_is_not_clear_whether_they_are_splits(
    words: str, message: str, tmp_path: Path
) -> None:
    config = _folders(tmp_path / "pets", words)
    with pytest.raises(UserError, match=message) as caught:
        scan(config)
    assert "\n" not in str(caught.value)


def test_a_single_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    assert scan(_folders(tmp_path / "pets", "cat dog test")).class_names == ("cat", "dog", "test")


def test_folders_that_systems_and_programs_leave_are_no_classes(tmp_path: Path) -> None:
    words = "cat dog __MACOSX/cat .ipynb_checkpoints @eaDir cat/__MACOSX dog/.ipynb_checkpoints"
    tree = scan(_folders(tmp_path / "pets", words))
    assert tree.class_names == ("cat", "dog")
    assert len(tree.files["train"]) == 6
    splits = scan(
        _folders(tmp_path / "split", "train/a train/b test/a __MACOSX train/__MACOSX .git/hooks")
    )
    assert splits.class_names == ("a", "b")


@pytest.mark.parametrize("words", ["cat dog", "train/cat train/dog test/cat"])
def test_an_empty_class_is_refused_before_anything_is_decoded(words: str, tmp_path: Path) -> None:
    config = _folders(tmp_path / "pets", words)
    train = tmp_path / "pets" / ("train" if "train" in words else "")
    (train / "ant").mkdir()
    (train / "ant" / "notes.txt").write_text("to be photographed")
    with pytest.raises(UserError, match=r"'ant' has too few readable pictures "):
        scan(config)
    (train / "ant" / "notes.txt").unlink()
    (train / "ant").rmdir()
    assert load_domain("pets", config, tmp_path / "cache").class_names == ("cat", "dog")


def test_class_names_that_unicode_holds_equal_are_one(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    tree = scan(_folders(tmp_path / "a", f"train/{composed} train/tea test/{decomposed} test/tea"))
    assert tree.class_names == (composed, "tea")
    assert len(tree.files["test"]) == 6
    with pytest.raises(UserError, match=f"with two folders '{composed}'; accepted: one"):
        scan(_folders(tmp_path / "b", f"{composed} {decomposed} tea"))


def test_pictures_outside_class_folders_are_told(tmp_path: Path) -> None:
    config, lines = _folders(tmp_path / "pets", "train/a train/b test", 3), list[str]()
    test = tmp_path / "pets" / "test"
    os.mkfifo(test / "pipe.jpg")  # opening it would wait for ever
    domain = load_domain("pets", config, tmp_path / "cache", lines.append)
    assert domain.counts["test"] == 1
    assert f"pets: 3 pictures in '{test}' are in no class folder and not used" in lines
    assert "pets: 2 classes (a, b), images: 2 train, 2 validation, 2 test" in lines


def test_a_folder_around_the_right_one_is_named(tmp_path: Path) -> None:
    _folders(tmp_path / "root" / "dataset", "cat dog")
    with pytest.raises(
        UserError, match=r"with 1 class folder; .*; did you mean '.*root.dataset'\?$"
    ):
        scan(ImageFolderConfig(path=str(tmp_path / "root")))


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_of_too_few_pictures_for_the_splits_that_are_drawn(
    count: int, tmp_path: Path
) -> None:
    _folders(tmp_path / "pets", "cat", 8)
    config, said = _folders(tmp_path / "pets", "dog", count), list[str]()
    with pytest.raises(
        UserError,
        match=r"^domains\.pets\.path: got '.*', whose class 'dog' has too few readable pictures in the folder for "
        r"training; accepted: at least 3 different JPEG or PNG pictures a class, as validation and test",
    ):
        load_domain("pets", config, tmp_path / "cache", said.append)
    assert not said  # nothing was decoded
    fill(tmp_path / "pets" / "dog", 3)
    counts = load_domain("pets", config, tmp_path / "cache").counts
    assert counts == {"train": 1, "validation": 1, "test": 1}


@pytest.mark.parametrize(
    ("words", "count", "needed"),
    [
        (
            "train/a train/b test/a",
            1,
            "2 different JPEG or PNG pictures a class, as validation pictures are",
        ),
        ("train/a train/b test/a val/a", 0, "1 different JPEG or PNG pictures a class$"),
    ],
)
def test_a_class_needs_a_readable_picture_for_each_split_that_is_drawn(
    words: str, count: int, needed: str, tmp_path: Path
) -> None:
    """Known only when the pictures have been looked at."""
    config = _folders(tmp_path / "pets", words)
    for file in sorted((tmp_path / "pets" / "train" / "b").iterdir())[count:]:
        file.write_bytes(b"broken")
    with pytest.raises(
        UserError,
        match=rf"'b' has too few readable pictures .*; accepted: at least {needed}",
    ):
        load_domain("pets", config, tmp_path / "cache")
