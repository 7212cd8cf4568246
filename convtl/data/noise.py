"""Kind `noise`: random fields without letter, object or edge, in classes that a net can learn.

A class is a spectrum: amplitudes that fall as 1/f, as in photographs (Field 1987), with a bump at one
wavelength and orientation on top. An image is a stationary Gaussian field of that spectrum: all phases are
random. White noise is added, calibrated so that the classes are as hard to learn as letters (`NoiseConfig`).

Every (class, split) has streams of its own, read in the order of the images.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from convtl import keys
from convtl.config.domains import NoiseConfig
from convtl.config.roles import content
from convtl.data.splits import Domain, Drawn, Store

VERSION = 1
"""Raised whenever code changes the pixels."""
CLASSES = {
    f"{wavelength:g} px, {angle}°": (wavelength, angle)
    for wavelength in (14.0, 9.0, 6.0, 4.0)
    for angle in (0, 30, 60, 90, 120, 150)
}
"""Class name -> wavelength (pixels) and direction (degrees) of its bump."""

_BUMP_SHARE = 0.6
"""Share of the bump in a field's variance; the rest is the 1/f background."""
_BUMP_WIDTH = 0.25
"""Standard deviation of a bump's power in the plane of frequencies, relative to its own frequency."""
_MARGIN = 2
"""A field is periodic on a square of this many times the image's side, of which a corner is cut out."""
_GREY, _CONTRAST = 0.5, 0.15
"""Mean and standard deviation of the images, in grey levels of 0 to 1: hardly anything is clipped."""


def identity(config: NoiseConfig) -> dict[str, Any]:
    """Return all that determines the images."""
    return {**content(config), "classes": list(CLASSES), "version": VERSION}


def load(config: NoiseConfig, store: Store) -> Domain:
    """Return the domain; image i of a class does not depend on how many are drawn."""
    names = tuple(CLASSES)

    def draw(index: int, split: str, count: int) -> Drawn:
        spectrum = amplitude(config.size, *CLASSES[names[index]])
        rng = keys.generator(0, "noise", VERSION, names[index], split)
        return _fields(spectrum, config.size, config.noise, count, rng), np.zeros(count, np.int32)

    return store.synthetic(config, names, draw)


def amplitude(size: int, wavelength: float, angle: float) -> Float[np.ndarray, "rows half"]:
    """Return the filter that turns white noise into a field of variance 1.

    It has the layout of `numpy.fft.rfft2`, of a square `_MARGIN` times as wide and high as the images.
    """
    side = _MARGIN * size
    y, x = np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij")
    radius = np.hypot(x, y)
    radius[0, 0] = np.inf  # the mean has no part in it
    background = radius**-2.0
    peak = 1 / wavelength
    middle = peak * np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])
    spread = 2 * (_BUMP_WIDTH * peak) ** 2
    # A real field's power is the same at opposite frequencies.
    bump = sum(
        np.exp(-((x - sign * middle[0]) ** 2 + (y - sign * middle[1]) ** 2) / spread)
        for sign in (-1, 1)
    ) * np.isfinite(radius)
    power = (1 - _BUMP_SHARE) * background / _variance(background, side)
    power += _BUMP_SHARE * bump / _variance(bump, side)
    return np.sqrt(power)


def _variance(power: Float[np.ndarray, "rows half"], side: int) -> float:
    """Return the variance of white noise of variance 1 filtered to this power."""
    twice = np.full(side // 2 + 1, 2.0)  # columns that stand for their mirror images too
    twice[[0, -1]] = 1
    return float((power * twice).sum() / side**2)


def _fields(
    spectrum: Float[np.ndarray, "rows half"],
    size: int,
    noise: float,
    count: int,
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "count size size"]:
    """Return `count` images of one spectrum; `noise` in standard deviations of the field."""
    waves, disturbing = rng.spawn(2)
    side = len(spectrum)
    white = waves.standard_normal((count, side, side), dtype=np.float32)
    fields = np.fft.irfft2(np.fft.rfft2(white) * spectrum, s=(side, side))[:, :size, :size]
    fields = fields + noise * disturbing.standard_normal(fields.shape, dtype=np.float32)
    grey = _GREY + _CONTRAST / np.hypot(1, noise) * fields
    return np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8)
