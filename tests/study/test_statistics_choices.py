"""Choices that are scored on replicates that did not make them; profiles and P(A > B)."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convtl.analysis import statistics as s
from convtl.keys import generator


@pytest.mark.parametrize(("m", "splits"), [(2, 2), (5, 10), (12, 924), (14, 3432), (16, 3432)])
def test_half_splits(m, splits):
    member = s.half_splits(m)
    assert member.shape == (splits, m)
    assert (member.sum(axis=1) == m // 2).all()
    if m <= 14:
        assert len({tuple(row) for row in member}) == math.comb(m, m // 2)


@pytest.mark.parametrize("m", [12, 14, 16])
def test_the_depth_that_suffices_of_a_confirmatory_study(m):
    z = np.array([0.0, 0.9, 1.0, 1.0]) + generator(0, "depths", m).normal(0, 0.05, (m, 4))
    share, held_out = s.half_split_depths(z)
    assert share == pytest.approx([0, 1, 0, 0])
    assert held_out == pytest.approx(z[:, 1].mean(), abs=0.02)


@given(st.integers(2, 7), st.integers(0, 10**6))
def test_regret_is_that_of_all_half_splits(m, seed):
    z = generator(seed, "regret").normal(0, 1, (m, 3))
    shortfall = [[] for _ in range(m)]
    for half in itertools.combinations(range(m), m // 2):
        best = z[list(half)].mean(axis=0).argmax()
        for replicate in set(range(m)) - set(half):
            shortfall[replicate].append(z[replicate, best] - z[replicate, 1])
    assert s.regret_per_replicate(z, 1) == pytest.approx([np.mean(row) for row in shortfall])


def test_regret_of_a_clear_choice():
    z = np.array([0.0, 1.0]) + generator(1, "clear").normal(0, 0.01, (6, 1))
    worst, best = s.regret(z, 0), s.regret(z, 1)
    assert worst.effect == pytest.approx(1)
    assert worst.p == 2 / 64
    assert (best.effect, best.interval.low, best.interval.high) == (0, 0, 0)
    mixed = s.regret_per_replicate(z, [0, 1, 0, 1, 0, 1])
    assert mixed == pytest.approx([1, 0] * 3)


def test_regret_has_no_winners_curse():
    """Among equal arms a choice in advance has no regret; the best of the same data would charge it with some."""
    draw = generator(2, "curse")
    studies = draw.normal(0, 0.3, (400, 6, 5))
    crossed = [s.regret_per_replicate(z, 0).mean() for z in studies]
    naive = [z.mean(axis=0).max() - z[:, 0].mean() for z in studies]
    assert np.mean(crossed) == pytest.approx(0, abs=0.03)
    assert np.mean(naive) > 0.1


def test_what_has_no_regret_is_refused():
    z = np.zeros((4, 3))
    for chosen in (3, -1, [0, 1, 2, 5]):
        with pytest.raises(ValueError, match="accepted: 0 to 2"):
            s.regret_per_replicate(z, chosen)
    for wrong in (z[:1], np.full((4, 3), np.nan)):
        with pytest.raises(ValueError, match="two or more replicates"):
            s.regret_per_replicate(wrong, 0)


def test_performance_profile():
    scores = np.array([[0.0, 1.0], [0.5, 1.0]])
    share, low, high = s.performance_profile(scores, np.array([-1.0, 0.0, 0.5, 1.0]))
    assert share == pytest.approx([1, 0.75, 0.5, 0])  # above, not at, a threshold
    assert (low <= share).all()
    assert (share <= high).all()
    assert (low[1], high[1]) == (0.5, 1)  # draws of the first or of the second replicate only


def test_normalised_scores():
    assert s.normalised([1.0, 3.0], [1.0, 2.0], [2.0, 4.0]).tolist() == [0, 0.5]
    with pytest.raises(ValueError, match="above its floor"):
        s.normalised([1.0], [1.0], [1.0])


def test_probability_of_improvement_is_paired():
    a = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    share, interval = s.probability_of_improvement(a + 0.01, a)
    assert share == 1
    assert (interval.low, interval.high) == (pytest.approx(0.025 ** (1 / 6)), 1)
    assert s.probability_of_improvement(a, a)[0] == 0.5
    assert s.probability_of_improvement([1, 2, 3], [2, 2, 2])[0] == 0.5


def test_binomial_interval():
    found = s.binomial_interval(0, 10)
    assert (found.low, found.high) == (0, pytest.approx(1 - 0.025 ** (1 / 10)))
    assert s.binomial_interval(3, 10).low == pytest.approx(
        0.0667, abs=1e-4
    )  # Clopper & Pearson's charts
    assert s.binomial_interval(3, 10).high == pytest.approx(0.6525, abs=1e-4)
