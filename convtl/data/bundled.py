"""Kinds `patches` and `digits`: pictures inside the wheels of scikit-image and scikit-learn; nothing is downloaded.

A class of patches is one photograph, grey: all but letters and numerals (`text`, `page`, `logo`, `clock_motion`),
drawings, charts and stacks, and a second picture of a scene (`motorcycle_*`, `microaneurysms`). Both collections hold
all of them: `textures` at full resolution (short side at most 512 pixels: texture, no object), `photographs` with a
short side of 288 pixels (a part of a scene).

A photograph is divided into cells, spread over all of it and a patch apart; each cell belongs to one split, and a
patch, however it is turned, reads no pixel outside its cell. Patches with hardly any contrast are drawn again: scaled
to the contrast of letters, they would be amplified compression noise.

Digits are 1,797 handwritten ones of 8x8 pixels, at least 174 a class, drawn as large as a tall letter. Splits and
digits are fixed; which of them a replicate takes, and their jitter and noise, are its own.
"""

import functools
import itertools
from importlib import resources
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from PIL import Image

from convtl import keys
from convtl.config.domains import DigitsConfig, PatchesConfig
from convtl.config.roles import content, dump
from convtl.data import made
from convtl.data.splits import SPLITS, Domain, Indices, Store, stratified_parts
from convtl.errors import UserError

VERSION = 2
"""Raised whenever code changes the pixels or who goes where."""
_JPEG = ("hubble_deep_field", "retina", "rocket")
_NAMES = "astronaut brick camera cell chelsea coffee coins grass gravel hubble_deep_field ihc moon retina rocket"
PHOTOGRAPHS = {name: f"{name}.{'jpg' if name in _JPEG else 'png'}" for name in _NAMES.split()}
"""Class name -> file in scikit-image's data folder."""

_SHORT_SIDE = {"textures": 512, "photographs": 288}
_PATTERN = ("train", "validation", "train", "test", "test")
"""Split of the cell in row i and column j: number (2 i + j) modulo 5, so that neighbours differ."""
_PATCHES_ALONG = 8
"""Patches along a side that has room for three cells and the gaps between them."""
_CONTRAST = 4.0
"""Smallest standard deviation of a patch, in grey levels (of 255)."""
_ATTEMPTS = 400
"""Draws of a patch until it has contrast."""
_DIGIT_SHARE = 0.7
"""Side of the square that a digit fills, as a share of the image's."""
_DIGITS = 174
"""Fewest of a class."""


def identity(config: PatchesConfig | DigitsConfig) -> dict[str, Any]:
    """Return all that determines the images."""
    written = {**content(config), "version": [VERSION, made.VERSION]}
    return written | ({"photographs": list(PHOTOGRAPHS)} if config.kind == "patches" else {})


def load(config: PatchesConfig | DigitsConfig, store: Store) -> Domain:
    """Return the domain.

    Raises:
      UserError: more digits are asked for than there are; or, when a picture is first read, patches of this size do
        not fit into the cells, or too few of them have any contrast.
    """
    return made.load(
        store, config, _Patches(config) if config.kind == "patches" else _Digits(config)
    )


