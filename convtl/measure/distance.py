"""Distances between data sets, in a space that depends on no net and no data set: `pixel_space`.

Of distances: `x` (n, d) and `y` (m, d), one row an image, computed in float64; the order of rows does not matter. All
raise ValueError where shapes disagree or rows are too few.
"""

import functools
import os
import warnings
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from numpy.typing import ArrayLike

Features = Float[np.ndarray, "n d"]
SIDE = 28  # Pixels on a side at which every image is described, whatever its size.
PIXELS, CELLS, ORIENTATIONS = 7, 4, 8
"""Areas of grey and cells of edges on a side; directions of edges in [0, 180) degrees."""


def mmd2_unbiased(x: ArrayLike, y: ArrayLike) -> float:
    """Squared maximum mean discrepancy, unbiased: 0 on average for two draws of one distribution.

    mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j); may be negative.
    Gretton et al. 2012, "A Kernel Two-Sample Test" (lemma 6). The kernel is the kernel inception distance's,
    (x.y / d + 1)^3 (Binkowski et al. 2018, "Demystifying MMD GANs"). At least two rows each.

    >>> mmd2_unbiased([[0.0], [2.0]], [[0.0], [2.0]])
    -62.0
    """
    x, y = _pair(x, y, least=2)
    pool = np.concatenate([x, y])
    gram = (pool @ pool.T / pool.shape[1] + 1) ** 3
    n, m = len(x), len(y)
    within = [
        (part.sum() - np.trace(part)) / (len(part) * (len(part) - 1))
        for part in (gram[:n, :n], gram[n:, n:])
    ]
    return float(within[0] + within[1] - 2 * gram[:n, n:].sum() / (n * m))


def otdd(x: ArrayLike, x_labels: ArrayLike, y: ArrayLike, y_labels: ArrayLike) -> float:
    """Optimal transport data set distance (squared, p = 2), which moves images with their labels.

    min_pi E_pi[|x - x'|^2 + W2^2(N(mu_l, S_l), N(mu_l', S_l'))] over couplings pi of the two samples; a label
    is its class's Gaussian, so the label sets need not be related and no net is trained. Alvarez-Melis and
    Fusi 2020, "Geometric Dataset Distances via Optimal Transport". Exact transport (network simplex): meant
    for up to about 1,000 images a side. Zero for equal sets; biased upward in the number of images and of
    classes: compare at equal counts only. Labels are (n,) and (m,) integers; a class with one image is a point.
    """
    x, y = _pair(x, y, least=1)
    x_roots, x_means, x_class = _classes(x, np.asarray(x_labels))
    y_roots, y_means, y_class = _classes(y, np.asarray(y_labels))
    labels = gaussian_w2(x_means, x_roots, y_means, y_roots)
    cost = _squared_distances(x, y) + labels[x_class][:, y_class]
    weights = [np.full(len(rows), 1 / len(rows)) for rows in (x, y)]
    return max(0.0, float(_pot().emd2(*weights, np.ascontiguousarray(cost), numItermax=1_000_000)))


def gaussian_w2(
    x_means: Float[np.ndarray, "a d"],
    x_roots: Float[np.ndarray, "a p d"],
    y_means: Float[np.ndarray, "b d"],
    y_roots: Float[np.ndarray, "b q d"],
) -> Float[np.ndarray, "a b"]:
    """Squared 2-Wasserstein distances between all pairs of Gaussians with covariances R'R.

    |mu - mu'|^2 + |R|^2 + |S|^2 - 2 |R S'|_* with roots R, S (Frobenius and nuclear norms): the trace of the root
    of S_x^1/2 S_y S_x^1/2 is the sum of the singular values of R S', so no matrix root is taken and
    rank-deficient covariances are no trouble (Dowson and Landau 1982).
    """
    products = np.einsum("apd,bqd->abpq", x_roots, y_roots, optimize=True)
    shared = np.linalg.svd(products, compute_uv=False)
    spread = np.square(x_roots).sum((1, 2))[:, None] + np.square(y_roots).sum((1, 2))
    return np.maximum(_squared_distances(x_means, y_means) + (spread - 2 * shared.sum(-1)), 0)


