"""Distances between data sets, in a space of features that is given (`convtl.measure.space.PixelSpace`).

Everywhere: `x` (n, d) and `y` (m, d), one row an image, computed in float64; the order of rows does not matter.
"""

import functools
import os
import warnings
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Integer

Features = Float[np.ndarray, "n d"]
Labels = Integer[np.ndarray, " n"]

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the RBF kernel, in multiples of the median distance between two images of the pool."""


def mmd2_unbiased(x: Features, y: Features, kernel: Literal["cubic", "rbf"] = "cubic") -> float:
    """Squared maximum mean discrepancy, unbiased: 0 on average where both are draws of one distribution.

    mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j); may be negative.
    Gretton et al. 2012, "A Kernel Two-Sample Test" (lemma 6).

    Args:
      kernel: `cubic` is (x.y / d + 1)^3, the kernel inception distance's (Binkowski et al. 2018,
        "Demystifying MMD GANs"); `rbf` is the mean of exp(-|x - y|^2 / (2 b^2 s^2)) over `BANDWIDTHS` b, with
        s the median distance in the pool of both.

    Raises:
      ValueError: fewer than two rows, or shapes that do not go together.
    """
    x, y = _pair(x, y, least=2)
    pool = np.concatenate([x, y])
    gram = (pool @ pool.T / pool.shape[1] + 1) ** 3 if kernel == "cubic" else _rbf(pool)
    n, m = len(x), len(y)
    own = [
        (part.sum() - np.trace(part)) / (len(part) * (len(part) - 1))
        for part in (gram[:n, :n], gram[n:, n:])
    ]
    return float(own[0] + own[1] - 2 * gram[:n, n:].sum() / (n * m))


def frechet(x: Features, y: Features) -> float:
    """Squared Fréchet (2-Wasserstein) distance between the Gaussians with the samples' moments.

    |mu_x - mu_y|^2 + Tr(S_x + S_y - 2 (S_x^1/2 S_y S_x^1/2)^1/2), covariances with 1 / (n - 1).
    Dowson and Landau 1982; Heusel et al. 2017. With factors S = R'R the trace of the root is the sum of the
    singular values of R_x R_y': no matrix root is taken, so rank-deficient covariances are no trouble.

    Biased upward in the number of rows, by an amount that differs between data sets even at equal n (Chong
    and Forsyth 2020): compare at equal n only, and keep n >= 10 d.

    Raises:
      ValueError: fewer than two rows, or shapes that do not go together.
    """
    x, y = _pair(x, y, least=2)
    first, second = _root(x), _root(y)
    shared = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    spread = np.square(first).sum() + np.square(second).sum() - 2 * shared
    return max(0.0, float(np.square(x.mean(0) - y.mean(0)).sum() + spread))


def otdd(x: Features, x_labels: Labels, y: Features, y_labels: Labels) -> float:
    """Optimal transport data set distance (squared, p = 2): images may move, and so do labels.

    min_pi E_pi[|x - x'|^2 + W2^2(N(mu_l, S_l), N(mu_l', S_l'))] over couplings pi of the two samples; a label
    is its class's Gaussian, so the label sets need not be related and no net is trained. Alvarez-Melis and
    Fusi 2020, "Geometric Dataset Distances via Optimal Transport". Exact transport (network simplex): meant
    for up to about 1,000 images a side. Zero for equal sets; biased upward in the number of images, like
    every plug-in transport cost: compare at equal counts (of images and of classes) only.

    Args:
      x_labels, y_labels: (n,) and (m,) integers; a class with one image is a point.

    Raises:
      ValueError: no rows, or shapes that do not go together.
    """
    x, y = _pair(x, y, least=1)
    x_roots, x_means, x_of = _classes(x, x_labels)
    y_roots, y_means, y_of = _classes(y, y_labels)
    labels = gaussian_w2(x_means, x_roots, y_means, y_roots)
    cost = _squared_distances(x, y) + labels[x_of][:, y_of]
    weights = [np.full(len(rows), 1 / len(rows)) for rows in (x, y)]
    return max(0.0, float(_pot().emd2(*weights, np.ascontiguousarray(cost), numItermax=1_000_000)))


def gaussian_w2(
    x_means: Float[np.ndarray, "a d"],
    x_roots: Float[np.ndarray, "a p d"],
    y_means: Float[np.ndarray, "b d"],
    y_roots: Float[np.ndarray, "b q d"],
) -> Float[np.ndarray, "a b"]:
    """Squared 2-Wasserstein distances between all pairs of Gaussians, their covariances as R'R.

    |mu - mu'|^2 + |R|^2 + |R'|^2 - 2 |R R''|_* (Frobenius and nuclear norms); as in `frechet`.
    """
    shared = np.linalg.svd(
        np.einsum("apd,bqd->abpq", x_roots, y_roots, optimize=True), compute_uv=False
    )
    spread = (
        np.square(x_roots).sum((1, 2))[:, None]
        + np.square(y_roots).sum((1, 2))
        - 2 * shared.sum(-1)
    )
    return np.maximum(_squared_distances(x_means, y_means) + spread, 0)


def _classes(x: Features, labels: Labels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Roots (C, p, d; padded with rows of zeros) and means (C, d) of the classes' Gaussians; class of each row."""
    labels = np.asarray(labels)
    if labels.shape != (len(x),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be {len(x)} integers, got {labels.dtype} {labels.shape}")
    of = np.unique(labels, return_inverse=True)[1]
    groups = [x[of == label] for label in range(int(np.max(of)) + 1)]
    roots = [_root(group) for group in groups]
    rows = max(len(root) for root in roots)
    padded = np.stack([np.pad(root, ((0, rows - len(root)), (0, 0))) for root in roots])
    return padded, np.stack([group.mean(0) for group in groups]), of


def _root(x: Features) -> Float[np.ndarray, "p d"]:
    """R with R'R = covariance of the rows (1 / (n - 1); zeros for a single row), of min(n, d) rows."""
    root = (x - x.mean(0)) / np.sqrt(max(1, len(x) - 1))
    return np.asarray(np.linalg.qr(root, mode="r")) if len(root) > root.shape[1] else root


def _rbf(pool: Features) -> Float[np.ndarray, "n n"]:
    distances = _squared_distances(pool, pool)
    median = np.median(distances[np.triu_indices(len(pool), 1)])
    scale = (
        2 * median if median > 0 else 1.0
    )  # more than half of all pairs are equal: any scale will do
    return np.mean([np.exp(-distances / (scale * b**2)) for b in BANDWIDTHS], axis=0)


def _squared_distances(x: Features, y: Features) -> Float[np.ndarray, "n m"]:
    centre = x.mean(
        0
    )  # before squaring, so that what is subtracted is not far larger than the difference
    x, y = x - centre, y - centre
    products = np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * x @ y.T
    return np.maximum(products, 0)


def _pair(x: Features, y: Features, least: int) -> tuple[Features, Features]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < least:
        raise ValueError(
            f"features must be (n, d) and (m, d) with at least {least} rows, got {x.shape}, {y.shape}"
        )
    return x, y


@functools.cache
def _pot() -> Any:
    """POT, without the tensor libraries that it would load wherever they are installed."""
    for backend in ("JAX", "PYTORCH", "TENSORFLOW", "CUPY"):
        os.environ.setdefault(f"POT_BACKEND_DISABLE_{backend}", "1")
    with warnings.catch_warnings():
        for category in (
            SyntaxWarning,
            DeprecationWarning,
        ):  # of POT's own text, while Python compiles it
            warnings.filterwarnings("ignore", "invalid escape sequence", category)
        import ot

    return ot
