"""What is decoded does not depend on who decodes it, and needs little memory."""

import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_folders import bomb, fill, noise
from PIL import Image

from convtl.config.domains import ImageFolderConfig
from convtl.config.schema import DataConfig
from convtl.data import decoding
from convtl.data.decoding import Means, decode
from convtl.data.domains import SPLITS, load_domain
from convtl.data.pictures import Fit
from convtl.data.rows import Rows

COUNT = 300


@dataclass(frozen=True)
class Colours:
    """Pictures of one colour each; every seventh is broken."""

    fit: Fit = Fit(4)  # noqa: RUF009
    side: int = 5

    def ahead(self, indices: Sequence[int]) -> None:
        pass

    def open(self, index: int) -> Image.Image:
        if index % 7 == 6:
            raise OSError("broken")
        return Image.new("RGB", (self.side, self.side), (index % 256, index // 256, 7))

    def looks_like_a_picture(self, index: int) -> bool:
        return True


def _expected() -> np.ndarray:
    images = np.zeros((COUNT, 4, 4, 3), np.uint8)
    for index in range(COUNT):
        if index % 7 != 6:
            images[COUNT - 1 - index] = index % 256, index // 256, 7
    return images


JOBS = [(COUNT - 1 - index, index) for index in range(COUNT)]
BROKEN = {index: "broken" for index in range(COUNT) if index % 7 == 6}


def _here(task: object, blocks: Sequence[object], workers: int) -> Iterator[object]:
    """In place of other processes."""
    del workers
    return map(task, blocks)  # type: ignore[arg-type]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are used from the second block on, and are this process."""
    monkeypatch.setattr(decoding, "_ALONE", 1)
    monkeypatch.setattr(decoding, "_in_processes", _here)


def test_pictures_are_the_same_with_one_process_and_with_two(tmp_path: Path) -> None:
    """With Grain's real processes; broken and immense files among the pictures."""
    for name in "ab":
        fill(tmp_path / "pets" / name, 130)
        (tmp_path / "pets" / name / "50.png").write_bytes(b"broken")
        bomb(tmp_path / "pets" / name / "70.png")
    config = ImageFolderConfig(path=str(tmp_path / "pets"), size=8, grey=False)
    said: list[str] = []
    one, two = (
        load_domain("pets", config, tmp_path / str(count), said.append, DataConfig(workers=count))
        for count in (1, 2)
    )
    for split in SPLITS:
        np.testing.assert_array_equal(one.split(split).images, two.split(split).images)
        np.testing.assert_array_equal(one.split(split).labels, two.split(split).labels)
    assert len([line for line in said if "4 of 260 files" in line]) == 2
    assert not [line for line in said if "failed" in line]


@pytest.mark.parametrize("workers", [None, 1, 2, 3])
def test_rows_and_faults(workers: int | None, eager: None, tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows.npy", COUNT, (4, 4, 3)).create()
    assert decode(Colours(), JOBS, rows, Means(DataConfig(workers=workers)), "x") == BROKEN
    np.testing.assert_array_equal(np.load(rows.path), _expected())


def test_large_pictures_are_decoded_alone(
    eager: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would take more than a process's share of the memory waits until nothing else is decoded."""
    rows = Rows(tmp_path / "rows.npy", COUNT, (4, 4, 3)).create()
    done: list[str] = []
    one = decoding._Task.one

    def noted(task: decoding._Task, job: decoding.Job) -> tuple[int, str]:
        verdict = one(task, job)
        done.append(
            "later" if verdict[1] == "later" else "alone" if task.most_bytes is None else "shared"
        )
        return verdict

    monkeypatch.setattr(decoding._Task, "one", noted)
    little = Means(DataConfig(memory_gb=1e-7, workers=2))
    assert decode(Colours(), JOBS, rows, little, "x") == BROKEN
    np.testing.assert_array_equal(np.load(rows.path), _expected())
    assert set(done[16:]) == {"later", "shared", "alone"}  # shared: broken ones
    assert done[COUNT:] == ["alone"] * done.count("later")


def test_when_processes_fail_this_one_goes_on(
    eager: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(task: object, blocks: Sequence[object], workers: int) -> Iterator[object]:
        yield from _here(task, blocks[:3], workers)
        raise RuntimeError("Worker process was terminated\nunexpectedly")

    monkeypatch.setattr(decoding, "_in_processes", dying)
    said: list[str] = []
    rows = Rows(tmp_path / "rows.npy", COUNT, (4, 4, 3)).create()
    assert decode(Colours(), JOBS, rows, Means(DataConfig(workers=2), said.append), "x") == BROKEN
    np.testing.assert_array_equal(np.load(rows.path), _expected())
    assert (
        "decoding with 2 processes failed (Worker process was terminated unexpectedly); going on with one"
        in said
    )


def test_few_pictures_need_no_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_in_processes", None)
    monkeypatch.setattr(decoding, "_ALONE_SECONDS", 0.0)
    rows = Rows(tmp_path / "rows.npy", COUNT, (4, 4, 3)).create()
    said: list[str] = []
    decode(Colours(), JOBS[:200], rows, Means(DataConfig(workers=8), said.append), "x")
    decode(
        Colours(), JOBS, rows, Means(DataConfig(), said.append), "x"
    )  # many, but done in a moment
    assert not [line for line in said if "failed" in line]


def test_progress_has_a_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 1e6, 0.7))
    monkeypatch.setattr(decoding.time, "monotonic", lambda: float(next(clock)))
    rows = Rows(tmp_path / "rows.npy", COUNT, (4, 4, 3)).create()
    said: list[str] = []
    decode(
        Colours(),
        JOBS,
        rows,
        Means(DataConfig(workers=1), said.append),
        "decoding pictures of x (train)",
    )
    assert said[0] == "decoding pictures of x (train): 0 of 300"
    assert len(said) < 12
    assert said[-1].startswith("decoding pictures of x (train): 300 of 300, ")
    assert said[-1].endswith(" a second")


def test_memory_that_decoding_takes_does_not_grow_with_the_pictures(tmp_path: Path) -> None:
    """60 MB of images, decoded, divided and written with less than a tenth of it in memory."""
    for name in "ab":
        fill(tmp_path / "pets" / name, 100)
    config = ImageFolderConfig(path=str(tmp_path / "pets"), size=320, grey=False)
    tracemalloc.start()
    try:
        domain = load_domain("pets", config, tmp_path / "cache", None, DataConfig(memory_gb=0.006))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(domain.split(split).images.nbytes for split in SPLITS) > 60e6
    assert peak < 6e6


@given(
    st.integers(0, 5).flatmap(lambda n: st.tuples(st.just(n), st.permutations(range(n)))), st.data()
)
def test_rows_are_taken_in_any_order(what: tuple[int, list[int]], data: st.DataObject) -> None:
    import tempfile

    count, order = what
    images = np.arange(count * 6, dtype=np.uint8).reshape(count, 1, 2, 3)
    chosen = data.draw(st.lists(st.sampled_from(range(count)), max_size=6)) if count else []
    with tempfile.TemporaryDirectory() as folder:
        rows = Rows(Path(folder) / "all.npy", count, (1, 2, 3)).create()
        for row in order:
            rows.write(row, images[row])
        np.testing.assert_array_equal(np.load(rows.path), images)
        rows.take(chosen, Path(folder) / "some.npy")
        np.testing.assert_array_equal(np.load(Path(folder) / "some.npy"), images[chosen])


def test_a_picture_of_another_shape_is_told(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows.npy", 7, (4, 4, 3)).create()
    source = replace(Colours(), fit=Fit(None))
    faults = decode(source, [(0, 0), (6, 6)], rows, Means(), "x")
    assert faults == {0: "of another shape", 6: "broken"}
    assert not np.load(rows.path).any()


def test_processes_start_without_the_main_module() -> None:
    import sys

    main = sys.modules["__main__"]
    with decoding._without_main():
        assert not hasattr(sys.modules["__main__"], "__file__")
    assert sys.modules["__main__"] is main


@pytest.mark.slow
def test_large_photographs_are_the_same_with_any_number_of_processes(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(120):
            noise(index, (30, 20)).resize((1500, 1000)).rotate(index + (name == "b")).save(
                tmp_path / "pets" / name / f"{index}.jpg"
            )
    config = ImageFolderConfig(path=str(tmp_path / "pets"), size=32, grey=False)
    loaded = [
        load_domain("pets", config, tmp_path / str(count), None, DataConfig(workers=count))
        for count in (1, 2, 3)
    ]
    for split in SPLITS:
        for other in loaded[1:]:
            np.testing.assert_array_equal(loaded[0].split(split).images, other.split(split).images)
