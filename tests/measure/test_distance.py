import itertools
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from convtl.measure import distance


def _sample(seed: int, n: int = 40, d: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def _frechet(x: np.ndarray, y: np.ndarray) -> float:
    """|mu - mu'|^2 + Tr(S + S' - 2 (S S')^1/2): the trace of a root is the sum of roots of eigenvalues."""
    one, other = np.cov(x.T), np.cov(y.T)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(one @ other).real, 0))
    return float(np.square(x.mean(0) - y.mean(0)).sum() + np.trace(one + other) - 2 * roots.sum())


# --- maximum mean discrepancy -----------------------------------------------------------------------


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


# --- optimal transport ------------------------------------------------------------------------------


def test_transport_on_tiny_sets_is_brute_force() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(6, 2)) + 1
    x_labels, y_labels = np.array([0, 0, 0, 1, 1, 1]), np.array([5, 5, 5, 5, 2, 2])
    cost = np.square(x[:, None] - y).sum(-1)
    for i, j in itertools.product(range(6), repeat=2):
        one, other = x[x_labels == x_labels[i]], y[y_labels == y_labels[j]]
        cost[i, j] += _frechet(one, other)
    best = min(
        np.mean([cost[i, j] for i, j in enumerate(p)]) for p in itertools.permutations(range(6))
    )
    assert distance.otdd(x, x_labels, y, y_labels) == pytest.approx(best)


def test_transport_of_unequal_counts_is_a_linear_programme() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(4, 2)), rng.normal(size=(3, 2))
    cost = np.square(x[:, None] - y).sum(-1)
    marginals = np.concatenate([np.kron(np.eye(4), np.ones(3)), np.kron(np.ones(4), np.eye(3))])
    right = np.concatenate([np.full(4, 1 / 4), np.full(3, 1 / 3)])
    expected = scipy.optimize.linprog(cost.ravel(), A_eq=marginals, b_eq=right).fun
    # one label that is the same Gaussian on either side would add its own distance: points add none
    found = distance.otdd(x, np.arange(4), y, np.arange(3))
    assert found == pytest.approx(2 * expected)


def test_labels_count_and_their_names_do_not() -> None:
    x = np.concatenate([_sample(0, 20), _sample(1, 20) + 5])
    labels = np.repeat([0, 1], 20)
    assert distance.otdd(x, labels, x, 7 - labels) == pytest.approx(0, abs=1e-9)
    mixed = distance.otdd(x, labels, x, np.tile([0, 1], 20))
    assert mixed > 10
    assert distance.otdd(x, labels, x + 1, labels) == pytest.approx(
        2 * 5
    )  # images move by 1, and so do classes


def test_gaussians_of_classes_of_unequal_sizes() -> None:
    """A class of more images than features, and of one; and Gaussians of known distance."""
    x = _sample(0, 12, 4)
    labels = np.array([0] * 8 + [1] * 3 + [2])
    roots, means, of = distance._classes(x, labels)
    table = distance.gaussian_w2(means, roots, means, roots)
    assert table == pytest.approx(table.T)
    assert np.diag(table) == pytest.approx(0, abs=1e-9)
    point = np.square(x[:8].mean(0) - x[11]).sum() + np.trace(np.cov(x[:8].T))
    assert table[0, 2] == pytest.approx(point)
    assert list(of) == list(labels)
    one, other = (np.diag(np.sqrt(variances))[None] for variances in ([1.0, 4, 9], [4.0, 4, 1]))
    apart = distance.gaussian_w2(np.zeros((1, 3)), one, np.array([[1.0, 2, 0]]), other)
    assert apart.item() == pytest.approx(5 + 1 + 0 + 4)  # |mu - mu'|^2 + sum (sqrt(a) - sqrt(b))^2


@pytest.mark.parametrize("n", [40, 3])
def test_gaussians_are_the_textbook_formula(n: int) -> None:
    """Also with fewer images than features."""
    x, y = _sample(0, n) @ _sample(7, 5, 5), _sample(1) @ _sample(8, 5, 5) + 1
    (roots, means, _), (others, centres, _) = (
        distance._classes(z, np.zeros(len(z), int)) for z in (x, y)
    )
    found = distance.gaussian_w2(means, roots, centres, others).item()
    assert found == pytest.approx(_frechet(y, x))


# --- all --------------------------------------------------------------------------------------------


def _otdd(x: np.ndarray, y: np.ndarray) -> float:
    return distance.otdd(x, np.arange(len(x)) % 3, y, np.arange(len(y)) % 4)


@pytest.mark.parametrize("measure", [distance.mmd2_unbiased, _otdd])
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_symmetry_and_rotation(measure: Callable[..., float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(15, 4)), rng.normal(size=(11, 4)) * 2 + 1
    found = measure(x, y)
    if measure is not _otdd:
        assert measure(y, x) == pytest.approx(found)
        order = rng.permutation(len(x))
        assert measure(x[order], y) == pytest.approx(found)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    assert measure(x @ turn, y @ turn) == pytest.approx(found)
    x_labels, y_labels = rng.integers(0, 3, 15), rng.integers(0, 4, 11)
    assert distance.otdd(x, x_labels, y, y_labels) == pytest.approx(
        distance.otdd(y, y_labels, x, x_labels)
    )


@pytest.mark.parametrize("measure", [distance.mmd2_unbiased, _otdd])
def test_shapes_that_do_not_go_together(measure: Callable[..., float]) -> None:
    with pytest.raises(ValueError, match="features must be"):
        measure(_sample(0, d=3), _sample(0, d=4))
    with pytest.raises(ValueError, match="features must be"):
        measure(_sample(0, n=0), _sample(0))


def test_labels_that_do_not_go_with_the_images() -> None:
    with pytest.raises(ValueError, match="labels must be 40 integers"):
        distance.otdd(_sample(0), np.zeros(3, int), _sample(1), np.zeros(40, int))


def test_the_transport_library_is_loaded_when_it_is_wanted_and_without_tensor_libraries() -> None:
    code = (
        "import sys, numpy as np; from convtl.measure import distance; assert 'ot' not in sys.modules;"
        "x = np.eye(3); distance.otdd(x, np.arange(3), x, np.arange(3)); assert 'ot' in sys.modules;"
        "assert not {'jax', 'torch', 'tensorflow', 'cupy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)
