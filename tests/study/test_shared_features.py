"""Features that trials and processes share: exact, independent of what else is asked for, computed once."""

from pathlib import Path

import jax
import numpy as np
import pytest

from convtl.config.domains import DigitsConfig
from convtl.config.training import ShiftConfig
from convtl.data.domains import Domain
from convtl.data.inputs import Normalisation, normalised
from convtl.data.splits import Split
from convtl.errors import UserError
from convtl.models.lenet import LeNet5Config
from convtl.storage.cache import Cache
from convtl.study import materials
from convtl.study.draws import Start, TargetData
from convtl.study.materials import KIND, SharedFeatures
from convtl.training.features import Forward

NETWORK = LeNet5Config().build((16, 16, 3), 4)
VARIABLES = jax.tree.map(np.asarray, NETWORK.init(jax.random.key(0)))
HOW = Normalisation((100, 110, 120), (50, 55, 60))
BOUNDARIES = {name: NETWORK.index(name) for name in ("conv2", "fc3", "fc5")}


def _features(
    root: Path, said: list[str], images: int = 300, seed: int = 0, changed: str = ""
) -> SharedFeatures:
    """Made images and a net, of which one unit may be changed."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (images, 16, 16, 3), np.uint8)
    labels = np.arange(images, dtype=np.int32) % 4
    own = Split(pictures, labels)
    splits = dict.fromkeys(("train", "validation", "test"), own)
    domain = Domain(
        "made", DigitsConfig(), tuple("abcd"), (16, 16, 3), f"made {seed}", {}, lambda *_: splits
    )
    variables = {
        name: jax.tree.map(np.negative, leaves) if name == changed else leaves
        for name, leaves in VARIABLES.items()
    }
    options = (("classes", 4), ("n_validation", 1), ("n_test", 1))
    data = TargetData(domain, HOW, ShiftConfig(), 0, 0, options)
    cache = Cache(root, said.append)
    return SharedFeatures(cache, said.append, {}, NETWORK, Start(variables), data, "lenet5")


@pytest.fixture
def said() -> list[str]:
    return []


def test_features_are_what_the_prefix_says(tmp_path, said) -> None:
    shared, positions = _features(tmp_path, said), np.array([299, 0, 256, 17])
    images = normalised(shared.data.splits["train"].images[positions], HOW)
    for boundary in BOUNDARIES.values():
        found = shared.rows(boundary, "train", positions)
        assert found.shape == (4, *NETWORK.shape_before(boundary))
        np.testing.assert_allclose(
            found[:], Forward(NETWORK, 0, boundary)(VARIABLES, images), atol=2e-5
        )


def test_no_bit_depends_on_what_else_was_asked_for(tmp_path, said) -> None:
    positions = np.arange(300)
    alone = _features(tmp_path / "alone", said).rows(BOUNDARIES["fc5"], "train", positions)[:]
    together = _features(tmp_path / "together", said)
    for boundary in BOUNDARIES.values():
        together.rows(boundary, "train", positions)
    np.testing.assert_array_equal(together.rows(BOUNDARIES["fc5"], "train", positions)[:], alone)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_disk_that_fills_up_is_one_line_and_no_signal(tmp_path, said, monkeypatch) -> None:
    shared = _features(tmp_path, said)
    monkeypatch.setattr(materials, "_FILE", "/dev/full")
    with pytest.raises(UserError, match="No space left on device"):
        shared.rows(BOUNDARIES["fc3"], "train", np.arange(5))


def test_another_process_finds_them_and_other_weights_do_not(tmp_path, said) -> None:
    positions = np.arange(5)
    first = _features(tmp_path, said).rows(BOUNDARIES["fc3"], "test", positions)[:]
    said.clear()
    second = _features(tmp_path, said).rows(BOUNDARIES["fc3"], "test", positions)[:]
    np.testing.assert_array_equal(first, second)
    assert not said
    _features(tmp_path, said, changed="fc5").rows(BOUNDARIES["fc3"], "test", positions)
    assert not said  # heads are no part of a prefix
    for other in ({"seed": 1}, {"changed": "conv1"}):
        _features(tmp_path, said, **other).rows(BOUNDARIES["fc3"], "test", positions)
        assert said
        said.clear()
    assert len(list((tmp_path / KIND).iterdir())) == 3
