"""Curves of known laws are found again; intervals cover what they should; nothing is said of too little."""

import math

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from scipy import stats

from convtl.analysis.cells import NotEnoughData
from convtl.analysis.learning_curve import LearningCurve, _Lines, learning_curve
from convtl.analysis.statistics.paired_t import mean_interval
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
    np.testing.assert_allclose(np.exp(curve.intercepts), scales, rtol=1e-4)
    middle = math.exp(np.log(scales).mean())
    for factor, found in zip((2, 4), curve.forecasts, strict=True):
        assert found.accuracy == pytest.approx(1 - middle * (400 * factor) ** power, abs=1e-4)
        assert found.images == pytest.approx(400 * factor)
        assert not found.widened
    assert curve.back_test.predicted == pytest.approx(curve.back_test.measured, abs=1e-4)
    np.testing.assert_allclose(
        curve.at(np.array(SIZES)), 1 - middle * np.power(SIZES, power), atol=1e-4
    )


def test_the_interval_is_that_of_a_further_replicate() -> None:
    """Parallel lines: the spread of their extensions is that of their heights."""
    scales = np.array([1.0, 1.2, 0.9, 1.1])
    curve = learning_curve(SIZES, law(SIZES, scales, -0.5), MANY)
    ends = np.log(scales * 800**-0.5)
    half = 3.18245 * ends.std(ddof=1) * math.sqrt(1 + 1 / 4)  # t(0.975, 3)
    found = curve.forecasts[0].interval
    expected = np.exp([ends.mean() - half, ends.mean() + half])
    assert (1 - found.high, 1 - found.low) == pytest.approx(expected, abs=1e-4)
    assert found.level == 0.95


def test_students_interval() -> None:
    """t(0.975, 4) = 2.776; the values 1..5 have s = 1.581."""
    found = mean_interval([1, 2, 3, 4, 5])
    assert (found.low, found.high) == pytest.approx((1.037, 4.963), abs=1e-3)
    with pytest.raises(ValueError, match="two or more replicates are needed, got 1"):
        mean_interval([1])


def noisy(draw, replicates, sizes, factor):
    """Errors of a power law that shifts from replicate to replicate, counted on 300 test images."""
    places = np.array([*sizes, factor * sizes[-1]])
    shift = draw.normal(0, 0.06, (replicates + 1, 1))
    error = np.exp(np.log(1.6) + shift - 0.45 * np.log(places))
    accuracy = 1 - draw.binomial(300, error) / 300
    return learning_curve(sizes, accuracy[:-1, :-1], 300, [factor]).forecasts[0], accuracy[-1, -1]


@pytest.mark.parametrize("replicates", [2, 3, 6])
@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("sizes", [SIZES, (20, 50, 200), (28, 70, 140, 280, 560)])
def test_intervals_cover_at_about_their_level_where_the_law_holds(
    replicates, factor, sizes
) -> None:
    """Of what one further replicate measures; extensions scatter more than measurements do, so rather above."""
    draw, hits, runs = generator(0, "coverage", replicates, factor), 0, 800
    for _ in range(runs):
        found, measured = noisy(draw, replicates, sizes, factor)
        hits += found.interval.low <= measured <= found.interval.high
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
    """The old ones held it in .57 to .99 of draws (floor .15, four times, six replicates: .57)."""
    draw, truth, runs = generator(0, "floor", replicates, floor), world(floor), 150
    hits, widths = np.zeros(2), np.zeros(2)
    for _ in range(runs):
        accuracy = on_shared_pictures(draw, truth, replicates, 0.02)
        for place, found in enumerate(learning_curve(OWN_SIZES, accuracy, TEST).forecasts):
            expected, interval = 1 - truth(found.images), found.interval
            hits[place] += interval.low <= expected <= interval.high
            widths[place] += (interval.high - interval.low) / runs
    assert (hits / runs >= 0.94).all()
    assert (widths < 0.12).all()  # 9 points with twice, 10 with four times as many


