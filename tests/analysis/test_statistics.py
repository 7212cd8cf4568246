"""Known answers and properties of the tests and intervals; error rates are simulated in experiments/calibration."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from convtl.analysis import statistics as s
from convtl.keys import generator

values = st.lists(st.floats(-3, 3).map(lambda x: round(x, 3)), min_size=1, max_size=9)


# --- the sign flip ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "p"),
    [
        ([1, 2, 3, 4, 5, 6], 2 / 64),
        ([-1, -2, -3, -4, -5, -6], 2 / 64),
        ([1, 2, 3], 2 / 8),
        ([7], 1),
        ([1, 1, -1, -1], 1),
        ([0, 0, 0], 1),
        ([1, 1, 1, 1, 1, -1], 14 / 64),  # |sum| = 4 or 6: 2 + 12 of 64 flips
        (list(range(1, 13)), 2 / 4096),
    ],
)
def test_sign_flip_p_counts_every_flip(x, p):
    assert s.sign_flip_p(x) == pytest.approx(p)


@given(values)
def test_sign_flip_p_is_that_of_all_products_of_signs(x):
    sums = [abs(np.dot(signs, x)) for signs in itertools.product([1, -1], repeat=len(x))]
    assert s.sign_flip_p(x) == np.mean(np.array(sums) >= abs(sum(x)) - 1e-7)


def test_many_replicates_are_sampled_and_agree_with_normal_theory():
    x = generator(3, "many").normal(0.4, 1, 40)
    z = x.sum() / np.sqrt((x**2).sum())
    assert s.sign_flip_p(x) == pytest.approx(2 * stats.norm.sf(abs(z)), abs=0.005)
    interval = s.sign_flip_interval(x)
    low, high = stats.t.interval(0.95, 39, x.mean(), stats.sem(x))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.05)


@pytest.mark.parametrize(
    ("m", "level"),
    [(1, 0), (2, 0.5), (3, 0.75), (5, 0.9375), (6, 0.96875), (7, 1 - 6 / 128), (8, 1 - 12 / 256)],
)
def test_the_interval_says_which_level_it_attains(m, level):
    interval = s.sign_flip_interval(np.arange(m) ** 1.5)
    assert interval.level == pytest.approx(level)
    if m <= 6:
        assert (interval.low, interval.high) == (0, (m - 1) ** 1.5)


@given(values, st.sampled_from([0.8, 0.9, 0.95]))
def test_the_interval_inverts_the_test(x, level):
    x = np.array(x)
    interval = s.sign_flip_interval(x, level)
    alpha = 1 - interval.level
    for outside in (interval.low - 1e-3, interval.high + 1e-3):
        assert s.sign_flip_p(x - outside) <= alpha + 1e-9
    if interval.high - interval.low > 1e-2:
        for inside in (interval.low + 1e-4, interval.high - 1e-4):
            assert s.sign_flip_p(x - inside) > alpha - 1e-9


@pytest.mark.parametrize("wrong", [[], [1, float("nan")], [[1, 2]]])
def test_values_must_be_finite_numbers_one_a_replicate(wrong):
    with pytest.raises(ValueError, match="per replicate"):
        s.sign_flip_p(wrong)


# --- margins ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("margin", "direction", "p"),
    [
        (0.2, "positive", 2 / 64),  # all six above
        (0.2, "negative", 1),  # the wrong side
        (0.55, "positive", 6 / 64),  # three flips give as much: none, the first, the first two
        (0.75, "positive", 1),  # the mean itself is no evidence
        (2.0, "negative", 2 / 64),
        (-0.2, "positive", 2 / 64),
    ],
)
def test_beyond_a_margin(margin, direction, p):
    x = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert s.shifted_p(x, margin, direction) == pytest.approx(p)
    if p < 1:
        assert s.one_sided_p(x, margin, direction) == pytest.approx(p / 2)


@pytest.mark.parametrize(
    ("x", "p"),
    [
        ([0.05, -0.1, 0.02, 0.1, -0.05, 0.0], 1 / 64),  # all inside
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.25], 2 / 64),  # one subset mean (itself) outside
        ([0.0], 1 / 2),
        ([0.5], 1),
        ([0.2], 1),  # on the margin is not inside
        ([0.01, 0.0, -0.01], 1 / 8),  # too few to be called equivalent
    ],
)
def test_p_of_equivalence(x, p):
    assert s.equivalence_p(x, 0.2) == pytest.approx(p)
    assert s.equivalent(x, 0.2) == (p <= 0.05)


@given(values, st.sampled_from([0.1, 0.2, 0.5, 1.0]))
def test_p_of_equivalence_is_the_decision_that_the_interval_takes(x, delta):
    p = s.equivalence_p(x, delta)
    if p < 0.5:
        interval = s.sign_flip_interval(x, 1 - 2 * p)
        assert interval.level == pytest.approx(1 - 2 * p)
        assert -delta < interval.low + 1e-8
        assert interval.high - 1e-8 < delta


def test_replicates_to_decide():
    assert s.replicates_to_decide([1.0, -0.8, 0.9, -0.3, 0.7, 0.1], 0.2) > 6
    assert s.replicates_to_decide([0.5, 0.52, 0.48], 0.2) == 6  # the floor of the test
    assert s.replicates_to_decide([0.5, 0.52, 0.48], 0.2, alpha=0.025) == 7
    assert s.replicates_to_decide([0.4], 0.2) is None
    assert s.replicates_to_decide([30.0, -30.1, 29.9, -30.2], 0.2) is None


# --- several contrasts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]), ([0.5, 0.9], [1, 1]), ([0.031], [0.031])],
)
def test_holm(p, adjusted):
    assert s.holm(p) == pytest.approx(adjusted)


def test_max_t_of_one_contrast_and_of_its_copies_is_the_sign_flip_p():
    x = np.array([1.0, 0.2, -0.3, 2.0, 0.7, 0.1])
    assert s.max_t(np.stack([x, x, -x])) == pytest.approx([s.sign_flip_p(x)] * 3)


def test_max_t_steps_down_and_never_goes_below_the_raw_p():
    x = generator(5, "max_t").normal(0, 1, (5, 8)) + np.array([3, 1, 0.5, 0, 0])[:, None]
    adjusted, raw = s.max_t(x), [s.sign_flip_p(row) for row in x]
    assert (adjusted >= np.array(raw) - 1e-12).all()
    observed = np.abs(x.sum(1)) / np.sqrt((x**2).sum(1))
    order = np.argsort(-observed)
    assert (np.diff(adjusted[order]) >= 0).all()
    signs = np.array(list(itertools.product([1, -1], repeat=8)))
    flipped = np.abs(signs @ x.T) / np.sqrt((x**2).sum(1))
    assert adjusted[order[0]] == pytest.approx(np.mean(flipped.max(1) >= observed.max() - 1e-9))


def test_max_t_with_missing_replicates_and_empty_contrasts():
    adjusted = s.max_t(np.array([[1, 1, 1, 1, 1, np.nan], [np.nan] * 6, [0.0] * 6]))
    assert adjusted == pytest.approx([2 / 32, np.nan, 1], nan_ok=True)


# --- choices ----------------------------------------------------------------------------------------


def test_the_depth_that_suffices_is_the_smallest_within_epsilon_of_the_best():
    assert s.sufficient_depth(np.array([0.0, 0.5, 0.65, 0.6])) == 1
    assert s.sufficient_depth(np.array([[0.9, 1.0], [0.0, 1.0]])).tolist() == [0, 1]
    assert s.sufficient_depth(np.array([0.0, 0.5, 0.65]), eps=0) == 2


def test_depth_distribution_is_a_distribution_that_finds_the_truth():
    noise = generator(6, "depths").normal(0, 0.05, (6, 3))
    assert s.depth_distribution(np.array([0.0, 1.0, 1.0]) + noise).tolist() == [0, 1, 0]
    torn = s.depth_distribution(np.array([0.0, 0.2, 0.2]) + 3 * noise)
    assert torn.sum() == pytest.approx(1)
    assert 0 < torn[0] < 1


# --- along an axis ----------------------------------------------------------------------------------


def test_logit_of_accuracy_counts_half_an_answer_more_on_each_side():
    assert s.logit_accuracy([0.5, 1.0, 0.25], [10, 9, 100]) == pytest.approx(
        [0, np.log(9.5 / 0.5), np.log(25.5 / 75.5)]
    )


def test_students_interval():
    """t(0.975, 4) = 2.776; the values 1..5 have s = 1.581."""
    interval = s.student_interval([1, 2, 3, 4, 5])
    assert (interval.low, interval.high) == pytest.approx((1.037, 4.963), abs=1e-3)
    with pytest.raises(ValueError, match="two or more replicates are needed, got 1"):
        s.student_interval([1])


def test_slopes_of_replicates():
    table = np.array([[0.0, 1.0, 2.0], [3.0, 3.0, 3.0], [2.0, 0.0, 1.0]])
    assert s.slope_per_replicate([0, 1, 2], table) == pytest.approx([1, 0, -0.5])
    sizes = np.log2([2, 10, 50])
    expected = [np.polyfit(sizes, row, 1)[0] for row in table]
    assert s.slope_per_replicate(sizes, table) == pytest.approx(expected)
    for wrong in ([0, 1], [1, 1, 1]):
        with pytest.raises(ValueError, match="one number per point"):
            s.slope_per_replicate(wrong, table)


def test_a_slope_over_sets_is_tested_by_permuting_them():
    x = np.arange(13.0)
    y = 0.3 * x + generator(0, "sets").normal(0, 1, 13)
    clear, none = s.slope_permutation(x, y), s.slope_permutation(x, np.resize([1.0, -1.0], 13))
    fit = stats.linregress(x, y)
    half = stats.t.ppf(0.975, 11) * fit.stderr
    assert clear.effect == pytest.approx(fit.slope)
    assert clear.p == pytest.approx(fit.pvalue, abs=2e-3)
    assert clear.interval.low == pytest.approx(fit.slope - half, abs=0.05)
    assert clear.interval.high == pytest.approx(fit.slope + half, abs=0.05)
    assert none.p > 0.9
    assert none.interval.low < 0 < none.interval.high


def test_of_three_sets_nothing_can_be_said():
    """Two of six orders have the steepest slope, so no p is below a third."""
    slope = s.slope_permutation([0, 1, 2], [0, 1, 2])
    assert slope.p == pytest.approx(1 / 3, abs=0.01)
    assert (slope.interval.low, slope.interval.high) == (-math.inf, math.inf)


COUNTS, CURVE = [2, 8, 32, 128], [0.2, 0.4, 0.6, 0.8]


@pytest.mark.parametrize(
    ("score", "n", "log2_ratio", "censored"),
    [
        (0.4, 8, 0.0, ""),
        (0.6, 8, 2.0, ""),
        (0.5, 8, 1.0, ""),  # a straight curve in log n stays straight
        (0.3, 16, -2.0, ""),
        (0.81, 8, 4.0, "right"),
        (0.19, 8, -2.0, "left"),
        (0.8, 8, 4.0, ""),  # reached, not passed
    ],
)
def test_data_equivalents(score, n, log2_ratio, censored):
    worth = s.data_equivalent(score, COUNTS, CURVE, n)
    assert (worth.log2_ratio, worth.censored) == (pytest.approx(log2_ratio, abs=1e-9), censored)


def test_a_curve_that_dips_is_pooled_and_a_plateau_counts_from_its_start():
    worth = s.data_equivalent(0.5, COUNTS, [0.2, 0.6, 0.4, 0.8], 2)
    assert (worth.log2_ratio, worth.censored) == (pytest.approx(2), "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0.5, [8], [0.4], 8), "two or more"),
        ((0.5, [8, 2], [0.4, 0.5], 8), "ascending"),
        ((float("nan"), [2, 8], [0.4, 0.5], 8), "finite score"),
    ],
)
def test_curves_that_cannot_be_read_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        s.data_equivalent(*arguments)
