"""How good predictions are: accuracy and negative log-likelihood from logits.

Everywhere: `logits` (N, C), `labels` (N,) integers in 0..C-1, and `mask` (N,), True for the images that
count (all, if it is None); without any such image the result is nan. A row with a logit that is not
finite predicts nothing: it counts as wrong, and the likelihood of the whole set is nan.
"""

import numpy as np
from jaxtyping import Bool, Float, Integer

Logits = Float[np.ndarray, "n classes"]
Labels = Integer[np.ndarray, " n"]
Mask = Bool[np.ndarray, " n"]


def log_softmax(logits: Logits) -> Float[np.ndarray, "n classes"]:
    """Log-probabilities in float64; rows that are not finite become nan."""
    wide = np.asarray(logits, np.float64)
    wide = np.where(np.isfinite(wide).all(axis=1, keepdims=True), wide, np.nan)
    shifted = wide - wide.max(axis=1, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def correct(logits: Logits, labels: Labels, mask: Mask | None = None) -> Bool[np.ndarray, " m"]:
    """Which of the images that count are classified right; the first of equal logits wins.

    Raises:
      ValueError: the shapes do not go together or a label is not a class.
    """
    logits, labels = counted(logits, labels, mask)
    if not len(labels):
        return np.zeros(0, bool)
    return np.isfinite(logits).all(axis=1) & (logits.argmax(axis=1) == labels)


def accuracy(logits: Logits, labels: Labels, mask: Mask | None = None) -> float:
    """Share of images that are classified right, in [0, 1]."""
    right = correct(logits, labels, mask)
    return float(right.mean()) if right.size else float("nan")


def balanced_accuracy(logits: Logits, labels: Labels, mask: Mask | None = None) -> float:
    """Mean over the classes that occur of the share of their images that are classified right."""
    right = correct(logits, labels, mask)
    present = counted(logits, labels, mask)[1]
    shares = [right[present == label].mean() for label in np.unique(present)]
    return float(np.mean(shares)) if shares else float("nan")


def nll(logits: Logits, labels: Labels, mask: Mask | None = None) -> float:
    """Mean negative log-likelihood of the labels, in nats (float64)."""
    logits, labels = counted(logits, labels, mask)
    if not len(labels):
        return float("nan")
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def counted(logits: Logits, labels: Labels, mask: Mask | None) -> tuple[Logits, Labels]:
    """The rows that count, checked."""
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"logits {logits.shape} and labels {labels.shape} do not go together")
    if mask is not None:
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != labels.shape:
            raise ValueError(f"the mask must be bool {labels.shape}, got {mask.dtype} {mask.shape}")
        logits, labels = logits[mask], labels[mask]
    if labels.size and not (labels.min() >= 0 and labels.max() < logits.shape[1]):
        raise ValueError(
            f"labels must be in 0..{logits.shape[1] - 1}, got {labels.min()}..{labels.max()}"
        )
    return logits, labels
