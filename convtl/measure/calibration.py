"""How far probabilities can be trusted. Arguments as in `convtl.measure.metrics`; nan if a row that
counts is not finite, or if none counts."""

import numpy as np

from convtl.measure.metrics import Labels, Logits, Mask, correct, counted, log_softmax


def expected_calibration_error(
    logits: Logits, labels: Labels, mask: Mask | None = None, bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over equal bins of confidence, weighted by their images.

    sum_b |B_b| / N * |accuracy(B_b) - confidence(B_b)|, with B_b the images whose largest probability is
    in ((b - 1) / bins, b / bins]; in [0, 1]. Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    right = correct(logits, labels, mask)
    if not right.size:
        return float("nan")
    confidence = np.exp(log_softmax(counted(logits, labels, mask)[0])).max(axis=1)
    if not np.isfinite(confidence).all():
        return float("nan")
    # searchsorted compares with the edges themselves: ceil(confidence * bins) would round 0.2 * 15 up
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / right.size)
