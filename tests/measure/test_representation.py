import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convtl.measure.representation import linear_cka, weight_displacement


def _features(seed: int, n: int = 20, d: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


@pytest.mark.parametrize(("d", "e"), [(6, 4), (30, 4), (30, 50)])
def test_cka_is_its_definition(d: int, e: int) -> None:
    """Fewer features than images and more: the two ways of computing it."""
    x, y = _features(0, d=d), _features(1, d=e)
    a, b = x - x.mean(0), y - y.mean(0)
    expected = np.linalg.norm(b.T @ a) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    assert linear_cka(x, y) == pytest.approx(expected)
    assert linear_cka(y, x) == pytest.approx(expected)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3), st.integers(1, 40))
def test_cka_sees_no_rotation_scale_or_shift(seed: int, scale: float, d: int) -> None:
    x = _features(seed, d=d)
    turn = np.linalg.qr(_features(seed + 1, d, d))[0]
    assert linear_cka(x, x) == pytest.approx(1)
    assert linear_cka(x, scale * x @ turn + 3) == pytest.approx(1)
    other = _features(seed + 2)
    assert linear_cka(scale * x @ turn + 3, other) == pytest.approx(linear_cka(x, other))
    assert 0 <= linear_cka(x, other) <= 1


def test_cka_sees_a_map_that_is_not_orthogonal() -> None:
    x = _features(0)
    assert linear_cka(x, x * np.array([10, 1, 1, 1, 1, 1])) < 0.9


def test_cka_of_features_that_share_nothing() -> None:
    x = np.array([[1.0], [-1], [1], [-1]])
    y = np.array([[1.0], [1], [-1], [-1]])
    assert linear_cka(x, y) == 0


def test_maps_of_features_are_flattened() -> None:
    x = _features(0, 20, 24)
    assert linear_cka(x.reshape(20, 2, 3, 4), x) == pytest.approx(1)


def test_cka_without_variance_is_not_a_number() -> None:
    constant = np.full((20, 3), 0.1, np.float32)
    assert np.isnan(linear_cka(constant, _features(0)))
    assert np.isnan(linear_cka(_features(0), constant))
    assert np.isnan(linear_cka(constant * 0, constant))


def test_cka_of_other_images() -> None:
    with pytest.raises(ValueError, match="same images"):
        linear_cka(_features(0, 20), _features(0, 21))


NET = {
    "conv": {"params": {"kernel": np.array([[3.0, 0.0]]), "bias": np.array([4.0])}},
    "norm": {"params": {"scale": np.array([1.0])}, "batch_stats": {"mean": np.array([5.0])}},
    "pool": {},
    "head": {"params": {"inner": {"kernel": np.zeros(2)}}},
}


def test_displacement_by_hand() -> None:
    after = {
        "conv": {"params": {"kernel": np.array([[3.0, 1.0]]), "bias": np.array([4.0])}},
        "norm": {"params": {"scale": np.array([1.0])}, "batch_stats": {"mean": np.array([9.0])}},
        "pool": {},
        "head": {"params": {"inner": {"kernel": np.ones(2)}}},
    }
    found = weight_displacement(NET, after)
    assert list(found) == ["conv", "norm", "head"]  # statistics are no weights, pooling has none
    assert found["conv"] == pytest.approx(1 / 5)
    assert found["norm"] == 0
    assert np.isnan(found["head"])


def test_equal_nets_are_not_displaced() -> None:
    assert weight_displacement(NET, NET) == {"conv": 0.0, "norm": 0.0, "head": 0.0}


def test_displacement_between_other_nets() -> None:
    with pytest.raises(ValueError, match="units differ"):
        weight_displacement(NET, {name: NET[name] for name in ("conv", "head")})
    with pytest.raises(ValueError, match="'norm'"):
        weight_displacement(NET, NET | {"norm": {"params": {"scale": np.ones(2)}}})
    with pytest.raises(ValueError, match="'pool'"):
        weight_displacement(NET, NET | {"pool": {"params": {"scale": np.ones(2)}}})
