"""Tests against a margin, equivalence as a p, and claims that need all of their parts."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convtl.analysis import statistics as s
from convtl.keys import generator

values = st.lists(st.floats(-3, 3).map(lambda x: round(x, 3)), min_size=1, max_size=9)


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
def test_a_reading_beyond_a_margin(margin, direction, p):
    assert s.shifted_p([0.5, 0.6, 0.7, 0.8, 0.9, 1.0], margin, direction) == pytest.approx(p)


@given(values, st.floats(-1, 1).map(lambda x: round(x, 2)))
def test_beyond_a_margin_at_alpha_is_an_interval_beyond_it(x, margin):
    margin += 0.0005  # no value lies on it
    found = s.sign_flip_interval(x)
    p = s.shifted_p(x, margin, "positive")
    assert p == s.shifted_p([-value for value in x], -margin, "negative")
    if p <= 1 - found.level < 1:
        assert found.low > margin - 1e-9
    if found.low > margin + 1e-9:
        assert p <= 1 - found.level + 1e-12


def test_an_unknown_direction_is_refused():
    with pytest.raises(KeyError):
        s.shifted_p([1.0], 0.2, "up")


def test_a_claim_of_several_parts_is_as_sure_as_its_weakest():
    assert s.intersection_union([0.01, 0.04, 0.002]) == 0.04
    assert np.isnan(s.intersection_union([0.01, float("nan")]))
    for wrong in ([], 0.03, [[0.1]]):
        with pytest.raises(ValueError, match="each part"):
            s.intersection_union(wrong)


@pytest.mark.parametrize(
    ("x", "p"),
    [
        ([0.05, -0.1, 0.02, 0.1, -0.05, 0.0], 1 / 64),  # all inside
        (
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.25],
            2 / 64,
        ),  # one subset mean (itself) outside, its side counts
        ([0.0], 1 / 2),
        ([0.5], 1),
        ([0.2], 1),  # on the margin is not inside
    ],
)
def test_p_of_equivalence(x, p):
    assert s.equivalence_p(x, 0.2) == pytest.approx(p)


@given(values, st.sampled_from([0.1, 0.2, 0.5, 1.0]))
def test_p_of_equivalence_is_the_decision_the_interval_takes(x, delta):
    p = s.equivalence_p(x, delta)
    assert s.equivalent(x, delta) == (p <= 0.05)
    if p < 0.5:
        found = s.sign_flip_interval(x, 1 - 2 * p)
        assert found.level == pytest.approx(1 - 2 * p)
        assert -delta < found.low <= found.high < delta


@given(values)
def test_p_of_equivalence_is_that_of_two_one_sided_tests_by_all_flips(x):
    delta, x = 0.20005, np.array(x)
    signs = np.array(list(itertools.product([1, -1], repeat=len(x))))
    low = np.mean(signs @ (x + delta) >= (x + delta).sum() - 1e-9)
    high = np.mean(signs @ (x - delta) <= (x - delta).sum() + 1e-9)
    assert s.equivalence_p(x, delta) == pytest.approx(max(low, high))


@pytest.mark.parametrize("m", [1, 6, 11])
def test_many_studies_at_once_have_the_p_of_each(m):
    x = generator(0, "many studies", m).normal(0.2, 1, (40, m))
    assert s.sign_flip_ps(x) == pytest.approx([s.sign_flip_p(row) for row in x])
    one_sided = s.sign_flip_ps(x, "greater")
    up = x.sum(axis=1) > 0
    assert 2 * one_sided[up] == pytest.approx(s.sign_flip_ps(x)[up])
    both = np.maximum(s.sign_flip_ps(x + 0.7, "greater"), s.sign_flip_ps(0.7 - x, "greater"))
    assert both == pytest.approx([s.equivalence_p(row, 0.7) for row in x])


def test_many_studies_of_many_replicates_are_sampled():
    x = generator(1, "many studies").normal(0.3, 1, (3, 24))
    assert s.sign_flip_ps(x) == pytest.approx([s.sign_flip_p(row) for row in x])