def _classes(
    x: Features, labels: np.ndarray
) -> tuple[
    Float[np.ndarray, "classes p d"], Float[np.ndarray, "classes d"], Integer[np.ndarray, " n"]
]:
    """Roots (padded with rows of zeros) and means of the classes' Gaussians; class of each row."""
    if labels.shape != (len(x),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be {len(x)} integers, got {labels.dtype} {labels.shape}")
    classes = np.unique(labels, return_inverse=True)[1]
    groups = [x[classes == label] for label in range(int(np.max(classes)) + 1)]
    roots = [_root(group) for group in groups]
    rows = max(len(root) for root in roots)
    padded = np.stack([np.pad(root, ((0, rows - len(root)), (0, 0))) for root in roots])
    return padded, np.stack([group.mean(0) for group in groups]), classes


def _root(x: Features) -> Float[np.ndarray, "p d"]:
    """R with R'R = covariance of the rows (1 / (n - 1); zeros for a single row), of min(n, d) rows."""
    root = (x - x.mean(0)) / np.sqrt(max(1, len(x) - 1))
    return np.asarray(np.linalg.qr(root, mode="r")) if len(root) > root.shape[1] else root


def _squared_distances(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "n m"]:
    centre = x.mean(0)  # subtracted first, so that squares are not far larger than the difference
    x, y = x - centre, y - centre
    products = np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * x @ y.T
    return np.maximum(products, 0)


def _pair(
    x: ArrayLike, y: ArrayLike, least: int
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "m d"]]:
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
    with warnings.catch_warnings():  # about POT's own text, while Python compiles it
        warnings.filterwarnings("ignore", "invalid escape sequence")
        import ot

    return ot


# --- the space -----------------------------------------------------------------------------


def pixel_space(images: ArrayLike) -> Float[np.ndarray, "n d"]:
    """Coarse pixels and directions of edges by place: 177 features, float64.

    Nothing is fitted: distances that test a hypothesis about sources must not depend on source nets or on other
    domains. Each image is averaged over channels and areas to 28x28, then described by its means over areas and
    by a histogram of oriented gradients (Dalal and Triggs 2005, "Histograms of Oriented Gradients for Human
    Detection"; one block). Either part is scaled to squared norm = its number of features, so contrast and
    polarity hardly matter, and x.x / d = 1. A part of a constant image is zeros.

    Args:
      images: standardised, (n, height, width, channels).

    Raises:
      ValueError: the images are no such batch.
    """
    batch = np.asarray(images)
    if batch.ndim != 4:
        raise ValueError(f"images must be (n, height, width, channels), got {batch.shape}")
    grey = _averaged(batch.mean(axis=-1, dtype=np.float64), SIDE)
    coarse = _averaged(grey, PIXELS).reshape(len(grey), PIXELS**2)
    return np.concatenate([_on_sphere(coarse), _on_sphere(oriented_gradients(grey))], axis=1)


def oriented_gradients(images: Float[np.ndarray, "n 28 28"]) -> Float[np.ndarray, "n d"]:
    """Mean gradient magnitude by cell and unsigned direction.

    `skimage.feature.hog` for one block of all cells before it normalises, for a whole batch at once. Central
    differences, zero at the border; a pixel votes for one direction, with its magnitude.
    """
    down, across = np.zeros_like(images), np.zeros_like(images)
    down[:, 1:-1] = images[:, 2:] - images[:, :-2]
    across[:, :, 1:-1] = images[:, :, 2:] - images[:, :, :-2]
    angle = np.rad2deg(np.arctan2(down, across)) % 180
    direction = np.minimum((angle * (ORIENTATIONS / 180)).astype(np.intp), ORIENTATIONS - 1)
    cell = np.arange(SIDE) // (SIDE // CELLS)
    place = (np.arange(len(images))[:, None, None] * CELLS + cell[:, None]) * CELLS + cell
    bins, features = (place * ORIENTATIONS + direction).ravel(), CELLS**2 * ORIENTATIONS
    magnitudes = np.hypot(down, across).ravel()
    votes = np.bincount(bins, weights=magnitudes, minlength=len(images) * features)
    return votes.reshape(len(images), features) / (SIDE // CELLS) ** 2


def _averaged(
    images: Float[np.ndarray, "n height width"], side: int
) -> Float[np.ndarray, "n {side} {side}"]:
    """Means over side x side equal areas; pixels that straddle a border count by their share."""
    down, across = (_shares(size, side) for size in images.shape[1:])
    return np.einsum("ih,nhw,jw->nij", down, images, across, optimize=True)


def _shares(size: int, side: int) -> Float[np.ndarray, "{side} {size}"]:
    """Share of each of `size` pixels in each of `side` equal intervals; rows sum to 1."""
    if size == side:
        return np.eye(side)
    pixels, intervals = np.linspace(0, 1, size + 1), np.linspace(0, 1, side + 1)
    ends = np.minimum(intervals[1:, None], pixels[None, 1:])
    starts = np.maximum(intervals[:-1, None], pixels[None, :-1])
    return np.maximum(ends - starts, 0) * side


def _on_sphere(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows scaled to norm sqrt(d); rows of (about) zeros become zeros."""
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    flat = norm < 1e-6  # far below a single grey level in one pixel of a standardised image
    return np.where(flat, 0, features / np.where(flat, 1, norm)) * np.sqrt(features.shape[1])
