"""The feature maps that are kept beside the rows: of which trials, of which images, and how they are read."""

import numpy as np
import pytest
import tiny

from convtl.storage.cache import Cache, default_root
from convtl.study.draws import TargetData
from convtl.study.materials import Materials
from convtl.study.measurements import (
    FOLDER,
    PICTURES,
    measure_movement,
    read_maps,
    unit_outputs,
)
from convtl.study.store import RowStore

WORDS = ("measure=movement", "depth=5", "replicates=2")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    tiny.run(folder, tiny.trials(*WORDS))
    return folder


@pytest.fixture(scope="module")
def materials(out):
    made = Materials(Cache(default_root()), lambda line: None)
    made.prepare(tiny.trials(*WORDS))
    return made


def files(out):
    return sorted(path.name for path in (out / FOLDER).iterdir())


def test_the_lowest_replicate_is_kept_and_no_other(out, tmp_path) -> None:
    lowest, _ = tiny.trials(*WORDS)
    assert files(out) == [f"{lowest.id}.npz"]
    tiny.run(tmp_path, tiny.trials("measure=movement", "depth=1", "replicate=[1]"))
    assert len(files(tmp_path)) == 1


def test_without_movement_nothing_is_kept(tmp_path) -> None:
    tiny.run(tmp_path, tiny.trials())
    assert not (tmp_path / FOLDER).exists()


def test_what_is_kept_is_what_the_units_say(out, materials) -> None:
    trial = tiny.trials(*WORDS)[0]
    kept = read_maps(out, trial.id)
    images, labels = materials.target_data(trial).examples("validation")
    first = [int(np.argmax(labels == label)) for label in range(PICTURES)]
    said = unit_outputs(materials.network(trial), materials.start(trial).variables, images)
    assert set(kept.maps) == {"conv1", "conv2"}
    np.testing.assert_allclose(kept.maps["conv1"][0], said["conv1"][first], atol=2e-3)
    assert not np.array_equal(*kept.maps["conv1"])  # it was trained
    kernel = materials.start(trial).variables["conv1"]["params"]["conv"]["kernel"]
    np.testing.assert_allclose(kept.kernels[0][2], kernel[:, :, 0, 2], atol=1e-3)
    assert (out / FOLDER / f"{trial.id}.npz").stat().st_size < 200_000


def test_test_images_are_not_looked_at(out, materials, tmp_path, monkeypatch) -> None:
    trial = tiny.trials(*WORDS)[0]
    read = TargetData.examples

    def guarded(self, split, n_per_class=None):
        assert split == "validation"
        return read(self, split, n_per_class)

    monkeypatch.setattr(TargetData, "examples", guarded)
    measure_movement(tmp_path, trial, materials, materials.start(trial).variables)
    kept = read_maps(tmp_path, trial.id)
    assert np.array_equal(kept.maps["conv1"][0], read_maps(out, trial.id).maps["conv1"][0])
    assert np.array_equal(*kept.maps["conv2"])


def test_a_damaged_file_counts_as_none(out, tmp_path) -> None:
    trial = tiny.trials(*WORDS)[0]
    assert read_maps(tmp_path, trial.id) is None
    whole = (out / FOLDER / f"{trial.id}.npz").read_bytes()
    (tmp_path / FOLDER).mkdir()
    for content in (b"", whole[:100], whole[: len(whole) // 2], b"{}"):
        (tmp_path / FOLDER / f"{trial.id}.npz").write_bytes(content)
        assert read_maps(tmp_path, trial.id) is None
    np.savez(tmp_path / FOLDER / f"{trial.id}.npz", kernels=np.array([{}], object))
    assert read_maps(tmp_path, trial.id) is None


def test_maps_come_with_a_row_that_is_made_again_for_its_movement(tmp_path) -> None:
    tiny.run(tmp_path, tiny.trials())
    assert not (tmp_path / FOLDER).exists()
    tiny.run(tmp_path, tiny.trials("measure=movement"))
    assert len(files(tmp_path)) == 1
    assert len(RowStore(tmp_path).read()) == 1
