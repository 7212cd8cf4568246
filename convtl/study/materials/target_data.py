"""The images of one target and replicate, as a net takes them."""

from collections.abc import Hashable

import numpy as np
from jaxtyping import Float, Int, UInt8

from convtl.config.schema import Config
from convtl.data.domains import Domain
from convtl.data.inputs import MOST_AT_ONCE, LazyRows, Normalisation, batch_indices, normalised
from convtl.data.shift import keeps_pixels, shifted
from convtl.data.subsets import draw_target, relabel, subset_digest

Images = Float[np.ndarray, "n ..."] | LazyRows


class TargetData:
    """The images of one target and replicate; labels count from 0.

    Training images are ordered so that the subset of n images a class is the first of them.

    Args:
      key: of all that the images and labels depend on.
      settings: of the study: seed, number of classes and images, shift.
      normalisation: what the source net expects; None standardises each image by itself.
    """

    def __init__(
        self,
        key: Hashable,
        settings: Config,
        replicate: int,
        domain: Domain,
        normalisation: Normalisation | None,
    ) -> None:
        self.key, self.domain, self.normalisation = key, domain, normalisation
        self._seed, self._replicate = settings.seed, replicate
        self._shift = settings.shift
        self.draw = draw_target(
            domain,
            seed=settings.seed,
            replicate=replicate,
            classes=settings.classes,
            n_validation=settings.validation_per_class,
            n_test=settings.test_per_class,
            disjoint=settings.class_draw == "disjoint",
            ragged=settings.class_balance == "at_most",
        )
        self._images: dict[str, Images] = {}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by label."""
        return tuple(self.domain.class_names[index] for index in self.draw.classes)

    @property
    def as_stored(self) -> bool:
        """Whether images are those of the domain, the same in every replicate."""
        return keeps_pixels(self._shift)

    def positions(self, split: str, n_per_class: int | None = None) -> Int[np.ndarray, "n"]:
        """Positions in the domain's split; all training images without `n_per_class`."""
        if split == "train":
            return self.draw.subset(n_per_class or self.draw.train.shape[1])
        return self.draw.validation if split == "validation" else self.draw.test

    def train_images(self, n_per_class: int) -> Images:
        """Images of the subset: float32, (n, height, width, channels)."""
        positions = self.positions("train", n_per_class)
        images = self._images.get("train")
        if images is None or len(images) < len(positions):
            images = self._images["train"] = self._normalised("train", positions)
        if isinstance(images, LazyRows):
            return images.first(len(positions))
        return images[: len(positions)]

    def train_labels(self, n_per_class: int) -> Int[np.ndarray, "n"]:
        return self.draw.subset_labels(n_per_class)

    def held_out(self, split: str) -> tuple[Images, Int[np.ndarray, "n"]]:
        """Images and labels of this replicate's validation or test draw."""
        positions = self.positions(split)
        if split not in self._images:
            self._images[split] = self._normalised(split, positions)
        labels = self.domain.split(split).labels[positions]
        return self._images[split], relabel(labels, self.draw.classes)

    def _normalised(self, split: str, positions: Int[np.ndarray, "n"]) -> Images:
        """Normalised images; big ones are made when they are indexed."""
        shape = self.domain.image_shape

        def read(positions: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n ..."]:
            return normalised(self.pixels(split, positions), self.normalisation)

        big = shape[0] * shape[1] > MOST_AT_ONCE
        return LazyRows(read, positions, shape) if big else read(positions)

    def pixels(self, split: str, positions: Int[np.ndarray, "n"]) -> UInt8[np.ndarray, "n ..."]:
        """Images of the domain's split, shifted as the target is."""
        stream = (self._seed, "shift", self._replicate, split)
        return shifted(self.domain.split(split), positions, self._shift, stream)

    def batch_positions(
        self, n: int, batch_size: int, first: int, stop: int
    ) -> Int[np.ndarray, "updates batch"]:
        """Order of images; shared by all arms of a replicate with n images."""
        return batch_indices(self._seed, ("order", self._replicate), n, batch_size, first, stop)

    def subset_digest(self, n_per_class: int) -> str:
        return subset_digest(self.domain.split("train"), self.draw.subset(n_per_class))
