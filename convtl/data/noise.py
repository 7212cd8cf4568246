"""Kind `noise`: random fields without letter, object or edge, in classes that a net can learn.

A class is a spectrum: a bump at one wavelength and orientation. An image is a stationary Gaussian field of that
spectrum: all phases are random. Jitter, contrast and white noise are those of letters (`data/made.py`). How wide the
bumps are and how far apart was set on development draws (`seed=1`), so that source nets know their own classes as well
as those of letters do: 88 %, Latin 88 %, other Cyrillic letters 87 %.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from convtl.config.domains import NoiseConfig
from convtl.config.roles import content
from convtl.data import made
from convtl.data.splits import Domain, Store

VERSION = 2
"""Raised whenever code changes the pixels."""
CLASSES = {
    f"{wavelength:g} px, {angle}°": (wavelength, angle)
    for wavelength in (12.0, 6.5, 3.5)
    for angle in (0, 36, 72, 108, 144)
}
"""Class name -> wavelength (pixels) and direction (degrees) of its bump."""

_BUMP_WIDTH = 0.12
"""Standard deviation of a bump's power in the plane of frequencies, relative to its own frequency."""
_MARGIN = 2
"""A field is periodic on a square of this many times the image's side."""


def identity(config: NoiseConfig) -> dict[str, Any]:
    """Return all that determines the images."""
    return {**content(config), "classes": list(CLASSES), "version": [VERSION, made.VERSION]}


def load(config: NoiseConfig, store: Store) -> Domain:
    """Return the domain."""
    return made.load(store, config, _Fields())


class _Fields:
    """Every picture is a field of its own."""

    names = tuple(CLASSES)

    def variants(self, name: str, split: str) -> int:
        return 1

    def ink(self, batch: made.Batch) -> made.Ink:
        spectrum = amplitude(batch.size, *CLASSES[batch.name])
        shape = (len(batch.variants), len(spectrum), len(spectrum))
        white = batch.rng.standard_normal(shape, dtype=np.float32)
        fields = np.fft.irfft2(np.fft.rfft2(white) * spectrum, s=shape[1:])
        return made.contrasted(batch.placement.read_each(fields, batch.size, mode="grid-wrap"))


def amplitude(size: int, wavelength: float, angle: float) -> Float[np.ndarray, "rows half"]:
    """Return the filter that turns white noise into a field of variance 1.

    It has the layout of `numpy.fft.rfft2`, of a square `_MARGIN` times as wide and high as the images.
    """
    side = _MARGIN * size
    y, x = np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij")
    peak = 1 / wavelength
    middle = peak * np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])
    spread = 2 * (_BUMP_WIDTH * peak) ** 2
    # A real field's power is the same at opposite frequencies.
    power = sum(
        np.exp(-((x - sign * middle[0]) ** 2 + (y - sign * middle[1]) ** 2) / spread)
        for sign in (-1, 1)
    )
    power[0, 0] = 0  # the mean has no part in it
    twice = np.full(side // 2 + 1, 2.0)  # columns that stand for their mirror images too
    twice[[0, -1]] = 1
    return np.sqrt(power * side**2 / (power * twice).sum())
