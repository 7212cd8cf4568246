"""What is taken from a pretrained net, and what is left of it."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from convtl.models.layers import DenseUnit
from convtl.models.network import Network, Variables
from convtl.transfer.graft import shuffled, statistics_matched

NETWORK = Network(
    (
        ("fc1", DenseUnit(40, nn.tanh)),
        ("fc2", DenseUnit(30, nn.relu)),
        ("head", DenseUnit(5)),
    ),
    (6, 6, 1),
)


def drawn(seed: int, scale: float = 1.0) -> Variables:
    """Weights and biases of all sizes."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (scale * rng.normal(rng.normal(), rng.uniform(0.1, 0.3), leaf.shape)).astype(
            np.float32
        ),
        dict(NETWORK.abstract_variables),
    )


def arrays(variables: Variables) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(variables)]


@pytest.fixture(scope="module")
def source() -> Variables:
    return drawn(0)


def test_shuffled_arrays_have_the_same_values_in_other_places(source: Variables) -> None:
    found = shuffled(source, np.random.default_rng(1))
    assert jax.tree.structure(found) == jax.tree.structure(source)
    for one, other in zip(arrays(source), arrays(found), strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(np.sort(one, None), np.sort(other, None))
        assert (one != other).any()


def test_matched_arrays_have_the_moments_and_no_value(source: Variables) -> None:
    found = statistics_matched(source, np.random.default_rng(1))
    for one, other in zip(arrays(source), arrays(found), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert np.isin(other, one).mean() < 0.01, "but for a coincidence in 32 bits"
        error = one.std() / np.sqrt(one.size)
        assert abs(one.mean() - other.mean()) < 4.5 * error
        assert abs(one.std() - other.std()) < 4.5 * error


@pytest.mark.parametrize("control", [shuffled, statistics_matched])
def test_a_control_is_a_function_of_its_draw(
    source: Variables, control: Callable[..., Variables]
) -> None:
    one, again, other = (arrays(control(source, np.random.default_rng(seed))) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("control", [shuffled, statistics_matched])
def test_statistics_of_normalisation_are_left_as_they_are(
    source: Variables, control: Callable[..., Any]
) -> None:
    stats = {"mean": np.arange(3.0), "var": np.ones(3)}
    given = source | {"fc1": source["fc1"] | {"batch_stats": stats}, "pool": {}}
    found = control(given, np.random.default_rng(1))
    assert found["fc1"]["batch_stats"] is stats
    assert found["pool"] == {}
