"""Handwritten digits of scikit-learn: 1,797 images of 8x8 pixels, at least 174 a class."""

import numpy as np

from convtl import keys
from convtl.data.split import Split, stratified_parts

VERSION = 1
"""Raised whenever code changes the images or who goes where."""
NAMES = tuple(str(digit) for digit in range(10))
_SHARES: dict[str, float | int] = {"train": 0, "validation": 24, "test": 100}
"""Images a class; train takes the rest (50 to 59)."""


def load_digits(size: int) -> dict[str, Split]:
    """The digits enlarged to `size` x `size`, divided by a draw that is stratified by class."""
    from PIL import Image
    from sklearn import datasets

    raw = datasets.load_digits()
    grey = np.rint(raw.images * (255 / 16)).astype(np.uint8)
    enlarged = [
        Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR) for image in grey
    ]
    images = np.stack([np.asarray(image) for image in enlarged])[..., None]
    labels = raw.target.astype(np.int32)
    parts = stratified_parts(labels, _SHARES, keys.generator(0, "digits", VERSION))
    return {
        name: Split(images[part], labels[part], np.zeros(len(part), np.int32))
        for name, part in parts.items()
    }
