"""Kinds `patches`, `digits` and `noise`, made on demand without downloads.

A class of patches is one of scikit-image's photographs, grey, its short side at most 512 pixels: texture without
objects, letters or drawings. A photograph is divided into cells, a patch apart, each of one split; a patch, however it
is turned, stays in its cell. Patches with hardly any contrast are redrawn: scaled to the contrast of letters, they
would be amplified compression noise.

Digits are the 1,797 handwritten ones of scikit-learn, 8x8 pixels, drawn as large as a tall letter. Splits are fixed;
the choice of digits, jitter and noise are a replicate's own.

A class of noise is a bump in the spectrum at one wavelength and orientation, an image a stationary Gaussian field of
that spectrum. Width and distance of bumps were set on development draws (`seed=1`) so that source nets know their
own classes as well as nets of letters do: 86 % (4 nets), Latin 87 %, other Cyrillic letters 85 %.
"""

import functools
import itertools
from importlib import resources
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from PIL import Image

from convtl import keys
from convtl.config.domains import DigitsConfig, NoiseConfig, PatchesConfig
from convtl.config.values import content, dump
from convtl.data import made
from convtl.data.splits import SPLITS, Domain, Indices, Store, stratified_parts
from convtl.errors import UserError

VERSION = 2
"""Raised when code changes the pixels or their splits."""
_JPEG = ("hubble_deep_field", "retina", "rocket")
_NAMES = "astronaut brick camera cell chelsea coffee coins grass gravel hubble_deep_field ihc moon retina rocket"
PHOTOGRAPHS = {name: f"{name}.{'jpg' if name in _JPEG else 'png'}" for name in _NAMES.split()}
"""Class name -> file in scikit-image's data folder."""

_PATTERN = ("train", "validation", "train", "test", "test")
"""Split of the cell in row i and column j: number (2 i + j) modulo 5, so that neighbours differ."""
_PATCHES_ALONG = 8
"""Patches along a side that has room for three cells and the gaps between them."""
_CONTRAST = 4.0
"""Smallest standard deviation of a patch, in grey levels (of 255)."""
_DIGITS = 174
"""Digits in the smallest class."""
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


def identity(config: PatchesConfig | DigitsConfig | NoiseConfig) -> dict[str, Any]:
    """Return all that determines the images."""
    return {**content(config), "version": [VERSION, made.VERSION]}


def load(config: PatchesConfig | DigitsConfig | NoiseConfig, store: Store) -> Domain:
    """Return the domain; UserError for more digits a class than there are."""
    if isinstance(config, NoiseConfig):
        kind = made.Kind(tuple(CLASSES), lambda name, split: 1, _fields)
    elif isinstance(config, PatchesConfig):
        size = config.size
        kind = made.Kind(
            tuple(PHOTOGRAPHS), lambda name, split: len(_places(name, split, size)), _patches
        )
    else:
        if sum((counts := dump(config.per_class)).values()) > _DIGITS:
            raise UserError(
                f"per_class: got {counts}; accepted: at most {_DIGITS} digits a class in all"
            )
        shares = tuple({**counts, "train": 0}.items())  # it takes the rest
        kind = made.Kind(
            tuple("0123456789"),
            lambda name, split: len(_scans_of(name, split, shares)),
            functools.partial(_digits, shares),
        )
    return made.load(store, config, kind)


@functools.cache
def _photographs() -> dict[str, Float[np.ndarray, "rows columns"]]:
    """Return the photographs, grey, reduced to a short side of 512 pixels."""
    greys = {}
    for name, file in PHOTOGRAPHS.items():
        with (resources.files("skimage.data") / file).open("rb") as encoded:
            picture = Image.open(encoded).convert("L")
        factor = min(1.0, 512 / min(picture.size))
        extent = (round(picture.width * factor), round(picture.height * factor))
        greys[name] = np.asarray(picture.resize(extent, Image.Resampling.LANCZOS), np.float32)
    return greys


def _places(name: str, split: str, size: int) -> Integer[np.ndarray, "cells 4"]:
    """Return the cells of a photograph that belong to a split."""
    largest = min(min(grey.shape) for grey in _photographs().values()) // _PATCHES_ALONG
    if size > largest:
        raise UserError(f"size: got {size}; accepted: at most {largest} pixels")
    return np.array(cells(_photographs()[name].shape, size)[split])


