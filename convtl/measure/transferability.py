"""Transferability of a source net, from its features of labelled target images.

Everywhere: `features` (n, d), what enters the source net's head; `labels` (n,) integers of the target. Larger is
better. `logme` looks at the very images that it scores, so compare at equal n only. All raise ValueError where shapes
disagree or values are not finite. They must not test claims about similarity: a linear probe *is* about the accuracy
of tuning the head alone.
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

Features = Float[np.ndarray, "n d"]
OneHot = Float[np.ndarray, "n classes"]

_FOLDS = 4  # Of the linear probe's cross-validation.


def logme(features: ArrayLike, labels: ArrayLike) -> float:
    """Log maximum evidence: mean over classes of max_{a, b} log p(y_c | F, a, b) / n.

    Bayesian linear regression of each one-hot column y_c on the features, weights ~ N(0, I / a), noise
    variance 1 / b (You et al. 2021, "LogME: Practical Assessment of Pre-trained Models"). With t = a / b,
    singular values s_j of F and z = U'y, the best b is n / R(t), R = sum_j z_j^2 t / (t + s_j^2) + |y - UU'y|^2,
    and what is left is a maximum over t of n/2 (log(n / R) - 1 - log 2 pi) + 1/2 sum_j log(t / (t + s_j^2)),
    searched on a grid from 1e-12 of the largest s_j^2 and refined: the paper's iteration has the same stationary
    points, but can stop at the wrong one.
    """
    features, target = _checked(features, labels)
    n = len(features)
    u, s, _ = np.linalg.svd(features, full_matrices=False)
    positive = s > s.max(initial=0) * max(features.shape) * np.finfo(float).eps
    variances, projected = np.square(s[positive]), np.square(u[:, positive].T @ target)
    missed = np.maximum(target.sum(0) - projected.sum(0), 0)

    def evidence(log_t: np.ndarray, z2: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """(grid, classes) of log t (grid,), z^2 (values, classes), residuals (classes,)."""
        shrunk = 1 / (1 + variances / np.exp(log_t)[:, None])
        residual = np.maximum(shrunk @ z2 + rest, np.finfo(float).tiny)
        fit = n / 2 * (np.log(n / residual) - 1 - np.log(2 * np.pi))
        log_evidence: np.ndarray = fit + 0.5 * np.log(shrunk).sum(1, keepdims=True)
        return log_evidence

    largest = np.log(variances.max(initial=np.finfo(float).tiny))
    grid = largest + np.log(10) * np.arange(-12, 12.1, 0.25)
    coarse = evidence(grid, projected, missed)
    total = 0.0
    for label, best in enumerate(coarse.argmax(0)):
        z2, rest = projected[:, [label]], missed[[label]]
        around = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        fine = minimize_scalar(
            lambda log_t, z2=z2, rest=rest: -evidence(np.array([log_t]), z2, rest)[0, 0],
            bounds=around,
            method="bounded",
        )
        total += max(coarse[best, label], -float(fine.fun))
    return float(total / target.shape[1] / n)


def knn_accuracy(features: ArrayLike, labels: ArrayLike, k: int = 5) -> float:
    """Leave-one-out accuracy of the k nearest neighbours (Euclidean), in [0, 1].

    Of classes with equally many neighbours the one with the least sum of ranks wins. Takes more than k images.

    >>> knn_accuracy([[0.0], [0.1], [5.0], [5.1]], [0, 0, 1, 1], k=1)
    1.0
    """
    features, target = _checked(features, labels)
    if not 1 <= k < len(features):
        raise ValueError(f"k={k} neighbours of {len(features)} images")
    centred = features - features.mean(0)
    squares = np.square(centred).sum(1)
    distances = squares[:, None] + squares - 2 * centred @ centred.T
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
    weights = 1 - np.arange(k) / (k * k)  # nearer neighbours break ties and nothing else
    votes = np.einsum("nkc,k->nc", target[nearest], weights)
    return float(np.mean(votes.argmax(1) == target.argmax(1)))


def linear_probe_accuracy(features: ArrayLike, labels: ArrayLike) -> float:
    """Cross-validated accuracy of logistic regression, in [0, 1].

    Features are standardised; those that do not vary are left out (0 if none does). Every image is predicted once,
    by a fit without its fold; the i-th image of a class is in fold i mod 4, so folds are stratified and nothing is
    drawn. Alain and Bengio 2016, "Understanding intermediate layers using linear classifier probes". Takes two images
    of each class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    features, target = _checked(features, labels)
    if target.sum(0).min() < 2 or target.shape[1] < 2:
        raise ValueError("a probe takes at least 2 classes and 2 images of each class")
    varying = np.ptp(features, axis=0) > 1e-9 * np.abs(features).max(axis=0, initial=0)
    features = features[:, varying]
    if not features.shape[1]:
        return 0.0
    scaled = (features - features.mean(0)) / features.std(0)
    classes = target.argmax(1)
    fold = ((np.cumsum(target, axis=0) - 1)[np.arange(len(classes)), classes]).astype(int) % _FOLDS
    probe = LogisticRegression(C=1.0, max_iter=1000, tol=1e-3)
    predicted = cross_val_predict(probe, scaled, classes, cv=PredefinedSplit(fold))
    return float(np.mean(predicted == classes))


def _checked(features: ArrayLike, labels: ArrayLike) -> tuple[Features, OneHot]:
    """Features in float64, and labels one-hot over the classes that occur."""
    features, labels = np.asarray(features, np.float64), np.asarray(labels)
    if features.ndim != 2 or not len(features) or not np.isfinite(features).all():
        raise ValueError(f"features must be (n, d), n > 0, all finite; got {features.shape}")
    n = len(features)
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be {n} integers, got {labels.dtype} {labels.shape}")
    return features, np.eye(len(np.unique(labels)))[np.unique(labels, return_inverse=True)[1]]
