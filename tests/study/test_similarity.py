import flax.linen as nn
import jax
import numpy as np
import pytest

from convtl.data.inputs import standardise
from convtl.data.subsets import first_of_each
from convtl.models.network import Network, Variables
from convtl.study import measurements as similarity

LABELS = np.arange(48) % 4


def _bars(seed: int, horizontal: bool = False, labels: np.ndarray = LABELS) -> np.ndarray:
    """Images of a noisy bar whose place is its class."""
    images = np.random.default_rng(seed).integers(0, 60, (len(labels), 16, 16, 1))
    for image, label in zip(images, labels, strict=True):
        image[:, 2 + 3 * label : 5 + 3 * label] += 150
    turned = images.transpose(0, 2, 1, 3) if horizontal else images
    return turned.astype(np.uint8)


# --- distances --------------------------------------------------------------------------------------


def test_equal_sets_are_at_no_distance_and_others_are() -> None:
    images = _bars(0)
    same = similarity.data_distance(images, LABELS, images, LABELS)
    again = similarity.data_distance(images, LABELS, _bars(1), LABELS)
    turned = similarity.data_distance(images, LABELS, _bars(2, horizontal=True), LABELS)
    assert same <= again + 1e-9
    assert turned > 2 * again


def test_distances_are_symmetric_and_do_not_see_contrast() -> None:
    one, other = _bars(0), _bars(2, horizontal=True)
    result = similarity.data_distance(one, LABELS, other, LABELS)
    faint = similarity.data_distance((one // 5 + 100).astype(np.uint8), LABELS, other, LABELS)
    assert similarity.data_distance(other, LABELS, one, LABELS) == pytest.approx(result)
    assert faint == pytest.approx(result, rel=0.1)


def test_both_sides_are_cut_to_as_many_images() -> None:
    few = _bars(1)[:20]
    more = similarity.data_distance(_bars(0), LABELS, few, LABELS[:20])
    cut = similarity.data_distance(_bars(0)[:20], LABELS[:20], few, LABELS[:20])
    assert more == cut


def test_images_of_other_sizes_can_be_compared() -> None:
    large = _bars(1).repeat(2, axis=1).repeat(2, axis=2).repeat(3, axis=3)
    result = similarity.data_distance(_bars(1), LABELS, large, LABELS)
    assert result < 0.1


# --- estimators -------------------------------------------------------------------------------------


class Pick(nn.Module):
    """The pixels of a row, or of a column, as features."""

    row: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return x[:, 8, :, 0] if self.row else x[:, :, 8, 0]


class Crop(nn.Module):
    """The middle of an image: features of more than one axis."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return x[:, 4:12, 4:12]


class Fixed(nn.Module):
    """A head with 5 source classes."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.Dense(5)(x.reshape(len(x), -1))


def _picking(row: bool) -> tuple[Network, Variables]:
    network = Network((("pick", Pick(row)), ("head", Fixed())), (16, 16, 1))
    kernel = np.zeros((16, 5), np.float32)
    for label in range(4):
        kernel[2 + 3 * label : 5 + 3 * label, label] = 3
    return network, {
        "pick": {},
        "head": {"params": {"Dense_0": {"kernel": kernel, "bias": np.zeros(5)}}},
    }


def test_features_that_tell_the_classes_score_higher() -> None:
    images = standardise(_bars(0))
    telling, blind = (
        similarity.transferability_of(*_picking(row), images, LABELS) for row in (True, False)
    )
    assert set(telling) == {"logme", "knn", "linear_probe"}
    for name in telling:
        assert telling[name] > blind[name], name
        assert isinstance(telling[name], float)
    assert telling["linear_probe"] == telling["knn"] == 1
    assert blind["knn"] < 0.6


def test_an_estimate_depends_on_the_images_and_nothing_else() -> None:
    network = Network((("crop", Crop()), ("head", Fixed())), (16, 16, 1))
    variables = network.init(jax.random.key(0))
    images = standardise(_bars(0))
    found = similarity.transferability_of(network, variables, images, LABELS)
    assert similarity.transferability_of(network, variables, images, LABELS) == found
    assert all(np.isfinite(value) for value in found.values())
    relabelled = similarity.transferability_of(network, variables, images, 10 + LABELS)
    assert relabelled == pytest.approx(found)


# --- which images -----------------------------------------------------------------------------------


def test_the_first_of_every_class_come_before_any_second() -> None:
    labels = np.array([2, 2, 0, 2, 1, 0])
    assert list(first_of_each(labels, 20)) == [2, 4, 0, 5, 1, 3]
    assert list(first_of_each(labels, 20, 4)) == [2, 4, 0, 5]
    many = first_of_each(np.zeros(100, int), 20)
    assert list(many) == list(range(20))