def _patches(drawn: made.Together) -> made.Ink:
    """Return patches of the cells in turn; those without contrast are redrawn."""
    size, places = drawn.size, _places(drawn.name, drawn.split, drawn.size)
    # Where a patch lies is drawn from all of its cell: a shift on top would add nothing.
    placement = drawn.placement._replace(shift=np.zeros_like(drawn.placement.shift))
    reach = np.abs(placement.inverse).sum(-1)[:, ::-1] * ((size - 1) / 2)  # rows, columns
    images = np.empty((len(reach), size, size), np.float32)
    cell, left = places[drawn.variants], np.arange(len(reach))
    for _ in range(400):  # until all have contrast
        low, high = cell[:, [0, 2]] + reach[left], cell[:, [1, 3]] - 1 - reach[left]
        if (low > high).any():
            raise UserError(
                f"jitter: got turns and scales with which a patch of {size} pixels reaches beyond its region of a "
                "photograph; accepted: less of both"
            )
        centre = low + (high - low) * drawn.rng.random(low.shape)
        read = placement.at(left).read(_photographs()[drawn.name], size, centre=centre.T)
        images[left] = read
        left = left[read.std(axis=(1, 2)) < _CONTRAST]
        if not left.size:
            return made.contrasted(images)
        cell = places[drawn.rng.integers(len(places), size=len(left))]
    raise UserError(
        f"size: got {size}, at which too few patches have any contrast; accepted: larger patches"
    )


def cells(shape: tuple[int, ...], size: int) -> dict[str, list[tuple[int, int, int, int]]]:
    """Return each split's cells (row, end, column, end): 2x2 patches, a patch apart."""
    rows, columns = (_cuts(extent, size) for extent in shape)
    by_split: dict[str, list[tuple[int, int, int, int]]] = {split: [] for split in SPLITS}
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            by_split[_PATTERN[(2 * i + j) % len(_PATTERN)]].append((*row, *column))
    return by_split


def _cuts(extent: int, size: int) -> list[tuple[int, int]]:
    """Return equal intervals with gaps of `size` between them."""
    count = (extent + size) // (3 * size)
    starts = [index * (extent + size) // count for index in range(count + 1)]
    return [(first, following - size) for first, following in itertools.pairwise(starts)]


def _digits(shares: tuple[tuple[str, int], ...], drawn: made.Together) -> made.Ink:
    """Return pictures of the scans of their class and split, in turn."""
    scans = _scans()[0][_scans_of(drawn.name, drawn.split, shares)[drawn.variants]]
    scale = 8 / (0.7 * drawn.size)  # a digit's square has 0.7 of the image's side
    return drawn.placement.read_each(scans, drawn.size, scale=scale)


@functools.cache
def _scans_of(name: str, split: str, shares: tuple[tuple[str, int], ...]) -> Indices:
    """Return the scans of a digit that belong to a split."""
    labels = _scans()[1]
    part = stratified_parts(labels, dict(shares), keys.generator(0, "digits", 1))[split]
    return part[labels[part] == int(name)]


@functools.cache
def _scans() -> tuple[Float[np.ndarray, "n rows columns"], Integer[np.ndarray, "n"]]:
    """Return the ink of all digits, with an empty border, and their labels."""
    from sklearn import datasets

    digits = datasets.load_digits()
    ink = np.pad(digits.images / 16, ((0, 0), (1, 1), (1, 1)))
    return ink.astype(np.float32), digits.target


def _fields(drawn: made.Together) -> made.Ink:
    """Return a random field for each picture."""
    spectrum = amplitude(drawn.size, *CLASSES[drawn.name]).astype(np.float32)
    shape = (len(drawn.variants), len(spectrum), len(spectrum))
    white = drawn.rng.standard_normal(shape, dtype=np.float32)
    fields = np.fft.irfft2(np.fft.rfft2(white) * spectrum, s=shape[1:])
    return made.contrasted(drawn.placement.read_each(fields, drawn.size, mode="grid-wrap"))


def amplitude(size: int, wavelength: float, angle: float) -> Float[np.ndarray, "rows half"]:
    """Return the `rfft2` filter that turns white noise into a field of variance 1."""
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
