"""The images of one target and replicate, as a net takes them."""

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
from jaxtyping import Float, Int, UInt8

from convtl.config.training import ShiftConfig
from convtl.data.batches import batch_indices
from convtl.data.domains import Domain
from convtl.data.inputs import MOST_AT_ONCE, LazyImages, Normalisation, normalised
from convtl.data.shift import keeps_pixels, permute_labels, shifted
from convtl.data.subsets import TargetDraw, relabel, subset_digest
from convtl.keys import generator

Images = Float[np.ndarray, "n ..."] | LazyImages


class TargetData:
    """The images of one target and replicate, normalised for a net; new labels are 0..classes-1.

    Training images are ordered so that the n-per-class subset is the first of them: nested in n.

    Args:
      shift: what is done to every image, and to the labels of training images.
      blend: the domain whose images are blended in, where there is one.
      normalisation: what the source net expects; None standardises each image by itself.
    """

    def __init__(
        self,
        name: str,
        domain: Domain,
        draw: TargetDraw,
        seed: int,
        replicate: int,
        shift: ShiftConfig | None = None,
        blend: Domain | None = None,
        normalisation: Normalisation | None = None,
    ) -> None:
        self.name = name
        self.domain, self.draw, self._seed, self._replicate = domain, draw, seed, replicate
        self._shift, self._blend, self.normalisation = shift or ShiftConfig(), blend, normalisation
        self.classes = len(draw.classes)
        self._train: Images | None = None
        self.held_out: Callable[[str], tuple[Images, np.ndarray]] = lru_cache(maxsize=2)(
            self._held_out
        )

    @property
    def as_stored(self) -> bool:
        """Whether images are those of the domain, the same in every replicate."""
        return keeps_pixels(self._shift)

    def positions(self, split: str, n_per_class: int | None = None) -> Int[np.ndarray, "n"]:
        """Places of the images in the domain's split; of training images all without `n_per_class`."""
        if split == "train":
            return self.draw.subset(n_per_class or self.draw.train.shape[1])
        return self.draw.validation if split == "validation" else self.draw.test

    def train_images(self, n_per_class: int) -> Images:
        """Images of the subset: float32, (n, height, width, channels)."""
        positions = self.positions("train", n_per_class)
        if self._train is None or len(self._train) < len(positions):
            self._train = self._images("train", positions)
        if isinstance(self._train, LazyImages):
            return self._train.first(len(positions))
        return self._train[: len(positions)]

    def _images(self, split: str, positions: Int[np.ndarray, "n"]) -> Images:
        """Normalised images; big ones only when they are asked for."""
        shape = self.domain.image_shape
        if shape[0] * shape[1] > MOST_AT_ONCE:
            return LazyImages(partial(self.pixels, split), positions, shape, self.normalisation)
        return normalised(self.pixels(split, positions), self.normalisation)

    def pixels(self, split: str, chosen: Int[np.ndarray, "n"]) -> UInt8[np.ndarray, "n ..."]:
        """Images of the domain's split, shifted as the target is."""
        blend = self._blend.split(split) if self._blend else None
        stream = (self._seed, "shift", self._replicate, split)
        return shifted(self.domain.split(split), chosen, self._shift, blend, stream)

    def train_labels(self, n_per_class: int) -> Int[np.ndarray, "n"]:
        labels = self.draw.subset_labels(n_per_class)
        rng = generator(self._seed, "permuted-labels", self._replicate, n_per_class)
        return permute_labels(labels, self._shift.permuted_labels, rng)

    def batch_positions(
        self, n: int, batch_size: int, first: int, stop: int
    ) -> Int[np.ndarray, "updates batch"]:
        """The order of images; shared by all arms of a replicate with n images."""
        return batch_indices(self._seed, ("order", self._replicate), n, batch_size, first, stop)

    def _held_out(self, split: str) -> tuple[Images, Int[np.ndarray, "n"]]:
        """Images and labels of this replicate's validation or test draw."""
        chosen = self.positions(split)
        pool = self.domain.split(split)
        return self._images(split, chosen), relabel(pool.labels[chosen], self.draw.classes)

    def subset_digest(self, n_per_class: int) -> str:
        return subset_digest(self.domain.split("train"), self.draw.subset(n_per_class))
