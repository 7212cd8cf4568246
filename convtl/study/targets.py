"""Domains, and the images of one target and replicate as a net takes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from convtl.config.schema import Config
from convtl.config.training import ShiftConfig
from convtl.data.domains import Domain, load_domain
from convtl.data.inputs import MOST_AT_ONCE, LazyRows, Normalisation, normalised
from convtl.data.shift import shifted
from convtl.data.splits import Split
from convtl.data.subsets import TargetDraw, assign_folds, draw_target, relabel
from convtl.keys import generator
from convtl.storage.cache import Cache
from convtl.study.grid import Trial
from convtl.study.learning_rates import FOLDS
from convtl.study.names import normalisation_of
from convtl.training.features import Images


@dataclass(eq=False)
class TargetData:
    """The images of one target and replicate; labels count from 0.

    Training images are ordered so that the subset of n images a class is the first of them. Without a
    `normalisation` each is standardised by itself; `options` are those of `data.subsets.draw_target`.
    """

    domain: Domain
    normalisation: Normalisation | None
    shift: ShiftConfig
    seed: int
    replicate: int
    options: tuple[tuple[str, Any], ...]
    draw: TargetDraw = field(init=False)
    splits: Mapping[str, Split] = field(init=False)

    def __post_init__(self) -> None:
        options = dict(self.options)
        self.draw = draw_target(self.domain, seed=self.seed, replicate=self.replicate, **options)
        self.splits = self.domain.splits(self.seed, self.replicate)
        self._images: dict[str, Float[np.ndarray, "n ..."]] = {}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by label."""
        return tuple(self.domain.class_names[index] for index in self.draw.classes)

    def positions(self, split: str, n_per_class: int | None = None) -> Int[np.ndarray, " n"]:
        """Positions in the domain's split; all training images without `n_per_class`."""
        if split == "train":
            return self.draw.subset(n_per_class or self.draw.train.shape[1])
        return self.draw.validation if split == "validation" else self.draw.test

    def examples(
        self, split: str, n_per_class: int | None = None
    ) -> tuple[Images, Int[np.ndarray, " n"]]:
        """Images (float32, as a net takes them) and labels (int32) at `positions` of a split.

        Big images are made when they are indexed.
        """
        positions, shape = self.positions(split, n_per_class), self.domain.image_shape
        labels = relabel(self.splits[split].labels[positions], self.draw.classes)

        def read(at: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n ..."]:
            return normalised(self.pixels(split, at), self.normalisation)

        if shape[0] * shape[1] > MOST_AT_ONCE:
            return LazyRows(read, positions, shape), labels
        images = self._images.get(split)
        if images is None or len(images) < len(positions):
            images = self._images[split] = read(positions)
        return images[: len(positions)], labels

    def folds(self, n_per_class: int) -> Int[np.ndarray, " n"]:
        """The fold of each labelled image in cross-validation; shared by all arms of a replicate."""
        positions = self.positions("train", n_per_class)
        labels = relabel(self.splits["train"].labels[positions], self.draw.classes)
        return assign_folds(labels, FOLDS, generator(self.seed, "folds", self.replicate))

    def pixels(self, split: str, positions: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n ..."]:
        """Images of the domain's split, shifted as the target is."""
        stream = (self.seed, "shift", self.replicate, split)
        return shifted(self.splits[split], positions, self.shift, stream)


class Targets:
    """Domains and targets, loaded and drawn on demand; each is a pure function of the trial."""

    def __init__(self, cache: Cache, say: Callable[[str], None]) -> None:
        self.cache, self.say = cache, say
        self._targets = lru_cache(64)(TargetData)
        self._load = lru_cache(None)(
            lambda name, config, how: load_domain(name, config, cache.root, say, how)
        )

    def domain(self, settings: Config, name: str) -> Domain:
        return self._load(name, settings.domains[name], settings.data)

    def target_key(self, trial: Trial) -> tuple[Any, ...]:
        """All that a trial's images and labels depend on: the arguments of `TargetData`."""
        settings = trial.settings
        options = (
            ("classes", settings.classes),
            ("n_validation", settings.validation_per_class),
            ("n_test", settings.test_per_class),
            ("disjoint", settings.class_draw == "disjoint"),
            ("ragged", settings.class_balance == "at_most"),
        )
        domain = self.domain(settings, trial.target)
        normalisation = normalisation_of(settings, trial.source)
        return domain, normalisation, settings.shift, settings.seed, trial.replicate, options

    def target_data(self, trial: Trial) -> TargetData:
        return self._targets(*self.target_key(trial))