def test_the_noise_of_the_test_pictures_is_always_added() -> None:
    """Also where points scatter so much about their lines that the line's own noise beyond them is larger."""
    x, n_test = np.log(SIZES), 100
    y = np.log(0.2) - 0.3 * (x - x[-1]) + np.array([[0.3, -0.3, -0.3, 0.3], [-0.3, 0.3, 0.3, -0.3]])
    lines, place = _Lines(x, y, n_test), float(x[-1]) + math.log(4)
    error = float(np.exp(lines.at(place).mean()))
    assert lines.added(place) == pytest.approx((1 - error) / (error * n_test), rel=0.1)


def test_an_error_that_stays_sets_the_lower_end() -> None:
    """.1 + 5 / n: the line expects less, the law with a floor is exact."""
    accuracy = np.repeat(0.9 - 5 / np.array([SIZES], float), 3, axis=0)
    for found, images in zip(
        learning_curve(SIZES, accuracy, MANY).forecasts, (800, 1600), strict=True
    ):
        assert found.accuracy > 0.9
        assert found.interval.low == pytest.approx(0.9 - 5 / images, abs=1e-3)


def test_a_law_that_breaks_widens_the_interval() -> None:
    """The error stops falling at the largest size: the fit without it promised more."""
    accuracy = law(SIZES, [1.0, 1.02, 0.98], -0.5)
    accuracy[:, -1] = accuracy[:, -2]
    curve = learning_curve(SIZES, accuracy, MANY)
    assert curve.back_test.miss == pytest.approx(0.5 * math.log(2), abs=1e-6)
    assert curve.back_test.predicted > curve.back_test.measured
    twice, four = curve.forecasts
    assert twice.widened
    assert four.widened
    widths = [math.log((1 - found.interval.low) / (1 - found.accuracy)) for found in (twice, four)]
    assert widths == pytest.approx([0.5 * math.log(2), math.log(2)], abs=1e-6)
    for found in (twice, four):  # that it stays as it is, is not excluded
        assert found.interval.low < accuracy[:, -1].mean() + 1e-4 < found.interval.high


def test_a_replicate_without_an_error_counts_with_half_a_picture() -> None:
    """0 wrong of 100 counts as half a picture of 101, 2 as two and a half."""
    table = [
        [0.9, 0.95, 0.97, 1],
        [0.92, 0.96, 1, 0.98],
        [0.91, 0.96, 0.98, 1],
        [0.9, 0.95, 0.97, 0.98],
    ]
    curve = learning_curve(SIZES, np.array(table), 100)
    assert curve.back_test.measured == pytest.approx(1 - math.sqrt(0.5 * 2.5) / 101)
    for found in curve.forecasts:
        assert 0.9 < found.interval.low < found.accuracy < found.interval.high < 1
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
    for found in curve.forecasts:
        assert 0 <= found.interval.low <= found.accuracy <= found.interval.high <= 1


def test_of_too_little_nothing_is_said() -> None:
    with pytest.raises(NotEnoughData, match="at least 3 numbers of images, and there are 2"):
        learning_curve([50, 100, 100], np.full((3, 3), 0.5), 100)
    with pytest.raises(
        NotEnoughData, match="at least 2 replicates with every number of images, and there are 1"
    ):
        learning_curve(SIZES, np.array([[0.5, 0.6, 0.7, 0.8], [0.5, np.nan, 0.7, 0.8]]), 100)


def test_sizes_come_in_any_order_and_count_once() -> None:
    accuracy = law(SIZES, [1.0, 1.1], -0.4)
    order = [2, 0, 3, 1, 1]
    plain = learning_curve(SIZES, accuracy, 500)
    turned: LearningCurve = learning_curve(np.array(SIZES)[order], accuracy[:, order], 500)
    assert turned.forecasts == plain.forecasts
    assert turned.images == plain.images
