"""Curves of known laws are found again; intervals cover what they should; nothing is said of too little."""

import math

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from scipy import stats

from convtl.analysis.learning_curve import NotEnoughData, learning_curve
from convtl.keys import generator

SIZES = (50, 100, 200, 400)
MANY = 10**9
"""Test images with which half a picture more or less is nothing."""


def law(images, scale, power):
    return 1 - np.outer(scale, np.power(images, power))


@given(st.floats(0.3, 1.2), st.floats(-0.6, -0.1), st.integers(2, 6))
def test_an_exact_power_law_is_recovered(scale, power, replicates) -> None:
    scales = scale * np.linspace(0.9, 1.1, replicates)
    curve = learning_curve(SIZES, law(SIZES, scales, power), MANY)
    np.testing.assert_allclose(curve.slopes, power, atol=1e-5)
    middle = math.exp(np.log(scales).mean())
    for factor, forecast in zip((2, 4), curve.forecasts, strict=True):
        assert forecast.accuracy == pytest.approx(1 - middle * (400 * factor) ** power, abs=1e-4)
        assert forecast.images == pytest.approx(400 * factor)
    assert curve.foretold == pytest.approx(1 - middle * 400**power, abs=1e-4)


def test_the_interval_is_that_of_a_further_replicate() -> None:
    """Parallel lines: the spread of their extensions is that of their heights."""
    scales = np.array([1.0, 1.2, 0.9, 1.1])
    curve = learning_curve(SIZES, law(SIZES, scales, -0.5), MANY)
    ends = np.log(scales * 800**-0.5)
    half = 3.18245 * ends.std(ddof=1) * math.sqrt(1 + 1 / 4)  # t(0.975, 3)
    interval = curve.forecasts[0].interval
    now = np.log(scales * 400**-0.5).mean()  # that nothing is gained is not excluded
    expected = np.exp([ends.mean() - half, now + half])
    assert (1 - interval.high, 1 - interval.low) == pytest.approx(expected, abs=1e-4)
    assert interval.level == 0.95


def noisy(draw, replicates, sizes, factor):
    """Errors of a power law that shifts from replicate to replicate, counted on 300 test images."""
    places = np.array([*sizes, factor * sizes[-1]])
    shift = draw.normal(0, 0.06, (replicates + 1, 1))
    error = np.exp(np.log(1.6) + shift - 0.45 * np.log(places))
    accuracy = 1 - draw.binomial(300, error) / 300
    return learning_curve(sizes, accuracy[:-1, :-1], 300, [factor]).forecasts[0], accuracy[-1, -1]


@pytest.mark.parametrize("replicates", [2, 3, 6])
@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize(
    "sizes", [SIZES, (20, 50, 200), pytest.param((28, 70, 140, 280, 560), marks=pytest.mark.slow)]
)
def test_intervals_cover_at_about_their_level_where_the_law_holds(
    replicates, factor, sizes
) -> None:
    """Of what one further replicate measures; extensions scatter more than measurements do, so rather above."""
    draw, hits, runs = generator(0, "coverage", replicates, factor), 0, 800
    for _ in range(runs):
        forecast, measured = noisy(draw, replicates, sizes, factor)
        hits += forecast.interval.low <= measured <= forecast.interval.high
    assert 0.93 <= hits / runs <= 0.995


TEST = 1322
OWN_SIZES = (70, 140, 280, 675)


def world(floor: float):
    """Error against images: .33 with 70, .21 with 675, of which `floor` stays for ever."""
    power = math.log((0.21 - floor) / (0.33 - floor)) / math.log(OWN_SIZES[-1] / OWN_SIZES[0])
    return lambda n: floor + (0.33 - floor) * (np.asarray(n, float) / OWN_SIZES[0]) ** power


def on_shared_pictures(draw, truth, replicates, own):
    """Accuracies of replicates that differ by a factor of `own` in each cell, on the same test pictures.

    Pictures have difficulties (normal), and nets an own noise of a tenth of their variance.
    """
    error = truth(OWN_SIZES) * np.exp(draw.normal(0, own, (replicates, len(OWN_SIZES))))
    difficulty, place = draw.normal(size=TEST), stats.norm.ppf(error)[..., None]
    wrong = stats.norm.cdf((place - math.sqrt(0.9) * difficulty) / math.sqrt(0.1))
    return 1 - (draw.random(wrong.shape) < wrong).mean(axis=-1)


