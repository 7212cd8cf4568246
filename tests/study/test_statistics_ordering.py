"""Known answers for ordered conditions: permuted sources, Page's trend, slopes, crossings."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from convtl.analysis import statistics as s
from convtl.keys import generator


def test_six_sources_in_the_predicted_order_reach_the_floor():
    found = s.source_permutation_p([-0.1, 0.0, 0.2, 0.3, 0.35, 0.9], range(6))
    assert found == s.SourcePermutation(p=2 / 720, rho=pytest.approx(1), sources=6, floor=2 / 720)
    reverse = s.source_permutation_p([0.9, 0.35, 0.3, 0.2, 0.0, -0.1], range(6))
    assert (reverse.p, reverse.rho) == (2 / 720, pytest.approx(-1))


def test_one_exchange_of_neighbours():
    # rho of a swap of neighbours is 1 - 12 / 210; 5 swaps and the order itself reach it, on either side
    found = s.source_permutation_p([0, 2, 1, 3, 4, 5], range(6))
    assert (found.p, found.rho) == (pytest.approx(12 / 720), pytest.approx(1 - 12 / 210))


def test_only_the_order_counts_and_ties_raise_the_floor():
    order = [0.1, 0.4, 0.5, 2.0, 9.0]
    assert s.source_permutation_p([1, 3, 2, 4, 5], order) == s.source_permutation_p(
        [-5, 3, 2, 4, 50], range(5)
    )
    tied = s.source_permutation_p([1, 2, 3, 4], [0, 0, 1, 1])
    assert (tied.p, tied.floor) == (pytest.approx(8 / 24), pytest.approx(8 / 24))
    assert s.source_permutation_p([1, 1, 1], range(3)) == s.SourcePermutation(1.0, 0.0, 3, 1.0)


@given(st.lists(st.integers(-4, 4), min_size=2, max_size=6).filter(lambda d: len(set(d)) > 1))
def test_p_of_sources_counts_all_orders(d):
    found = s.source_permutation_p(d, range(len(d)))
    ranks, orders = stats.rankdata(d), np.array(list(itertools.permutations(range(len(d)))))
    rhos = [np.corrcoef(ranks, order)[0, 1] for order in orders]
    assert found.rho == pytest.approx(stats.spearmanr(d, range(len(d))).statistic)
    assert found.p == pytest.approx(np.mean(np.abs(rhos) >= abs(found.rho) - 1e-9))
    assert found.floor == pytest.approx(np.mean(np.abs(rhos) >= max(rhos) - 1e-9))


def test_a_long_ladder_is_drawn():
    d = generator(0, "long ladder").normal(0, 1, 10) + 0.25 * np.arange(10)
    found = s.source_permutation_p(d, range(10))
    assert found == s.source_permutation_p(d, range(10))
    assert found.p == pytest.approx(stats.spearmanr(d, range(10)).pvalue, abs=0.02)
    assert s.source_permutation_p(range(10), range(10)).p == found.floor


def test_sources_without_a_place_are_refused():
    with pytest.raises(ValueError, match="one predicted place per source"):
        s.source_permutation_p([1, 2, 3], [1, 2])


def test_slopes_of_replicates():
    table = np.array([[0.0, 1.0, 2.0], [3.0, 3.0, 3.0], [2.0, 0.0, 1.0]])
    assert s.slope_per_replicate([0, 1, 2], table) == pytest.approx([1, 0, -0.5])
    sizes = np.log2([2, 10, 50])
    expected = [np.polyfit(sizes, row, 1)[0] for row in table]
    assert s.slope_per_replicate(sizes, table) == pytest.approx(expected)
    for wrong in ([0, 1], [1, 1, 1]):
        with pytest.raises(ValueError, match="one number per condition"):
            s.slope_per_replicate(wrong, table)


def test_page_trend():
    # the example of scipy's documentation (students' ratings; columns in predicted order)
    table = np.array(
        [
            [3, 4, 3],
            [2, 2, 4],
            [3, 3, 5],
            [1, 3, 2],
            [2, 3, 2],
            [2, 4, 5],
            [1, 2, 4],
            [3, 4, 4],
            [2, 4, 5],
            [1, 3, 4],
        ]
    )[:, [0, 1, 2]]
    found = s.page_trend(table)
    assert (found.statistic, found.p) == (
        pytest.approx(133.5),
        pytest.approx(0.0018191161948127822),
    )
    assert found.slope == pytest.approx((table[:, 2] - table[:, 0]).mean() / 2)
    assert 0.5 < found.monotone <= 1


def test_page_can_reject_on_one_step_where_the_means_do_not_rise_at_every_step():
    noise = generator(1, "one step").normal(0, 0.1, (8, 4))
    found = s.page_trend(np.array([0.0, 0.0, 1.0, 1.0]) + noise)
    assert found.p < 0.01
    assert found.monotone < 0.9
    assert s.monotone_share(np.array([[1.0, 2.0, 3.0]] * 4)) == 1
    assert s.monotone_share(np.array([[1.0, 1.0, 3.0]] * 4)) == 0


def test_page_needs_replicates_and_conditions():
    for shape in ((1, 4), (4, 2)):
        with pytest.raises(ValueError, match="2 replicates of 3 conditions"):
            s.page_trend(np.zeros(shape))
    with pytest.raises(ValueError, match="finite number"):
        s.page_trend(np.array([[1, 2, np.nan], [1, 2, 3]]))


def test_crossing_inside_the_range():
    table = np.array([[-1.0, -0.5, 0.5], [-1.2, -0.7, 0.3], [-0.8, -0.3, 0.7]])
    found = s.crossing([2, 8, 32], table)  # -0.5 at 2^3, +0.5 at 2^5
    assert found.log2_n == pytest.approx(4)
    assert (found.censored, found.rising) == ("", 1)
    assert 3 <= found.interval.low < 4 < found.interval.high <= 5


def test_crossing_outside_the_range_is_censored():
    rising = np.array([0.0, 0.2, 0.4]) + np.zeros((4, 1))
    above, below = s.crossing([2, 8, 32], rising + 0.1), s.crossing([2, 8, 32], rising - 1)
    assert (above.log2_n, above.censored, above.interval.low) == (1, "left", -np.inf)
    assert (below.log2_n, below.censored, below.interval.high) == (5, "right", np.inf)
    mixed = s.crossing([2, 8, 32], rising - 0.3 + np.array([-0.5, 0, 0.1, 0.2])[:, None])
    assert mixed.censored == ""
    assert mixed.interval.high == np.inf  # some draws do not cross


def test_a_benefit_that_falls_does_not_cross():
    found = s.crossing([2, 8, 32], np.array([[1.0, 0.0, -1.0], [1.1, 0.1, -0.9]]))
    assert np.isnan(found.log2_n)
    assert (found.censored, found.rising) == ("", 0)
    assert np.isnan(found.interval.low)


def test_a_dip_is_pooled_before_the_crossing_is_read():
    table = np.array([[-1.0, 0.2, -0.4, 1.0]])
    assert s.crossing([1, 2, 4, 8], table).log2_n == pytest.approx(2 + 0.1 / 1.1)
    with pytest.raises(ValueError, match="ascending"):
        s.crossing([2, 1, 4, 8], table)
