"""The rule by which a trial chooses its learning rate."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convtl.study.learning_rates import Score, at_edge, choose_rate, next_rates, score_rates

GRID = (1e-3, 3.1623e-3, 1e-2)
LOW, MIDDLE, HIGH = GRID
LOSSES = st.lists(st.floats(0, 5), min_size=6, max_size=6) | st.just(None)
GRIDS = st.lists(st.sampled_from([1e-4, 3.1623e-4, *GRID, 0.03, 0.1]), min_size=1, max_size=5)


def outcome(losses, right=0.0):
    return None if losses is None else np.array([losses, np.full(len(losses), right)])


def play(grid, extend, landscape, order=lambda rates: rates, most=50):
    """A whole trial: outcomes of what is tried next, until nothing is."""
    outcomes = {}
    for _ in range(most):
        rates = next_rates(grid, score_rates(outcomes), extend)
        if not rates:
            return score_rates(outcomes)
        for rate in order(rates):
            assert rate not in outcomes, "a rate was tried twice"
            outcomes[rate] = outcome(landscape(rate))
    raise AssertionError("the trial never ends")


def cycle(values):
    """Losses at every rate there may be, the same whenever they are asked for."""
    return lambda rate: values[round(math.log10(rate) * 4) % len(values)]


def valley(best, depth=1.0):
    """Losses that rise on both sides of a rate, equally for every picture."""
    return lambda rate: [depth * abs(math.log10(rate / best))] * 6


# --- the choice -------------------------------------------------------------------------------------

CHOICES = {
    "the lowest loss": ({LOW: [2, 2, 2, 2], MIDDLE: [3, 3, 3, 3], HIGH: [4, 4, 4, 4]}, LOW),
    # differences 1, -1, 1, 0: mean .25, standard deviation .957, standard error .479
    "a near-tie goes to the centre": ({LOW: [0, 2, 0, 1], MIDDLE: [1, 1, 1, 1]}, MIDDLE),
    # differences 1, 0, 1, 0: mean .5, standard deviation .577, standard error .289
    "beyond one standard error": ({LOW: [0, 1, 0, 1], MIDDLE: [1, 1, 1, 1]}, LOW),
    "a near-tie away from the centre stays": ({LOW: [1, 1, 1, 1], MIDDLE: [0, 2, 0, 1]}, MIDDLE),
    # equal means and spreads at every rate; paired differences are the same for every picture
    "errors are paired": ({LOW: [0, 9, 4, 7], MIDDLE: [0.1, 9.1, 4.1, 7.1]}, LOW),
    "of equally near ones the lower": ({LOW: [1, 2, 1, 2], HIGH: [2, 1, 2, 1]}, LOW),
    "also beyond the grid": ({0.03162: [1, 2, 1, 2], 3.162e-4: [2, 1, 2, 1]}, 3.162e-4),
    "accuracy has no say": ({LOW: [1, 1, 1, 1], HIGH: [2, 2, 2, 2]}, LOW),
    "one that diverged is never chosen": ({LOW: [99, 99, 99, 99], MIDDLE: None}, LOW),
    "one picture has no error": ({LOW: [1], MIDDLE: [1.001], HIGH: [2]}, LOW),
    "none": ({LOW: None}, None),
    "nothing tried": ({}, None),
}


@pytest.mark.parametrize(("losses", "chosen"), CHOICES.values(), ids=CHOICES)
def test_known_choices(losses, chosen) -> None:
    outcomes = {rate: outcome(one, right=float(rate == HIGH)) for rate, one in losses.items()}
    assert choose_rate(score_rates(outcomes), GRID) == chosen


def test_scores_tell_all_that_the_choice_needs() -> None:
    first = np.array([[0.0, 2.0, 0.0, 1.0], [1.0, 0.0, 1.0, 1.0]])
    second = np.array([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]])
    scores = score_rates({HIGH: None, MIDDLE: second, LOW: first})
    error = math.sqrt(11 / 12) / 2  # of 1, -1, 1, 0
    assert scores == [
        Score(LOW, 0.75, 0.75, 0.0),
        Score(MIDDLE, 0.25, 1.0, pytest.approx(error)),
        Score(HIGH, None, None, None),
    ]
    assert choose_rate([Score(*list(score)) for score in scores], GRID) == MIDDLE


@given(st.dictionaries(st.sampled_from([*GRID, 0.03, 0.1]), LOSSES), st.permutations(range(6)))
def test_the_order_of_pictures_and_rates_does_not_matter(losses, order) -> None:
    outcomes = {rate: outcome(one) for rate, one in losses.items()}
    turned = {
        rate: None if one is None else one[:, list(order)]
        for rate, one in reversed(outcomes.items())
    }
    scores, others = score_rates(outcomes), score_rates(turned)
    for one, other in zip(scores, others, strict=True):
        assert one == pytest.approx(other)
    chosen = choose_rate(scores, GRID)
    finite = {rate: np.mean(one) for rate, one in losses.items() if one is not None}
    assert (chosen is None) == (not finite)
    if finite:
        (error,) = (score.se for score in scores if score.rate == chosen)
        assert finite[chosen] <= min(finite.values()) + error + 1e-12


# --- the rates that are tried -----------------------------------------------------------------------


@given(GRIDS, st.integers(0, 3), st.lists(LOSSES, min_size=1, max_size=7), st.randoms())
def test_a_trial_ends_within_its_extension_whatever_the_scores(
    grid, extend, values, random
) -> None:
    def shuffled(rates):
        rates = list(rates)
        random.shuffle(rates)
        return rates

    scores = play(grid, extend, cycle(values))
    assert scores == play(shuffled(grid), extend, cycle(values), shuffled)
    rates, chosen = [score.rate for score in scores], choose_rate(scores, grid)
    assert set(grid) <= set(rates)
    below = sum(rate < min(grid) for rate in rates)
    above = sum(rate > max(grid) for rate in rates)
    assert max(below, above) <= extend * (len(set(grid)) > 1)
    if at_edge(scores, chosen):
        assert (below if chosen == min(rates) else above) == extend


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (MIDDLE, [1e-3, 3.1623e-3, 1e-2]),
        (LOW, [3.162e-4, 1e-3, 3.1623e-3, 1e-2]),
        (1e-4, [1e-4, 3.162e-4, 1e-3, 3.1623e-3, 1e-2]),
        (HIGH, [1e-3, 3.1623e-3, 1e-2, 3.162e-2]),
        (1.0, [1e-3, 3.1623e-3, 1e-2, 3.162e-2, 0.1]),
    ],
)
def test_the_grid_grows_by_half_decades_towards_the_best(best, tried) -> None:
    scores = play(GRID, 2, valley(best))
    assert [score.rate for score in scores] == pytest.approx(tried, rel=1e-9)
    assert at_edge(scores, choose_rate(scores, GRID)) == (best in (1e-4, 1.0))


def test_a_near_tie_at_the_edge_needs_no_further_rate() -> None:
    losses = {LOW: [0.0, 2.0, 0.0, 1.0], MIDDLE: [1.0] * 4, HIGH: [3.0] * 4}
    scores = play(GRID, 2, losses.__getitem__)
    assert len(scores) == 3
    assert not at_edge(scores, choose_rate(scores, GRID))


def test_a_rate_that_was_passed_over_may_be_chosen_later() -> None:
    """What lies within an error depends on the best rate, so nets of all rates are kept until the choice."""
    losses = {LOW: [1.0] * 4, MIDDLE: [0.9] * 4}
    grid = (LOW, MIDDLE)
    assert choose_rate(score_rates({r: outcome(v) for r, v in losses.items()}), grid) == MIDDLE
    losses[HIGH] = [2.0, 0.0, 1.0, 0.5]  # .875: both others lie within its errors
    assert choose_rate(score_rates({r: outcome(v) for r, v in losses.items()}), grid) == LOW


def test_a_single_rate_is_used_as_it_is() -> None:
    (score,) = scores = play([0.5], 2, valley(1e-3))
    assert (score.rate, choose_rate(scores, [0.5])) == (0.5, 0.5)
    assert not at_edge(scores, 0.5)


def test_equal_rates_count_once() -> None:
    assert len(play([1e-3, 1e-3], 2, valley(1e-3))) == 1


def test_a_grid_finer_than_the_rounding_ends() -> None:
    assert len(play([1e-3, 1.00001e-3], 2, valley(1.0))) <= 4


def test_if_all_diverge_lower_rates_are_tried_and_then_none_is_chosen() -> None:
    scores = play(GRID, 2, lambda rate: None)
    assert [score.rate for score in scores][:2] == pytest.approx([1e-4, 3.162e-4])
    assert len(scores) == 5
    assert choose_rate(scores, GRID) is None
    assert not at_edge(scores, None)
