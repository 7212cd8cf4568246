import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convtl.measure import metrics
from convtl.measure.metrics import expected_calibration_error


def _logits(*rows: list[float]) -> np.ndarray:
    return np.log(np.array(rows))


def test_known_answer() -> None:
    # Two images at confidence 0.9 of which one is right, two at 0.6 that are both right:
    # (2 * |0.5 - 0.9| + 2 * |1 - 0.6|) / 4
    logits = _logits([0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6])
    labels = np.array([0, 1, 0, 1])
    assert expected_calibration_error(logits, labels) == pytest.approx(0.4)
    # one bin: |3/4 - 0.75| = 0
    assert expected_calibration_error(logits, labels, bins=1) == pytest.approx(0, abs=1e-12)


def test_overconfident_and_right() -> None:
    certain = np.array([[50.0, 0.0], [0.0, 50.0]])
    assert expected_calibration_error(certain, np.array([0, 1])) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error(certain, np.array([1, 0])) == pytest.approx(1)


def test_bins_are_closed_on_the_right() -> None:
    # Confidence exactly 1/2 is in (0, 1/2]; 0.6 is in (1/2, 1]: had they shared a bin, the gaps would cancel.
    logits = np.log(np.array([[0.5, 0.5], [0.6, 0.4]]))
    assert expected_calibration_error(logits, np.array([0, 1]), bins=2) == pytest.approx(
        (0.5 + 0.6) / 2
    )


@given(st.integers(0, 10_000), st.integers(1, 30))
def test_against_a_loop_over_bins(seed: int, bins: int) -> None:
    draw = np.random.default_rng(seed)
    logits, labels = draw.normal(size=(50, 4)) * 3, draw.integers(0, 4, 50)
    probabilities = np.exp(metrics.log_softmax(logits))
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0.0
    edges = np.linspace(0, 1, bins + 1)
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(logits, labels, bins=bins) == pytest.approx(
        expected, abs=1e-9
    )


def test_values_that_are_not_finite() -> None:
    logits = _logits([0.9, 0.1], [0.6, 0.4])
    labels = np.array([0, 1])
    spoilt = logits.copy()
    spoilt[1] = np.nan
    assert math.isnan(expected_calibration_error(spoilt, labels))
