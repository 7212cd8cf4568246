"""Features that trials and processes share: exact, independent of what else is asked for, computed once."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from convtl.config.domains import DigitsConfig
from convtl.data.domains import Domain
from convtl.data.inputs import Normalisation, normalised
from convtl.data.splits import Split
from convtl.errors import UserError
from convtl.keys import digest
from convtl.models.lenet import LeNet5Config
from convtl.storage import checkpoint
from convtl.storage.cache import Cache
from convtl.study.materials import shared_features
from convtl.study.materials.shared_features import KIND, Prefix, SharedFeatures
from convtl.training.features import Forward

NETWORK = LeNet5Config().build((16, 16, 3), 4)
VARIABLES = jax.tree.map(np.asarray, NETWORK.init(jax.random.key(0)))
WEIGHTS = tuple(digest(checkpoint.digests(VARIABLES[name])) for name in NETWORK.names)
HOW = Normalisation((100, 110, 120), (50, 55, 60))
BOUNDARIES = {name: NETWORK.index(name) for name in ("conv2", "fc3", "fc5")}


def _prefix(images: int = 300, seed: int = 0, weights: tuple[str, ...] = WEIGHTS) -> Prefix:
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (images, 16, 16, 3), np.uint8)
    labels = np.arange(images, dtype=np.int32) % 4
    own = Split(pictures, labels, np.zeros(images, np.int32))
    splits = dict.fromkeys(("train", "validation", "test"), own)
    domain = Domain(
        "made", DigitsConfig(), tuple("abcd"), (16, 16, 3), f"made {seed}", {}, lambda: splits
    )
    return Prefix(NETWORK, VARIABLES, weights, "lenet5", domain, HOW)


@pytest.fixture
def said() -> list[str]:
    return []


def _features(tmp_path, said) -> SharedFeatures:
    return SharedFeatures(Cache(tmp_path, said.append), said.append)


def test_features_are_what_the_prefix_says(tmp_path, said) -> None:
    prefix, positions = _prefix(), np.array([299, 0, 256, 17])
    images = normalised(prefix.domain.split("train").images[positions], HOW)
    shared = _features(tmp_path, said)
    for boundary in BOUNDARIES.values():
        found = shared.rows(prefix, boundary, "train", positions)
        assert found.shape == (4, *NETWORK.shape_before(boundary))
        np.testing.assert_allclose(
            found[:], Forward(NETWORK, 0, boundary)(VARIABLES, images), atol=2e-5
        )


def test_no_bit_depends_on_what_else_was_asked_for(tmp_path, said) -> None:
    prefix, positions = _prefix(), np.arange(300)
    alone = _features(tmp_path / "alone", said).rows(prefix, BOUNDARIES["fc5"], "train", positions)[
        :
    ]
    together = _features(tmp_path / "together", said)
    for boundary in BOUNDARIES.values():
        together.rows(prefix, boundary, "train", positions)
    np.testing.assert_array_equal(
        together.rows(prefix, BOUNDARIES["fc5"], "train", positions)[:], alone
    )


def test_a_disk_without_room_is_refused_before_anything_is_computed(
    tmp_path, said, monkeypatch
) -> None:
    shared = _features(tmp_path, said)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(
        UserError, match=r"^cache: features of 300 images before fc3 need .* are free in"
    ):
        shared.rows(_prefix(), BOUNDARIES["fc3"], "train", np.arange(5))
    assert not said
    monkeypatch.undo()
    assert len(shared.rows(_prefix(), BOUNDARIES["fc3"], "train", np.arange(5))) == 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_disk_that_fills_up_is_one_line_and_no_signal(tmp_path, said, monkeypatch) -> None:
    shared = _features(tmp_path, said)
    monkeypatch.setattr(shared_features, "_FILE", "/dev/full")
    with pytest.raises(UserError, match="No space left on device"):
        shared.rows(_prefix(), BOUNDARIES["fc3"], "train", np.arange(5))


def test_another_process_finds_them_and_other_weights_do_not(tmp_path, said) -> None:
    positions = np.arange(5)
    first = _features(tmp_path, said).rows(_prefix(), BOUNDARIES["fc3"], "test", positions)[:]
    said.clear()
    second = _features(tmp_path, said).rows(_prefix(), BOUNDARIES["fc3"], "test", positions)[:]
    np.testing.assert_array_equal(first, second)
    assert not said
    changed = (*WEIGHTS[:-1], "another head")
    _features(tmp_path, said).rows(_prefix(weights=changed), BOUNDARIES["fc3"], "test", positions)
    assert not said  # heads are no part of a prefix
    for other in (_prefix(seed=1), _prefix(weights=("other", *WEIGHTS[1:]))):
        _features(tmp_path, said).rows(other, BOUNDARIES["fc3"], "test", positions)
        assert said
        said.clear()
    assert len(list((tmp_path / KIND).iterdir())) == 3
