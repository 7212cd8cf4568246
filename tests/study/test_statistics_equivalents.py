"""Data equivalents: scratch's learning curve read backwards, and where it cannot be read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convtl.analysis import statistics as s

COUNTS, CURVE = [2, 8, 32, 128], [0.2, 0.4, 0.6, 0.8]


@pytest.mark.parametrize(
    ("accuracy", "n", "expected"),
    [
        (0.4, 8, s.DataEquivalent(0.0, "")),
        (0.6, 8, s.DataEquivalent(2.0, "")),
        (0.5, 8, s.DataEquivalent(1.0, "")),  # a straight curve in log n stays straight
        (0.3, 16, s.DataEquivalent(-2.0, "")),
        (0.81, 8, s.DataEquivalent(4.0, "right")),
        (0.19, 8, s.DataEquivalent(-2.0, "left")),
        (0.8, 8, s.DataEquivalent(4.0, "")),  # reached, not passed
        (0.2, 8, s.DataEquivalent(-2.0, "")),
    ],
)
def test_known_answers(accuracy, n, expected):
    found = s.data_equivalent(accuracy, COUNTS, CURVE, n)
    assert found.censored == expected.censored
    assert found.log2_ratio == pytest.approx(expected.log2_ratio, abs=1e-9)


def test_a_curve_that_dips_is_pooled_and_a_plateau_counts_from_its_start():
    found = s.data_equivalent(0.5, COUNTS, [0.2, 0.6, 0.4, 0.8], 2)
    assert (found.log2_ratio, found.censored) == (pytest.approx(2), "")
    assert s.data_equivalent(0.51, COUNTS, [0.2, 0.6, 0.4, 0.8], 2).log2_ratio > 4


@given(
    st.lists(st.floats(0.05, 0.95).map(lambda x: round(x, 2)), min_size=4, max_size=4),
    st.floats(0.1, 0.9),
    st.floats(0.1, 0.9),
)
def test_a_better_score_is_worth_at_least_as_many_labels(curve, first, second):
    low, high = sorted([first, second])
    worth = [s.data_equivalent(score, COUNTS, curve, 8).log2_ratio for score in (low, high)]
    assert worth[0] <= worth[1] + 1e-9
    assert -2 <= worth[0] <= worth[1] + 1e-9 <= 4 + 1e-8


def test_the_bootstrap_takes_whole_replicates_of_both():
    shift = np.array([-0.1, 0.0, 0.1])
    low, high = s.data_equivalent_interval(0.5 + shift, COUNTS, np.array(CURVE) + shift[:, None], 8)
    assert (low.log2_ratio, high.log2_ratio) == (
        pytest.approx(1),
        pytest.approx(1),
    )  # what both share cancels
    low, high = s.data_equivalent_interval(0.75 + shift, COUNTS, np.array([CURVE] * 3), 8)
    assert low.log2_ratio < high.log2_ratio == pytest.approx(4)
    assert (low.censored, high.censored) == ("", "right")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0.5, [8], [0.4], 8), "two or more"),
        ((0.5, [8, 2], [0.4, 0.5], 8), "ascending"),
        ((0.5, [2, 8], [0.4, 0.5, 0.6], 8), "one per score"),
        ((float("nan"), [2, 8], [0.4, 0.5], 8), "finite score"),
        ((0.5, [2, 8], [0.4, 0.5], 0), "positive n"),
    ],
)
def test_what_cannot_be_read_is_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        s.data_equivalent(*arguments)
