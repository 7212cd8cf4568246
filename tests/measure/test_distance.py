import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convtl.measure import distance


def _sample(seed: int, n: int = 40, d: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def test_mmd_is_its_definition() -> None:
    x, y = _sample(0, 6, 3), _sample(1, 5, 3) + 0.5

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / 3 + 1) ** 3

    expected = (
        np.mean([k(a, b) for a, b in itertools.permutations(x, 2)])
        + np.mean([k(a, b) for a, b in itertools.permutations(y, 2)])
        - 2 * np.mean([k(a, b) for a, b in itertools.product(x, y)])
    )
    assert distance.mmd2_unbiased(x, y) == pytest.approx(expected)


def test_mmd_is_zero_on_average_for_halves_and_grows_with_the_shift() -> None:
    halves = [
        distance.mmd2_unbiased(_sample(2 * seed), _sample(2 * seed + 1)) for seed in range(200)
    ]
    assert abs(np.mean(halves)) < 3 * np.std(halves) / np.sqrt(len(halves))
    shifted = [distance.mmd2_unbiased(_sample(0), _sample(1) + shift) for shift in (0, 0.5, 1, 2)]
    assert np.all(np.diff(shifted) > 0)


def test_mmd_of_equal_images_is_zero() -> None:
    same = np.ones((4, 3))
    assert distance.mmd2_unbiased(same, same) == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_symmetry_and_rotation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(15, 4)), rng.normal(size=(11, 4)) * 2 + 1
    result = distance.mmd2_unbiased(x, y)
    assert distance.mmd2_unbiased(y, x) == pytest.approx(result)
    assert distance.mmd2_unbiased(x[rng.permutation(15)], y) == pytest.approx(result)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    assert distance.mmd2_unbiased(x @ turn, y @ turn) == pytest.approx(result)


def test_shapes_that_do_not_go_together() -> None:
    for x, y in ((_sample(0, d=3), _sample(0, d=4)), (_sample(0, n=1), _sample(0))):
        with pytest.raises(ValueError, match="features must be"):
            distance.mmd2_unbiased(x, y)
