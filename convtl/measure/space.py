"""A space to compare data sets in that no net and no data set has had a hand in."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SIDE = 28
"""Pixels on a side at which every image is described, whatever its own size."""


@dataclass(frozen=True)
class PixelSpace:
    """A fixed description of images: coarse pixels, and how edges are directed where.

    Distances that test a hypothesis about sources must not depend on the source nets, nor on which other
    domains a study happens to hold, so nothing is fitted (a PCA of pooled images would be). Each image is
    averaged over channels and areas to 28x28, then described by

    - its means over `pixels` x `pixels` equal areas: where ink or light is, with the pixel noise averaged out;
    - a histogram of oriented gradients (Dalal and Triggs 2005, "Histograms of Oriented Gradients for Human
      Detection"): `cells` x `cells` cells, `orientations` unsigned directions, the whole image as one block.

    Either part is scaled to squared norm = its number of features, so they weigh by their sizes, contrast and
    polarity of an image hardly matter (edges are unsigned), all images lie on a sphere with x.x / d = 1, and
    KID's kernel is at most 8. A part of a constant image is zeros.

    Attributes:
      pixels: areas on a side.
      cells: cells on a side; a divisor of 28.
      orientations: directions of edges, in [0, 180) degrees.
    """

    pixels: int = 7
    cells: int = 4
    orientations: int = 8

    def __post_init__(self) -> None:
        if self.pixels < 1 or self.orientations < 1 or self.cells < 1 or SIDE % self.cells:
            raise ValueError(f"{self}: sizes must be at least 1, and cells a divisor of {SIDE}")

    @property
    def features(self) -> int:
        """Number of features d."""
        return self.pixels**2 + self.cells**2 * self.orientations

    def __call__(
        self, images: Float[np.ndarray, "n height width channels"]
    ) -> Float[np.ndarray, "n d"]:
        """Features of standardised images (`convtl.data.inputs.standardise`), float64.

        Raises:
          ValueError: the images are no batch (n, height, width, channels).
        """
        images = np.asarray(images)
        if images.ndim != 4:
            raise ValueError(f"images must be (n, height, width, channels), got {images.shape}")
        grey = _averaged(images.mean(axis=-1, dtype=np.float64), SIDE)
        coarse = _averaged(grey, self.pixels).reshape(len(grey), self.pixels**2)
        edges = oriented_gradients(grey, self.cells, self.orientations)
        return np.concatenate([_on_sphere(coarse), _on_sphere(edges)], axis=1)


def oriented_gradients(
    images: Float[np.ndarray, "n side side"], cells: int, orientations: int
) -> Float[np.ndarray, "n d"]:
    """Mean gradient magnitude by cell and unsigned direction, d = cells^2 * orientations, not normalised.

    What `skimage.feature.hog` gives for one block of all cells before it normalises, for a whole batch at once
    (an image at a time would take half of the time that all estimators take). Central differences, zero at
    the border; a pixel votes for one direction, with its magnitude.
    """
    count, side, _ = images.shape
    down, across = np.zeros_like(images), np.zeros_like(images)
    down[:, 1:-1] = images[:, 2:] - images[:, :-2]
    across[:, :, 1:-1] = images[:, :, 2:] - images[:, :, :-2]
    angle = np.rad2deg(np.arctan2(down, across)) % 180
    direction = np.minimum((angle * (orientations / 180)).astype(np.intp), orientations - 1)
    cell = np.arange(side) // (side // cells)
    place = (np.arange(count)[:, None, None] * cells + cell[:, None]) * cells + cell
    votes = np.bincount(
        (place * orientations + direction).ravel(),
        weights=np.hypot(down, across).ravel(),
        minlength=count * cells**2 * orientations,
    )
    return votes.reshape(count, cells**2 * orientations) / (side // cells) ** 2


def _averaged(
    images: Float[np.ndarray, "n height width"], side: int
) -> Float[np.ndarray, "n side side"]:
    """Means over side x side equal areas; pixels that straddle a border count by their share."""
    return np.einsum(
        "ih,nhw,jw->nij",
        _shares(images.shape[1], side),
        images,
        _shares(images.shape[2], side),
        optimize=True,
    )


def _shares(size: int, side: int) -> Float[np.ndarray, "side size"]:
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
    flat = (
        norm < 1e-6
    )  # of standardised pixels: far below what a single grey level in one pixel gives
    return np.where(flat, 0, features / np.where(flat, 1, norm)) * np.sqrt(features.shape[1])
