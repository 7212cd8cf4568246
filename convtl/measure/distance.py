"""Distance between two data sets, in a fixed space of features (`pixel_space`)."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

Features = Float[np.ndarray, "n d"]
SIDE = 28  # Pixels on a side at which every image is described, whatever its size.
PIXELS, CELLS, ORIENTATIONS = 7, 4, 8
"""Areas of grey and cells of edges on a side; directions of edges in [0, 180) degrees."""


def mmd2_unbiased(x: ArrayLike, y: ArrayLike) -> float:
    """Squared maximum mean discrepancy, unbiased: mean 0 for equal distributions.

    mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j); may be negative.
    Gretton et al. 2012, "A Kernel Two-Sample Test" (lemma 6). The kernel is the kernel inception distance's,
    (x.y / d + 1)^3 (Binkowski et al. 2018, "Demystifying MMD GANs").

    Args:
      x, y: (n, d) and (m, d), one row an image, at least two each; computed in float64.

    Raises:
      ValueError: shapes disagree or rows are too few.

    >>> mmd2_unbiased([[0.0], [2.0]], [[0.0], [2.0]])
    -62.0
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(
            f"features must be (n, d) and (m, d) with at least 2 rows, got {x.shape}, {y.shape}"
        )
    pool = np.concatenate([x, y])
    gram = (pool @ pool.T / pool.shape[1] + 1) ** 3
    n, m = len(x), len(y)
    within = [
        (part.sum() - np.trace(part)) / (len(part) * (len(part) - 1))
        for part in (gram[:n, :n], gram[n:, n:])
    ]
    return float(within[0] + within[1] - 2 * gram[:n, n:].sum() / (n * m))


# --- the space -----------------------------------------------------------------------------


def pixel_space(images: ArrayLike) -> Float[np.ndarray, "n d"]:
    """Coarse pixels and directions of edges of standardised images: 177 features.

    Nothing is fitted: distances that test a hypothesis about sources must not depend on source nets or on other
    domains. Images (n, height, width, channels) are averaged over channels and areas to 28x28, then described by
    means over areas and by a histogram of oriented gradients (Dalal and Triggs 2005, "Histograms of Oriented
    Gradients for Human Detection"; one block). Either part is scaled to squared norm = its number of features, so
    that x.x / d = 1; of a constant image it is zeros.
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
    votes: np.ndarray = np.bincount(bins, weights=magnitudes, minlength=len(images) * features)
    return votes.reshape(len(images), features) / (SIDE // CELLS) ** 2


def _averaged(
    images: Float[np.ndarray, "n height width"], side: int
) -> Float[np.ndarray, "n {side} {side}"]:
    """Means over side x side equal areas; border pixels count by their share."""
    down, across = (_shares(size, side) for size in images.shape[1:])
    means: np.ndarray = np.einsum("ih,nhw,jw->nij", down, images, across, optimize=True)
    return means


def _shares(size: int, side: int) -> Float[np.ndarray, "{side} {size}"]:
    """Share of each of `size` pixels in each of `side` equal intervals; rows sum to 1."""
    if size == side:
        return np.eye(side)
    pixels, intervals = np.linspace(0, 1, size + 1), np.linspace(0, 1, side + 1)
    ends = np.minimum(intervals[1:, None], pixels[None, 1:])
    starts = np.maximum(intervals[:-1, None], pixels[None, :-1])
    shares: np.ndarray = np.maximum(ends - starts, 0) * side
    return shares


def _on_sphere(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows scaled to norm sqrt(d); rows of (about) zeros become zeros."""
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    flat = norm < 1e-6  # far below a single grey level in one pixel of a standardised image
    length = np.sqrt(features.shape[1])
    scaled: np.ndarray = np.where(flat, 0, features / np.where(flat, 1, norm)) * length
    return scaled
