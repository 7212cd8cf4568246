"""One split of a domain, and the drawing of splits where a data set brings none."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int32, Int64, UInt8

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images, in a fixed order."""

    images: UInt8[np.ndarray, "n height width channels"]
    labels: Int32[np.ndarray, " n"]
    """index into the domain's class names"""
    strata: Int32[np.ndarray, " n"]
    """face or sub-region that an image was made from; 0 where there is none"""

    def smallest_class(self, classes: int) -> int:
        """Smallest number of images of any of the domain's classes."""
        return int(np.min(np.bincount(self.labels, minlength=classes)))


def in_channels(splits: Mapping[str, Split], channels: int) -> dict[str, Split]:
    """Grey images as so many equal channels; views, so that no memory is taken."""
    if channels == 1:
        return dict(splits)
    return {
        name: replace(
            split, images=np.broadcast_to(split.images, (*split.images.shape[:-1], channels))
        )
        for name, split in splits.items()
    }


def stratified_parts(
    labels: Int32[np.ndarray, " n"],
    shares: dict[str, float | int],
    rng: np.random.Generator,
    twins: Int64[np.ndarray, " n"] | None = None,
) -> dict[str, np.ndarray]:
    """Divides examples into named parts, class by class.

    Args:
      labels: class of each example.
      shares: part -> its number of images a class (int) or its share of each class (float, rounded, at
        least 1). The first part takes what the others leave, so its own value is not read.
      rng: draws who goes where.
      twins: for each example the first one that it must not be parted from, itself where there is none; shares
        are then of these first ones. None parts any two.

    Returns:
      Part -> sorted int64 indices into the examples; the parts are disjoint and cover all.
    """
    if twins is not None:
        firsts = np.flatnonzero(twins == np.arange(len(labels)))
        drawn = stratified_parts(labels[firsts], shares, rng)
        return {name: np.flatnonzero(np.isin(twins, firsts[part])) for name, part in drawn.items()}
    parts: dict[str, list[np.ndarray]] = {name: [np.empty(0, np.int64)] for name in shares}
    first, *others = shares
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        for name in others:
            share = shares[name]
            count = (
                share if isinstance(share, int) else max(1, round(share * np.sum(labels == label)))
            )
            parts[name].append(members[:count])
            members = members[count:]
        parts[first].append(members)
    return {name: np.sort(np.concatenate(found)).astype(np.int64) for name, found in parts.items()}