@pytest.mark.parametrize("floor", [0, 0.10, 0.15])
@pytest.mark.parametrize("replicates", [3, 6])
def test_intervals_hold_the_truth_with_a_floor_and_with_shared_test_pictures(
    floor, replicates
) -> None:
    draw, truth, runs = generator(0, "floor", replicates, floor), world(floor), 150
    hits, widths = np.zeros(2), np.zeros(2)
    for _ in range(runs):
        accuracy = on_shared_pictures(draw, truth, replicates, 0.02)
        for place, forecast in enumerate(learning_curve(OWN_SIZES, accuracy, TEST).forecasts):
            expected, interval = 1 - truth(forecast.images), forecast.interval
            hits[place] += interval.low <= expected <= interval.high
            widths[place] += (interval.high - interval.low) / runs
    assert (hits / runs >= 0.94).all()
    assert (widths < 0.14).all()  # 11 points with twice, 13 with four times as many


def test_a_law_that_breaks_widens_the_interval() -> None:
    """The error stops falling at the largest size: the fit without it promised more."""
    accuracy = law(SIZES, [1.0, 1.02, 0.98], -0.5)
    accuracy[:, -1] = accuracy[:, -2]
    curve = learning_curve(SIZES, accuracy, MANY)
    assert curve.foretold > accuracy[:, -1].mean()
    for forecast in curve.forecasts:
        miss = 0.5 * math.log(forecast.factor)
        width = math.log((1 - forecast.accuracy) / (1 - forecast.interval.high))
        assert width == pytest.approx(miss, abs=1e-6)


def test_that_nothing_more_is_gained_is_never_excluded() -> None:
    measured = law(SIZES, [1.0, 1.02, 0.98], -0.5)
    for forecast in learning_curve(SIZES, measured, MANY).forecasts:
        assert forecast.interval.low < measured[:, -1].min() < forecast.accuracy


def test_a_replicate_without_an_error_counts_with_half_a_picture() -> None:
    """0 wrong of 100 counts as half a picture of 101, 2 as two and a half."""
    table = [
        [0.9, 0.95, 0.97, 1],
        [0.92, 0.96, 1, 0.98],
        [0.91, 0.96, 0.98, 1],
        [0.9, 0.95, 0.97, 0.98],
    ]
    curve = learning_curve(SIZES, np.array(table), 100)
    for forecast in curve.forecasts:
        assert 0.85 < forecast.interval.low < forecast.accuracy < forecast.interval.high < 1
    assert np.isfinite(curve.slopes).all()


def test_where_nothing_is_left_to_gain_nothing_is_said() -> None:
    table = np.array([[0.9, 0.97, 1, 1], [0.92, 0.96, 1, 0.99]])
    with pytest.raises(NotEnoughData, match=r"0\.5 of 100 test images are wrong on average"):
        learning_curve(SIZES, table, 100)


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=2, max_size=5),
    st.integers(1, 500),
)
def test_whatever_was_measured_gives_shares(table, n_test) -> None:
    try:
        curve = learning_curve(SIZES, np.minimum(np.array(table), 1 - 1 / n_test), n_test)
    except NotEnoughData:  # nothing is left to gain
        reject()
    for forecast in curve.forecasts:
        assert 0 <= forecast.interval.low <= forecast.accuracy <= forecast.interval.high <= 1


@pytest.mark.parametrize(
    ("sizes", "table"),
    [
        ([50, 100, 100], np.full((3, 3), 0.5)),
        (SIZES, np.array([[0.5, 0.6, 0.7, 0.8], [0.5, np.nan, 0.7, 0.8]])),
    ],
)
def test_of_too_little_nothing_is_said(sizes, table) -> None:
    with pytest.raises(NotEnoughData, match="3 numbers of images and 2 replicates"):
        learning_curve(sizes, table, 100)


def test_sizes_come_in_any_order_and_count_once() -> None:
    accuracy = law(SIZES, [1.0, 1.1], -0.4)
    order = [2, 0, 3, 1, 1]
    plain = learning_curve(SIZES, accuracy, 500)
    turned = learning_curve(np.array(SIZES)[order], accuracy[:, order], 500)
    assert turned.forecasts == plain.forecasts
