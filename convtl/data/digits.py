"""Kind `digits`: handwritten digits of scikit-learn, 1,797 images of 8x8 pixels, at least 174 a class."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convtl import keys
from convtl.config.domains import DigitsConfig
from convtl.config.roles import dump
from convtl.data.splits import Domain, Store, save_split, stratified_parts

VERSION = 1
"""Raised whenever code changes the images or who goes where."""
_SHARES = {"train": 0, "validation": 24, "test": 100}
"""Images a class; train takes the rest (50 to 59)."""


def identity(config: DigitsConfig) -> dict[str, Any]:
    """Return all that determines the images."""
    return {**dump(config), "version": VERSION}


def load(config: DigitsConfig, store: Store) -> Domain:
    """Return the digits, enlarged, in splits that are stratified by class."""

    def build(folder: Path) -> None:
        from sklearn import datasets

        raw, extent = datasets.load_digits(), (config.size, config.size)
        small = (np.rint(image * (255 / 16)).astype(np.uint8) for image in raw.images)
        large = [
            Image.fromarray(image).resize(extent, Image.Resampling.BILINEAR) for image in small
        ]
        images, labels = np.stack([np.asarray(image)[..., None] for image in large]), raw.target
        parts = stratified_parts(labels, _SHARES, keys.generator(0, "digits", VERSION))
        for split, part in parts.items():
            save_split(folder, split, images[part], (*extent, 1), labels[part])

    return store.decoded(tuple("0123456789"), build)
