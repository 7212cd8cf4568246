"""Patches of the photographs that come inside scikit-image's wheel; nothing is downloaded.

A class is one photograph, grey. Excluded are `text`, `page` and `logo` (printed letters), the
`motorcycle` pair (one scene twice), drawings and charts (`phantom`, `horse`, the chessboards, `color`),
`clock_motion` (printed numerals), `microaneurysms` (a detail of the same kind of scene as `retina`) and the
stacks. Fewer than twelve of the photographs that remain are pure textures (`brick`, `grass`, `gravel`), so
both collections hold all of them and differ in scale:

- `textures`: at full resolution (short side at most 512 pixels): a patch shows texture, no object;
- `photographs`: short side 288 pixels: a patch shows a part of a scene.

A photograph is divided into cells, spread over all of it and a patch apart; each cell belongs to one split,
so that no pixel is in two splits and all splits see all parts of the scene. Patches with hardly any
contrast (empty sky, black space) are drawn again: standardised, they would be nothing but amplified
compression noise.
"""

import itertools
from collections.abc import Mapping
from importlib import resources
from io import BytesIO
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from convtl import keys
from convtl.data.split import SPLITS, Split
from convtl.errors import UserError

VERSION = 1
"""Raised whenever code changes the pixels."""
PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "camera": "camera.png",
    "cell": "cell.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "hubble_deep_field": "hubble_deep_field.jpg",
    "ihc": "ihc.png",
    "moon": "moon.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}
"""Class name -> file in scikit-image's data folder."""

Collection = Literal["textures", "photographs"]
_SHORT_SIDE = {"textures": 512, "photographs": 288}
_PATTERN = ("train", "validation", "train", "test", "test")
"""Split of the cell in row i and column j: number (2 i + j) modulo 5, so that neighbours differ."""
_PATCHES_ALONG = 8
"""Patches along a side that has room for three cells and the gaps between them."""
_CONTRAST = 4.0
"""Smallest standard deviation of a patch, in grey levels (of 255)."""
_CANDIDATES = 256
"""Positions drawn at a time."""
_ATTEMPTS = 400


def draw_patches(
    collection: Collection,
    size: int,
    counts: Mapping[str, int],
    photographs: Mapping[str, str] = PHOTOGRAPHS,
) -> dict[str, Split]:
    """All splits; patch i of a class does not depend on how many are asked for.

    Raises:
      UserError: patches of this size do not fit into the cells, or too few of them have any contrast.
    """
    drawn: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {split: [] for split in SPLITS}
    pictures = {name: _grey(file, _SHORT_SIDE[collection]) for name, file in photographs.items()}
    largest = min(min(picture.shape) for picture in pictures.values()) // _PATCHES_ALONG
    if size > largest:
        raise UserError(
            f"size: got {size}; accepted: at most {largest} pixels, which is what the smallest of the photographs "
            f"of '{collection}' has room for in three splits"
        )
    for name, picture in pictures.items():
        for split in SPLITS:
            rng = keys.generator(0, "patches", VERSION, collection, size, name, split)
            drawn[split].append(
                _patches(picture, cells(picture.shape, size)[split], size, counts[split], rng)
            )
    return {
        split: Split(
            np.concatenate([images for images, _ in parts])[..., None],
            np.repeat(np.arange(len(parts), dtype=np.int32), counts[split]),
            np.concatenate([strata for _, strata in parts]),
        )
        for split, parts in drawn.items()
    }


def _grey(file: str, short_side: int) -> UInt8[np.ndarray, "rows columns"]:
    """A photograph, reduced (never enlarged) to a short side."""
    from PIL import Image

    content = (resources.files("skimage.data") / file).read_bytes()
    with Image.open(BytesIO(content)) as opened:
        picture = opened.convert("L")
    factor = min(1.0, short_side / min(picture.size))
    extent = (round(picture.width * factor), round(picture.height * factor))
    return np.asarray(picture.resize(extent, Image.Resampling.LANCZOS))


def cells(shape: tuple[int, ...], size: int) -> dict[str, list[tuple[int, int, int, int]]]:
    """Split -> its cells: first row, last row (exclusive), first column, last column (exclusive).

    A cell is at least two patches wide and high; between two cells there is at least a patch. A patch is at most
    an eighth of either side.
    """
    rows, columns = (_cuts(extent, size) for extent in shape)
    found: dict[str, list[tuple[int, int, int, int]]] = {split: [] for split in SPLITS}
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            found[_PATTERN[(2 * i + j) % len(_PATTERN)]].append((*row, *column))
    return found


def _cuts(extent: int, size: int) -> list[tuple[int, int]]:
    """Equal intervals with gaps of `size` between them."""
    count = (extent + size) // (3 * size)
    starts = [index * (extent + size) // count for index in range(count + 1)]
    return [(first, following - size) for first, following in itertools.pairwise(starts)]


def _patches(
    picture: UInt8[np.ndarray, "rows columns"],
    places: list[tuple[int, int, int, int]],
    size: int,
    count: int,
    rng: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "count size size"], np.ndarray]:
    """`count` patches and the cell of each; the first of them do not depend on `count`."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, (size, size))
    borders = np.array(places)
    low, high = borders[:, [0, 2]], borders[:, [1, 3]] - size + 1
    images, strata = [np.empty((0, size, size), np.uint8)], [np.empty(0, np.int32)]
    for _ in range(_ATTEMPTS):
        if sum(map(len, strata)) >= count:
            break
        cell = rng.integers(0, len(places), _CANDIDATES)
        at = rng.integers(low[cell], high[cell])
        candidates = windows[at[:, 0], at[:, 1]]
        kept = candidates.std(axis=(1, 2)) >= _CONTRAST
        images.append(candidates[kept])
        strata.append(cell[kept].astype(np.int32))
    if sum(map(len, strata)) < count:
        raise UserError(
            f"size: got {size}, at which a photograph has fewer than {count:,} patches with any contrast among "
            f"{_ATTEMPTS * _CANDIDATES:,}; accepted: larger patches, or fewer a class (per_class)"
        )
    return np.concatenate(images)[:count], np.concatenate(strata)[:count]
