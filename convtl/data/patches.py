"""Kind `patches`: cut from the photographs inside scikit-image's wheel; nothing is downloaded.

A class is one photograph, grey: all but letters and numerals (`text`, `page`, `logo`, `clock_motion`), drawings,
charts and stacks, and a second picture of a scene (`motorcycle_*`, `microaneurysms`). Both collections hold
all of them: `textures` at full resolution (short side at most 512 pixels: texture, no object), `photographs`
with a short side of 288 pixels (a part of a scene).

A photograph is divided into cells, spread over all of it and a patch apart; each cell belongs to one split,
so that no pixel is in two splits. Patches with hardly any contrast are drawn again: standardised, they would
be amplified compression noise.
"""

import functools
import itertools
from importlib import resources
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from convtl import keys
from convtl.config.domains import PatchesConfig
from convtl.config.roles import content
from convtl.data.splits import SPLITS, Domain, Drawn, Store
from convtl.errors import UserError

VERSION = 1
"""Raised whenever code changes the pixels."""
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
_CANDIDATES, _ATTEMPTS = 256, 400
"""Positions drawn at a time, and how often."""


def identity(config: PatchesConfig) -> dict[str, Any]:
    """Return all that determines the images."""
    return {**content(config), "photographs": list(PHOTOGRAPHS), "version": VERSION}


def load(config: PatchesConfig, store: Store) -> Domain:
    """Return the domain; patch i of a class does not depend on how many are drawn.

    Raises (when a split is first asked for):
      UserError: patches of this size do not fit into the cells, or too few of them have any contrast.
    """
    names, size, collection = tuple(PHOTOGRAPHS), config.size, config.collection

    @functools.cache
    def photographs() -> list[np.ndarray]:
        greys = [_grey(file, _SHORT_SIDE[collection]) for file in PHOTOGRAPHS.values()]
        largest = min(min(grey.shape) for grey in greys) // _PATCHES_ALONG
        if size > largest:
            raise UserError(f"size: got {size}; accepted: at most {largest} pixels")
        return greys

    def draw(index: int, split: str, count: int) -> Drawn:
        rng = keys.generator(0, "patches", VERSION, collection, size, names[index], split)
        photograph = photographs()[index]
        return _patches(photograph, cells(photograph.shape, size)[split], size, count, rng)

    return store.synthetic(config, names, draw)


def _grey(file: str, short_side: int) -> UInt8[np.ndarray, "rows columns"]:
    """Return a photograph, reduced (never enlarged) to a short side."""
    with (resources.files("skimage.data") / file).open("rb") as encoded:
        picture = Image.open(encoded).convert("L")
    factor = min(1.0, short_side / min(picture.size))
    extent = (round(picture.width * factor), round(picture.height * factor))
    return np.asarray(picture.resize(extent, Image.Resampling.LANCZOS))


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


def _patches(
    photograph: UInt8[np.ndarray, "rows columns"],
    places: list[tuple[int, int, int, int]],
    size: int,
    count: int,
    rng: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "count size size"], np.ndarray]:
    """Return `count` patches and the cell of each; the first of them do not depend on `count`."""
    windows = np.lib.stride_tricks.sliding_window_view(photograph, (size, size))
    borders = np.array(places)
    low, high = borders[:, [0, 2]], borders[:, [1, 3]] - size + 1
    images, strata = list[np.ndarray](), list[np.ndarray]()
    for _ in range(_ATTEMPTS):
        cell = rng.integers(0, len(places), _CANDIDATES)
        at = rng.integers(low[cell], high[cell])
        candidates = windows[at[:, 0], at[:, 1]]
        suitable = candidates.std(axis=(1, 2)) >= _CONTRAST
        images.append(candidates[suitable])
        strata.append(cell[suitable].astype(np.int32))
        if sum(map(len, strata)) >= count:
            return np.concatenate(images)[:count], np.concatenate(strata)[:count]
    raise UserError(
        f"size: got {size}, at which too few patches have any contrast; accepted: larger patches, or fewer a class"
    )
