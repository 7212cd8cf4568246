import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from convtl.measure import metrics

LOGITS = np.log(
    np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], np.float32)
)
LABELS = np.array([0, 1, 2, 2])


def _random(seed: int, n: int = 60, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, classes)).astype(np.float32), draw.integers(0, classes, n)


def test_known_answers() -> None:
    assert metrics.accuracy(LOGITS, LABELS) == 0.75
    # class 0: 1 of 1, class 1: 1 of 1, class 2: 1 of 2
    assert metrics.balanced_accuracy(LOGITS, LABELS) == pytest.approx(2.5 / 3)
    expected = -np.mean(np.log([0.7, 0.6, 0.2, 0.6]))
    assert metrics.nll(LOGITS, LABELS) == pytest.approx(expected, abs=1e-7)


def test_equal_logits_give_chance() -> None:
    logits = np.zeros((20, 10), np.float32)
    labels = np.repeat(np.arange(10), 2)
    assert metrics.accuracy(logits, labels) == pytest.approx(0.1)
    assert metrics.nll(logits, labels) == pytest.approx(math.log(10))


@given(st.integers(0, 10_000))
def test_agrees_with_scikit_learn(seed: int) -> None:
    logits, labels = _random(seed)
    guess = logits.argmax(1)
    assert metrics.accuracy(logits, labels) == pytest.approx(
        reference.accuracy_score(labels, guess)
    )
    if np.isin(guess, labels).all():  # scikit-learn warns about classes that are only predicted
        balanced = reference.balanced_accuracy_score(labels, guess)
        assert metrics.balanced_accuracy(logits, labels) == pytest.approx(balanced)
    probabilities = np.exp(metrics.log_softmax(logits))
    assert metrics.nll(logits, labels) == pytest.approx(
        reference.log_loss(labels, probabilities, labels=np.arange(5))
    )


@given(st.integers(0, 10_000), st.floats(-1e3, 1e3))
def test_a_constant_added_to_all_logits_changes_nothing(seed: int, constant: float) -> None:
    logits, labels = _random(seed)
    wide = logits.astype(np.float64)
    assert metrics.nll(wide + constant, labels) == pytest.approx(metrics.nll(wide, labels))


def test_large_logits_stay_finite() -> None:
    logits = np.array([[1e4, 0.0]], np.float32)
    assert metrics.nll(logits, np.array([0])) == 0
    assert metrics.nll(logits, np.array([1])) == 1e4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_wrong_and_void_the_likelihood(value: float) -> None:
    logits = LOGITS.copy()
    logits[0, 0] = value  # the label's own logit: +inf would otherwise be right
    assert metrics.accuracy(logits, LABELS) == 0.5
    assert math.isnan(metrics.nll(logits, LABELS))


def test_without_images_the_result_is_nan() -> None:
    for measure in (
        metrics.accuracy,
        metrics.balanced_accuracy,
        metrics.nll,
        metrics.expected_calibration_error,
    ):
        assert math.isnan(measure(LOGITS[:0], LABELS[:0]))


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (LOGITS, LABELS[:3], "do not go together"),
        (LOGITS[0], LABELS, "do not go together"),
        (LOGITS, np.array([0, 1, 2, 3]), "0..2"),
        (LOGITS, np.array([0, 1, 2, -1]), "0..2"),
    ],
)
def test_what_does_not_fit_is_refused(logits: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.accuracy(logits, labels)
