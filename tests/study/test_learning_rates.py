"""The rule by which a trial chooses its learning rate."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convtl.study.learning_rates import at_edge, best_rate, next_rates

GRID = (1e-3, 3.1623e-3, 1e-2)
SCORES = st.tuples(st.integers(0, 5), st.integers(-5, 0)) | st.just(None)
GRIDS = st.lists(st.sampled_from([1e-4, 3.1623e-4, *GRID, 0.03, 0.1]), min_size=1, max_size=5)


def play(grid, extend, score, order=lambda rates: rates, most=50):
    """Plays a whole trial: scores what is wanted until nothing is; `score` is a function of the rate."""
    scores = {}
    for _ in range(most):
        wanted = next_rates(grid, scores, extend)
        if not wanted:
            return scores
        for rate in order(wanted):
            assert rate not in scores, "a rate was wanted twice"
            scores[rate] = score(rate)
    raise AssertionError("the trial never ends")


def landscape(values):
    """A score for every rate there may be, the same whenever it is asked for."""
    return lambda rate: values[round(math.log10(rate) * 4) % len(values)]


@given(GRIDS, st.integers(0, 3), st.lists(SCORES, min_size=1, max_size=7), st.randoms())
def test_a_trial_ends_within_its_extension_whatever_the_scores(
    grid, extend, values, random
) -> None:
    scores = play(grid, extend, landscape(values))
    assert set(grid) <= set(scores)
    if len(set(grid)) == 1:
        assert set(scores) == set(grid)
    assert sum(rate < min(grid) for rate in scores) <= extend
    assert sum(rate > max(grid) for rate in scores) <= extend


@given(GRIDS, st.integers(0, 3), st.lists(SCORES, min_size=1, max_size=7), st.randoms())
def test_the_order_in_which_scores_arrive_does_not_matter(grid, extend, values, random) -> None:
    def shuffled(rates):
        rates = list(rates)
        random.shuffle(rates)
        return rates

    turned = shuffled(grid)
    one, other = (
        play(grid, extend, landscape(values)),
        play(turned, extend, landscape(values), shuffled),
    )
    assert one == other
    assert best_rate(one) == best_rate(other)
    assert at_edge(one) == at_edge(other)


@given(GRIDS, st.integers(0, 3), st.lists(SCORES, min_size=1, max_size=7))
def test_at_the_end_the_best_is_inside_or_the_extension_is_used_up(grid, extend, values) -> None:
    scores = play(grid, extend, landscape(values))
    best = best_rate(scores)
    if len(set(grid)) > 1 and best is not None and at_edge(scores):
        side = [
            rate
            for rate in scores
            if (rate < min(grid) if best == min(scores) else rate > max(grid))
        ]
        assert len(side) == extend


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (3.1623e-3, [1e-3, 3.1623e-3, 1e-2]),
        (1e-3, [3.162e-4, 1e-3, 3.1623e-3, 1e-2]),
        (1e-4, [1e-4, 3.162e-4, 1e-3, 3.1623e-3, 1e-2]),
        (1e-2, [1e-3, 3.1623e-3, 1e-2, 3.162e-2]),
        (1.0, [1e-3, 3.1623e-3, 1e-2, 3.162e-2, 0.1]),
    ],
)
def test_the_grid_grows_by_half_decades_towards_the_best(best, tried) -> None:
    scores = play(GRID, 2, lambda rate: (-abs(math.log(rate / best)), 0.0))
    assert sorted(scores) == pytest.approx(tried, rel=1e-9)
    assert at_edge(scores) == (best in (1e-4, 1.0))


def test_a_single_rate_is_used_as_it_is() -> None:
    scores = play([0.5], 2, lambda rate: (0.1, 0.0))
    assert scores == {0.5: (0.1, 0.0)}
    assert not at_edge(scores)


def test_equal_rates_count_once() -> None:
    assert set(play([1e-3, 1e-3], 2, lambda rate: (0.1, 0.0))) == {1e-3}


def test_a_grid_finer_than_the_rounding_ends() -> None:
    assert len(play([1e-3, 1.00001e-3], 2, lambda rate: (rate, 0.0))) <= 4


def test_if_all_diverge_lower_rates_are_tried_and_then_none_is_chosen() -> None:
    scores = play(GRID, 2, lambda rate: None)
    assert sorted(scores)[:2] == pytest.approx([1e-4, 3.162e-4])
    assert len(scores) == 5
    assert best_rate(scores) is None
    assert not at_edge(scores)


def test_what_diverged_is_never_chosen() -> None:
    scores = {1e-3: (0.0, -99.0), 1e-2: None}
    assert best_rate(scores) == 1e-3


def test_accuracy_comes_first_then_the_loss_then_the_lower_rate() -> None:
    assert best_rate({1e-3: (0.5, -1.0), 1e-2: (0.6, -9.0)}) == 1e-2
    assert best_rate({1e-3: (0.5, -1.0), 1e-2: (0.5, -0.5)}) == 1e-2
    assert best_rate({1e-2: (0.5, -1.0), 1e-3: (0.5, -1.0)}) == 1e-3
    assert best_rate({}) is None
