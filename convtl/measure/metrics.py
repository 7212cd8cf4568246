"""Accuracy, negative log-likelihood and calibration of predictions, from logits.

Everywhere: `logits` (n, classes); `labels` (n,) integers in 0..classes - 1, else ValueError. Without images the result
is nan. A row with a logit that is not finite is wrong, and makes likelihood and calibration of the whole set nan.
"""

import numpy as np
from jaxtyping import Bool, Float, Integer, Num
from numpy.typing import ArrayLike


def log_softmax(logits: ArrayLike) -> Float[np.ndarray, "n classes"]:
    """Log-probabilities in float64; rows that are not finite become nan."""
    wide = np.asarray(logits, np.float64)
    wide = np.where(np.isfinite(wide).all(axis=1, keepdims=True), wide, np.nan)
    shifted = wide - wide.max(axis=1, keepdims=True, initial=-np.inf)
    normalised: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def correct(logits: ArrayLike, labels: ArrayLike) -> Bool[np.ndarray, " n"]:
    """Return whether each image is classified correctly; the first of ties wins."""
    scores, classes = _checked(logits, labels)
    if not len(classes):
        return np.zeros(0, bool)
    right: np.ndarray = np.isfinite(scores).all(axis=1) & (scores.argmax(axis=1) == classes)
    return right


def accuracy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Share of images that are classified correctly, in [0, 1].

    >>> accuracy([[2.0, 1.0], [0.0, 3.0]], [0, 0])
    0.5
    """
    right = correct(logits, labels)
    return float(right.mean()) if right.size else float("nan")


def balanced_accuracy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Mean over the classes that occur of each class's accuracy, in [0, 1].

    >>> balanced_accuracy([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]], [0, 0, 1])
    0.25
    """
    right, classes = correct(logits, labels), np.asarray(labels)
    shares = [right[classes == label].mean() for label in np.unique(classes)]
    return float(np.mean(shares)) if shares else float("nan")


def losses(logits: ArrayLike, labels: ArrayLike) -> Float[np.ndarray, " n"]:
    """Negative log-likelihood of each image's label, in nats (float64)."""
    scores, classes = _checked(logits, labels)
    log_likelihood: np.ndarray = log_softmax(scores)[np.arange(len(classes)), classes]
    return -log_likelihood


def nll(logits: ArrayLike, labels: ArrayLike) -> float:
    """Mean negative log-likelihood of the labels, in nats (float64)."""
    each = losses(logits, labels)
    return float(each.mean()) if each.size else float("nan")


def expected_calibration_error(logits: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """sum_b |B_b| / N * |accuracy(B_b) - confidence(B_b)|, in [0, 1].

    B_b: images whose largest probability is in ((b - 1) / bins, b / bins]. Guo et al. 2017, "On Calibration of
    Modern Neural Networks".
    """
    right = correct(logits, labels)
    if not right.size:
        return float("nan")
    confidence = np.exp(log_softmax(logits)).max(axis=1)
    if not np.isfinite(confidence).all():
        return float("nan")
    # searchsorted compares with the edges themselves: ceil(confidence * bins) would round 0.2 * 15 up
    places = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
    gaps = np.bincount(places, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / right.size)


def _checked(
    logits: ArrayLike, labels: ArrayLike
) -> tuple[Num[np.ndarray, "n classes"], Integer[np.ndarray, " n"]]:
    scores, classes = np.asarray(logits), np.asarray(labels)
    if scores.ndim != 2 or classes.shape != scores.shape[:1]:
        raise ValueError(f"logits {scores.shape} and labels {classes.shape} do not go together")
    if classes.size and not (classes.min() >= 0 and classes.max() < scores.shape[1]):
        least, most = classes.min(), classes.max()
        raise ValueError(f"labels must be in 0..{scores.shape[1] - 1}, got {least}..{most}")
    return scores, classes
