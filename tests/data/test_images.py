"""What is decoded does not depend on who decodes it, and needs no more memory than it may take."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_folders import bomb, fill, noise
from PIL import Image

from convtl.config.domains import ImageFolderConfig
from convtl.config.schema import DataConfig
from convtl.data import images
from convtl.data.domains import Domain, load_domain
from convtl.data.splits import SPLITS, save_split
from convtl.errors import UserError


def _load(root: Path, cache: str, data: DataConfig, **settings: object) -> Domain:
    config = ImageFolderConfig(path=str(root), **{"size": 8, "grey": False, **settings})  # type: ignore[arg-type]
    return load_domain("pets", config, root.parent / cache, None, data)


def _same(one: Domain, other: Domain) -> None:
    for split in SPLITS:
        np.testing.assert_array_equal(
            one.splits(0, 0)[split].images, other.splits(0, 0)[split].images
        )
        np.testing.assert_array_equal(
            one.splits(0, 0)[split].labels, other.splits(0, 0)[split].labels
        )


@pytest.mark.parametrize("block", [1, 7, 256])
def test_threads_and_blocks_change_no_image(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        fill(tmp_path / "pets" / name, 20)
        noise(1, (600, 400)).save(tmp_path / "pets" / name / "big.jpg")
        (tmp_path / "pets" / name / "05.png").write_bytes(b"broken")
        bomb(tmp_path / "pets" / name / "07.png")
    monkeypatch.setattr(images, "core_count", lambda: 1)
    one = _load(tmp_path / "pets", "one", DataConfig())
    monkeypatch.setattr(images, "_BLOCK", block)
    monkeypatch.setattr(images, "core_count", lambda: 4)
    _same(one, _load(tmp_path / "pets", "four", DataConfig()))


def test_little_memory_changes_no_image(tmp_path: Path) -> None:
    for name in "ab":
        fill(tmp_path / "pets" / name, 8)
        noise(1, (200, 100)).save(tmp_path / "pets" / name / "largest.png")
    plenty = _load(tmp_path / "pets", "plenty", DataConfig())
    _same(plenty, _load(tmp_path / "pets", "little", DataConfig(memory_gb=0.0005)))


def test_a_picture_that_needs_more_memory_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        fill(tmp_path / "pets" / name, 8)
    Image.new("RGB", (3000, 2000)).save(tmp_path / "pets" / "b" / "large.png")
    with pytest.raises(
        UserError,
        match=r"^domains\.pets\.path: got '.*' with 'b/large\.png' of 3000x2000 pixels; accepted: smaller "
        r"pictures, or data\.memory_gb of at least 0\.12$",
    ):
        _load(tmp_path / "pets", "cache", DataConfig(memory_gb=0.11))
    counts = _load(tmp_path / "pets", "cache", DataConfig(memory_gb=0.12)).counts
    assert counts == {"train": 5, "validation": 1, "test": 2}


_PEAK = """
import re, sys
from pathlib import Path
from convtl.config.domains import ImageFolderConfig
from convtl.config.schema import DataConfig
from convtl.data import images
from convtl.data.domains import load_domain
images.core_count = lambda: 4
images._THREAD_BYTES = 19e6
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1e6
before, config = peak(), ImageFolderConfig(path=sys.argv[1], size=8)
load_domain("x", config, Path(sys.argv[2]), None, DataConfig(memory_gb=float(sys.argv[3])))
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize("side", [1000, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "F"])
def test_memory_stays_within_the_bound(mode: str, side: int, tmp_path: Path) -> None:
    """By four threads of 19 MB each at once or, of 9 megapixels, one after the other."""
    for name in "ab":
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(4):
            picture, level = Image.new(mode, (side, side)), index + (4 if name == "b" else 0)
            picture.putpixel((0, 0), level if mode == "F" else (level,) * len(mode))
            picture.save(tmp_path / "pets" / name / f"{index}.{'tiff' if mode == 'F' else 'png'}")
    words = [sys.executable, "-c", _PEAK, str(tmp_path / "pets"), str(tmp_path / "cache"), "0.3"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.3  # kilobytes / 1e6


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    """60 MB of images are decoded, divided and written with less than a tenth of it in memory."""
    for name in "ab":
        fill(tmp_path / "pets" / name, 100)
    tracemalloc.start()
    try:
        domain = _load(tmp_path / "pets", "cache", DataConfig(memory_gb=0.006), size=320)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(domain.splits(0, 0)[split].images.nbytes for split in SPLITS) > 60e6
    assert peak < 6e6


def test_progress_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        fill(tmp_path / "pets" / name, 10)
    clock = iter(np.arange(0.0, 1e6, 3.0))
    monkeypatch.setattr(images.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(images, "_BLOCK", 5)
    lines: list[str] = []
    load_domain(
        "pets", ImageFolderConfig(path=str(tmp_path / "pets")), tmp_path / "cache", lines.append
    )
    title = "decoding pictures of pets (train)"
    assert lines[:2] == [f"{title}: 10 of 20", f"{title}: 20 of 20"]
    assert "pets: 2 classes (a, b), images: 12 train, 4 validation, 4 test" in lines


@given(st.lists(st.integers(0, 4), max_size=8))
def test_image_files_are_those_of_numpy(sizes: list[int]) -> None:
    import tempfile

    parts = [np.full((size, 2, 3, 1), size, np.uint8) for size in sizes]
    whole = np.concatenate([np.empty((0, 2, 3, 1), np.uint8), *parts])
    with tempfile.TemporaryDirectory() as folder:
        save_split(Path(folder), "x", parts, (2, 3, 1), np.zeros(len(whole), int))
        np.testing.assert_array_equal(np.load(Path(folder) / "x_images.npy"), whole)
