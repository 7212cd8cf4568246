import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from convtl.analysis.statistics.ranking import kendall_tau_b, rank_correlation


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=12))
def test_tau_is_scipys(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs).T
    found = kendall_tau_b(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found == 0
    else:
        assert found == pytest.approx(scipy.stats.kendalltau(x, y).statistic)


def test_an_order_kept_in_every_replicate() -> None:
    outcome = np.arange(5) + np.arange(3)[:, None] * 100.0
    found = rank_correlation(np.tile(np.arange(5) ** 2, (3, 1)), outcome)
    assert (found.tau, found.low, found.high) == pytest.approx((1, 1, 1))
    assert found.p == pytest.approx(2 / math.factorial(5))
    assert (found.items, found.replicates) == (5, 3)
    assert rank_correlation(np.tile(-np.arange(5), (3, 1)), outcome).tau == pytest.approx(-1)


def test_what_a_replicate_does_to_all_items_plays_no_part() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 5)), rng.normal(size=(6, 5))
    shift = 1000 * rng.normal(size=(6, 1))
    assert rank_correlation(x + shift, y - shift).tau == pytest.approx(rank_correlation(x, y).tau)


def test_the_mean_over_replicates_and_its_interval() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(4, 6)), rng.normal(size=(4, 6))
    own = [scipy.stats.kendalltau(a, b).statistic for a, b in zip(x, y, strict=True)]
    found = rank_correlation(x, y)
    assert found.tau == pytest.approx(np.mean(own))
    assert min(own) <= found.low < found.tau < found.high <= max(own)
    assert rank_correlation(x, y) == found


def test_one_replicate_is_a_permutation_test() -> None:
    x, y = np.array([1.0, 2, 3, 4, 5, 6]), np.array([1.0, 3, 2, 4, 6, 5])
    found = rank_correlation(x, y)
    expected = scipy.stats.kendalltau(x, y, method="exact")
    assert found.tau == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.low == found.high == found.tau


def test_replicates_do_not_stand_in_for_items() -> None:
    """An accident of four sources stays an accident however often it is repeated."""
    x = np.array([1.0, 2, 3, 4])
    once, often = (rank_correlation(np.tile(x, (m, 1)), np.tile(x, (m, 1))) for m in (1, 50))
    assert once.p == often.p == pytest.approx(2 / 24)


def test_many_items_are_permuted_at_random() -> None:
    x = np.arange(12.0)
    assert rank_correlation(x, x).p == pytest.approx(1 / 5_000)
    rng = np.random.default_rng(0)
    assert rank_correlation(rng.normal(size=12), rng.normal(size=12)).p > 0.05


def test_what_cannot_be_correlated() -> None:
    with pytest.raises(ValueError, match="must be"):
        rank_correlation(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="must be"):
        rank_correlation(np.zeros((2, 1)), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="finite"):
        rank_correlation([1.0, np.nan], [1.0, 2.0])
    assert rank_correlation(np.zeros(4), np.arange(4.0)).p == 1
