"""Known answers, properties, and a simulation of the error rates that the protocol relies on."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from convtl.analysis import statistics as s
from convtl.keys import generator

values = st.lists(st.floats(-50, 50).map(lambda x: round(x, 3)), min_size=1, max_size=9)


def test_logit_of_accuracy_counts_half_an_answer_more_on_each_side():
    assert s.logit_accuracy(0.5, 10) == pytest.approx(0)
    assert s.logit_accuracy(1.0, 9) == pytest.approx(np.log(9.5 / 0.5))
    assert np.isfinite(s.logit_accuracy([0.0, 1.0], [1200, 1200])).all()
    assert s.logit_accuracy(0.25, 100) == pytest.approx(np.log(25.5 / 75.5))


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


def test_many_replicates_are_sampled_and_agree_with_the_normal_approximation():
    x = generator(3, "many").normal(0.4, 1, 40)
    z = x.sum() / np.sqrt((x**2).sum())
    p = s.sign_flip_p(x)
    assert p == s.sign_flip_p(x)
    assert p == pytest.approx(2 * stats.norm.sf(abs(z)), abs=0.005)


@pytest.mark.parametrize(
    ("m", "level"),
    [(1, 0), (2, 0.5), (3, 0.75), (5, 0.9375), (6, 0.96875), (7, 1 - 6 / 128), (8, 1 - 12 / 256)],
)
def test_the_interval_says_which_level_it_attains(m, level):
    found = s.sign_flip_interval(np.arange(m) ** 1.5)
    assert found.level == pytest.approx(level)
    if m <= 6:
        assert (found.low, found.high) == (0, (m - 1) ** 1.5)


@given(values, st.sampled_from([0.8, 0.9, 0.95]))
def test_the_interval_inverts_the_test(x, level):
    x = np.array(x)
    found = s.sign_flip_interval(x, level)
    assert found.low <= x.mean() + 1e-9
    assert found.high >= x.mean() - 1e-9
    alpha = 1 - found.level
    span = max(1.0, float(np.ptp(x)))
    for outside in (found.low - 1e-3 * span, found.high + 1e-3 * span):
        assert s.sign_flip_p(x - outside) <= alpha + 1e-9
    if found.high - found.low > 1e-2:
        for inside in (found.low + 1e-4, found.high - 1e-4):
            assert s.sign_flip_p(x - inside) > alpha - 1e-9


def test_the_interval_of_many_replicates_is_near_that_of_the_t_test():
    x = generator(4, "many").normal(1, 2, 60)
    found = s.sign_flip_interval(x)
    low, high = stats.t.interval(0.95, 59, x.mean(), stats.sem(x))
    assert (found.low, found.high) == (pytest.approx(low, abs=0.05), pytest.approx(high, abs=0.05))
    assert found.level == pytest.approx(0.95, abs=1e-4)


def test_several_estimates_are_those_of_each() -> None:
    """Of few replicates the same bits; of many, whose draws are shared, up to the last of them."""
    draw = generator(0, "several")
    few, many = (
        [draw.normal(0.3, 1, 9) for _ in range(3)],
        [draw.normal(0.1, 1, 25) for _ in range(70)],
    )
    mixed = [few[0], *many, few[1], many[0], few[2]]
    found = s.estimates(mixed)
    for one, values in zip(found, mixed, strict=True):
        own = s.estimate(values)
        if len(values) == 9:
            assert one == own
        assert (one.effect, one.m, one.interval.level) == (own.effect, own.m, own.interval.level)
        assert one.p == pytest.approx(own.p, abs=2e-5)
        assert (one.interval.low, one.interval.high) == pytest.approx(
            (own.interval.low, own.interval.high)
        )
    assert s.estimates([]) == []


def test_values_must_be_finite_numbers_one_a_replicate():
    for wrong in ([], [1, float("nan")], [[1, 2]]):
        with pytest.raises(ValueError, match="per replicate"):
            s.sign_flip_p(wrong)


def test_holm():
    assert s.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert s.holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert s.holm([0.031]) == pytest.approx([0.031])
    assert (
        s.holm([0.031, 0.031]) > 0.05
    ).all()  # two claims at m=6 can never both, or either, reject


def test_max_t_of_one_contrast_is_its_sign_flip_p():
    x = np.array([1.0, 0.2, -0.3, 2.0, 0.7, 0.1])
    assert s.max_t(x[None]) == pytest.approx([s.sign_flip_p(x)])


def test_max_t_is_joint_so_copies_of_a_contrast_cost_nothing():
    x = np.array([1.0, 1.1, 0.9, 1.2, 1.3, 0.8])
    assert s.max_t(np.stack([x, x, -x])) == pytest.approx([2 / 64] * 3)


def test_max_t_steps_down_and_never_goes_below_the_raw_p():
    draw = generator(5, "max_t")
    x = draw.normal(0, 1, (5, 8)) + np.array([3, 1, 0.5, 0, 0])[:, None]
    adjusted, raw = s.max_t(x), [s.sign_flip_p(row) for row in x]
    assert (adjusted >= np.array(raw) - 1e-12).all()
    order = np.argsort(-np.abs(x.sum(1)) / np.sqrt((x**2).sum(1)))
    assert (np.diff(adjusted[order]) >= 0).all()
    signs = np.array(list(itertools.product([1, -1], repeat=8)))
    flipped = np.abs(signs @ x.T) / np.sqrt((x**2).sum(1))
    observed = np.abs(x.sum(1)) / np.sqrt((x**2).sum(1))
    assert adjusted[order[0]] == pytest.approx(np.mean(flipped.max(1) >= observed[order[0]] - 1e-9))


def test_max_t_with_missing_replicates_and_empty_contrasts():
    x = np.array([[1, 1, 1, 1, 1, np.nan], [np.nan] * 6, [0.0] * 6])
    adjusted = s.max_t(x)
    assert adjusted[0] == pytest.approx(2 / 32)
    assert np.isnan(adjusted[1])
    assert adjusted[2] == 1


def test_equivalence_needs_a_narrow_interval_and_enough_replicates():
    assert s.equivalent([0.05, -0.1, 0.02, 0.1, -0.05, 0.0], 0.2)
    assert not s.equivalent([0.05, -0.1, 0.02, 0.3, 0.35, 0.4], 0.2)
    assert not s.equivalent([0.01, 0.0, -0.01], 0.2)  # three replicates attain 75 % only


def test_replicates_to_decide():
    wide = [1.0, -0.8, 0.9, -0.3, 0.7, 0.1]
    assert s.replicates_to_decide(wide, 0.2) > 6
    assert (
        s.replicates_to_decide([0.5, 0.52, 0.48], 0.2) == 6
    )  # the floor of the test, not the spread
    assert s.replicates_to_decide([0.5, 0.52, 0.48], 0.2, alpha=0.025) == 7
    assert s.replicates_to_decide([0.4], 0.2) is None
    assert s.replicates_to_decide([30.0, -30.1, 29.9, -30.2], 0.2) is None


def test_the_depth_that_suffices_is_the_smallest_within_epsilon_of_the_best():
    assert s.sufficient_depth(np.array([0.0, 0.5, 0.65, 0.6])) == 1
    assert s.sufficient_depth(np.array([[0.9, 1.0], [0.0, 1.0]])).tolist() == [0, 1]
    assert s.sufficient_depth(np.array([0.0, 0.5, 0.65]), eps=0) == 2


def test_depth_distribution_is_a_distribution_that_finds_the_truth():
    noise = generator(6, "depths").normal(0, 0.05, (6, 3))
    clear = s.depth_distribution(np.array([0.0, 1.0, 1.0]) + noise)
    assert clear.tolist() == [0, 1, 0]
    torn = s.depth_distribution(np.array([0.0, 0.2, 0.2]) + 3 * noise)
    assert torn.sum() == pytest.approx(1)
    assert 0 < torn[0] < 1


def test_half_splits_score_the_choice_on_replicates_that_did_not_make_it():
    z = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, -3.0]])
    share, held_out = s.half_split_depths(z)
    # the pairs without replicate 3 (3 of 6) choose the second depth and are then scored with it
    assert share.tolist() == [0.5, 0.5]
    assert held_out == pytest.approx((3 * -1.0 + 3 * 0.0) / 6)
    assert s.half_split_depths(z[:3]) is None


def test_bootstrap_draws_are_joint_and_reproducible():
    assert (s.resamples(6) == s.resamples(6)).all()
    low, high = s.bootstrap_interval(np.array([[0.0, 10.0], [1.0, 11.0], [2.0, 12.0]]))
    assert high - low == pytest.approx([high[0] - low[0]] * 2)
    assert 0 <= low[0] < 1 < high[0] <= 2


def test_interquartile_mean():
    assert s.interquartile_mean([0, 1, 2, 100]) == 1.5
    assert s.interquartile_mean([5]) == 5


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["normal", "laplace", "uneven"])
def test_error_rates_in_simulation(shape):
    """At m=6 the test is exact (2/64) for symmetric values, and its interval covers at its level."""
    draw, times, m = generator(7, "simulate", shape), 4000, 6
    x = {
        "normal": lambda: draw.normal(0, 1, (times, m)),
        "laplace": lambda: draw.laplace(0, 1, (times, m)),
        "uneven": lambda: draw.normal(0, 1, (times, m)) * np.arange(1, m + 1),
    }[shape]()
    rejected = np.mean([s.sign_flip_p(row) <= 0.05 for row in x])
    assert rejected == pytest.approx(2 / 64, abs=0.009)
    found = [s.sign_flip_interval(row) for row in x]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in found])
    assert covered == pytest.approx(0.96875, abs=0.009)
    narrow = [s.sign_flip_interval(row, 0.9) for row in x]
    assert np.mean([i.low <= 0 <= i.high for i in narrow]) == pytest.approx(1 - 6 / 64, abs=0.015)


@pytest.mark.slow
def test_max_t_keeps_the_family_wise_error_in_simulation():
    draw = generator(8, "family")
    shared = draw.normal(0, 1, (600, 1, 6))
    x = shared + draw.normal(0, 1, (600, 6, 6))
    assert np.mean([(s.max_t(study) <= 0.05).any() for study in x]) < 0.05