class _Patches:
    """The first draws show the cells of their split in turn; what has no contrast is drawn from any of them."""

    def __init__(self, config: PatchesConfig) -> None:
        self.names, self._config = tuple(PHOTOGRAPHS), config

    def _cells(self, name: str, split: str) -> Integer[np.ndarray, "cells 4"]:
        photograph = _photographs(self._config.collection)[name]
        return np.array(cells(photograph.shape, self._config.size)[split])

    def variants(self, name: str, split: str) -> int:
        size, photographs = self._config.size, _photographs(self._config.collection)
        largest = min(min(grey.shape) for grey in photographs.values()) // _PATCHES_ALONG
        if size > largest:
            raise UserError(f"size: got {size}; accepted: at most {largest} pixels")
        return len(self._cells(name, split))

    def ink(self, batch: made.Batch) -> made.Ink:
        size, rng, places = batch.size, batch.rng, self._cells(batch.name, batch.split)
        photograph = _photographs(self._config.collection)[batch.name]
        # Where a patch lies is drawn from all of its cell: a shift on top would add nothing.
        placement = batch.placement._replace(shift=np.zeros_like(batch.placement.shift))
        reach = np.abs(placement.inverse).sum(-1)[:, ::-1] * ((size - 1) / 2)  # rows, columns
        images = np.empty((len(reach), size, size), np.float32)
        cell, left = places[batch.variants], np.arange(len(reach))
        for _ in range(_ATTEMPTS):
            low, high = cell[:, [0, 2]] + reach[left], cell[:, [1, 3]] - 1 - reach[left]
            if (low > high).any():
                raise UserError(
                    f"jitter: got turns and scales with which a patch of {size} pixels reaches beyond its region of a "
                    "photograph; accepted: less of both"
                )
            centre = low + (high - low) * rng.random(low.shape)
            images[left] = placement.at(left).read(photograph, size, centre=centre.T)
            left = left[images[left].std(axis=(1, 2)) < _CONTRAST]
            if not left.size:
                return made.contrasted(images)
            cell = places[rng.integers(len(places), size=len(left))]
        raise UserError(
            f"size: got {size}, at which too few patches have any contrast; accepted: larger patches"
        )


@functools.cache
def _photographs(collection: str) -> dict[str, Float[np.ndarray, "rows columns"]]:
    """Return the photographs of a collection, grey, reduced (never enlarged) to its short side."""
    greys = {}
    for name, file in PHOTOGRAPHS.items():
        with (resources.files("skimage.data") / file).open("rb") as encoded:
            picture = Image.open(encoded).convert("L")
        factor = min(1.0, _SHORT_SIDE[collection] / min(picture.size))
        extent = (round(picture.width * factor), round(picture.height * factor))
        greys[name] = np.asarray(picture.resize(extent, Image.Resampling.LANCZOS), np.float32)
    return greys


def cells(shape: tuple[int, ...], size: int) -> dict[str, list[tuple[int, int, int, int]]]:
    """Return the cells of each split: first row, last row, first column, last column (last ones exclusive).

    A cell is at least two patches wide and high; between two cells there is at least a patch.
    """
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


class _Digits:
    """Pictures show the scans of their class and split in turn."""

    def __init__(self, config: DigitsConfig) -> None:
        self.names, counts = tuple("0123456789"), dump(config.per_class)
        if sum(counts.values()) > _DIGITS:
            raise UserError(
                f"per_class: got {counts}; accepted: at most {_DIGITS} digits a class in all"
            )
        self._shares = counts | {"train": 0}  # takes the rest

    @functools.cached_property
    def _parts(self) -> dict[str, Indices]:
        return stratified_parts(_scans()[1], self._shares, keys.generator(0, "digits", 1))

    def _members(self, name: str, split: str) -> Indices:
        part = self._parts[split]
        return part[_scans()[1][part] == int(name)]

    def variants(self, name: str, split: str) -> int:
        return len(self._members(name, split))

    def ink(self, batch: made.Batch) -> made.Ink:
        scans = _scans()[0][self._members(batch.name, batch.split)[batch.variants]]
        scale = 8 / (_DIGIT_SHARE * batch.size)
        return batch.placement.read_each(scans, batch.size, scale=scale)


@functools.cache
def _scans() -> tuple[Float[np.ndarray, "n rows columns"], Integer[np.ndarray, "n"]]:
    """Return the ink of all digits, with an empty border, and their labels."""
    from sklearn import datasets

    digits = datasets.load_digits()
    ink = np.pad(digits.images / 16, ((0, 0), (1, 1), (1, 1)))
    return ink.astype(np.float32), digits.target
