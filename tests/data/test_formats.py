"""Files that are pictures, but in a format that is not read here."""

from pathlib import Path

import pytest
from picture_folders import fill, noise

from convtl.config.domains import ImageFolderConfig
from convtl.data.domains import Domain, largest_class, load_domain
from convtl.data.pictures import NO_PICTURE
from convtl.data.splits import SPLITS
from convtl.errors import UserError


def _load(root: Path, said: list[str] | None = None, **settings: object) -> Domain:
    config = ImageFolderConfig(path=str(root), **{"size": 8, **settings})  # type: ignore[arg-type]
    return load_domain(
        "pets", config, root.parent / "cache", said.append if said is not None else None
    )


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Ten PNG pictures a class and, of cats, 5 of an iPhone, one of a camera and a text."""
    for name in ("cat", "dog"):
        fill(tmp_path / "pets" / name, 10)
    for index in range(5):
        (tmp_path / "pets" / "cat" / f"IMG_{index}.HEIC").write_bytes(
            b"\0\0\0\x18ftypheic" + bytes(40)
        )
    noise(1, (30, 20)).save(tmp_path / "pets" / "cat" / "DSC_1.NEF", "TIFF")  # as its thumbnail is
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("no picture")
    return tmp_path / "pets"


def test_formats_that_are_not_read_are_named(pets: Path) -> None:
    said: list[str] = []
    domain = _load(pets, said)
    assert sum(len(domain.splits(0, 0)[split].labels) for split in SPLITS) == 20
    (line,) = (line for line in said if "left out" in line)
    assert line == (
        f"pets: 7 of 27 files in {pets} left out ({NO_PICTURE}: "
        "cat/DSC_1.NEF, cat/IMG_0.HEIC, cat/IMG_1.HEIC and 4 more)"
    )


def test_a_picture_with_a_wrong_suffix_is_read(pets: Path) -> None:
    noise(2).save(pets / "cat" / "IMG_0.HEIC", "JPEG")
    assert sum(len(_load(pets).splits(0, 0)[split].labels) for split in SPLITS) == 21


def test_a_class_in_a_format_that_is_not_read(tmp_path: Path) -> None:
    fill(tmp_path / "pets" / "cat", 8)
    (tmp_path / "pets" / "dog").mkdir()
    for index in range(4):
        (tmp_path / "pets" / "dog" / f"{index}.heic").write_bytes(bytes(index))
    message = r"'dog' .*; accepted: at least 3 different JPEG or PNG "
    with pytest.raises(UserError, match=message):
        _load(tmp_path / "pets")
    for file in (tmp_path / "pets" / "cat").iterdir():  # and no class in any other
        file.rename(file.with_suffix(".dng"))
    with pytest.raises(UserError, match=r"'cat' .*; accepted: at least 3 "):
        _load(tmp_path / "pets")


def test_only_what_may_be_read_is_counted(pets: Path) -> None:
    config = ImageFolderConfig(path=str(pets))
    assert largest_class(config) == 10 - 2 - 2
    noise(3).save(pets / "cat" / "no suffix", "PNG")
    noise(4).save(pets / "cat" / "photo.jpg_large", "JPEG")
    assert largest_class(config) == 12 - 2 - 3
