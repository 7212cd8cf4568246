"""Patches of the photographs that come inside scikit-image's wheel; nothing is downloaded.

A class is one photograph, grey. Excluded are `text`, `page` and `logo` (printed letters), the
`motorcycle` pair (one scene twice), drawings and charts (`phantom`, `horse`, the chessboards, `color`),
`clock_motion` (printed numerals), `microaneurysms` (a detail of the same kind of scene as `retina`) and the
stacks. Fewer than twelve of the photographs that remain are pure textures (`brick`, `grass`, `gravel`), so
both collections hold all of them and differ in scale:

- `textures`: at full resolution (short side at most 512 pixels): a patch shows texture, no object;
- `photographs`: short side 288 pixels: a patch shows a part of a scene.

Splits are strips of the photograph with a gap of a patch between them, so that no pixel is in two splits.
Patches with hardly any contrast (empty sky, black space) are drawn again: standardised, they would be
nothing but amplified compression noise.
"""

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
_STRIPS = (("train", 0.28), ("validation", 0.18), ("train", 0.28), ("test", 0.26))
"""Split and share of each strip, along the longer axis."""
_CONTRAST = 4.0
"""Smallest standard deviation of a patch, in grey levels (of 255)."""
_CANDIDATES = 256
"""Positions drawn at a time."""
_ATTEMPTS = 400


def draw_patches(
    collection: Collection, size: int, counts: Mapping[str, int], photographs: Mapping[str, str] = PHOTOGRAPHS
) -> dict[str, Split]:
    """All splits; patch i of a class does not depend on how many are asked for.

    Raises:
      UserError: patches of this size do not fit into the strips.
    """
    drawn: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {split: [] for split in SPLITS}
    for name, file in photographs.items():
        picture = _grey(file, _SHORT_SIDE[collection])
        for split in SPLITS:
            stream = ("patches", VERSION, collection, size, name, split)
            strips = [picture[start:stop] for start, stop in _strips(picture.shape[0], size, split)]
            drawn[split].append(_patches(strips, size, counts[split], stream))
    return {
        split: Split(
            np.concatenate([images for images, _ in parts])[..., None],
            np.repeat(np.arange(len(parts), dtype=np.int32), counts[split]),
            np.concatenate([strata for _, strata in parts]),
        )
        for split, parts in drawn.items()
    }


def _grey(file: str, short_side: int) -> UInt8[np.ndarray, "long short"]:
    """A photograph, reduced (never enlarged) to a short side, the longer axis first."""
    from PIL import Image

    content = (resources.files("skimage.data") / file).read_bytes()
    with Image.open(BytesIO(content)) as opened:
        picture = opened.convert("L")
    factor = min(1.0, short_side / min(picture.size))
    extent = (round(picture.width * factor), round(picture.height * factor))
    pixels = np.asarray(picture.resize(extent, Image.Resampling.LANCZOS))
    return pixels if pixels.shape[0] >= pixels.shape[1] else np.ascontiguousarray(pixels.T)


def _strips(length: int, size: int, wanted: str) -> list[tuple[int, int]]:
    """First and last (exclusive) row of each strip of a split."""
    room = length - (len(_STRIPS) - 1) * size
    found, start, share_before = [], 0, 0.0
    for index, (split, share) in enumerate(_STRIPS):
        first = round(room * share_before) + index * size
        share_before += share
        start = round(room * share_before) + index * size
        if split == wanted:
            if start - first < size:
                raise UserError(
                    f"size: patches of {size} pixels do not fit into the strips of a photograph of "
                    f"{length} pixels; a smaller size is needed"
                )
            found.append((first, start))
    return found


def _patches(
    strips: list[UInt8[np.ndarray, "rows columns"]], size: int, count: int, stream: tuple[str | int, ...]
) -> tuple[UInt8[np.ndarray, "count size size"], np.ndarray]:
    """`count` patches, taken from the strips in turn, and the strip of each."""
    strata = np.arange(count, dtype=np.int32) % len(strips)
    images = np.empty((count, size, size), np.uint8)
    for index, strip in enumerate(strips):
        images[strata == index] = _from_strip(
            strip, size, int(np.sum(strata == index)), keys.generator(0, *stream, index)
        )
    return images, strata


def _from_strip(
    strip: UInt8[np.ndarray, "rows columns"], size: int, count: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "count size size"]:
    windows = np.lib.stride_tricks.sliding_window_view(strip, (size, size))
    found: list[np.ndarray] = []
    for _ in range(_ATTEMPTS):
        if sum(map(len, found)) >= count:
            break
        at = rng.integers(0, windows.shape[:2], (_CANDIDATES, 2))
        candidates = windows[at[:, 0], at[:, 1]]
        found.append(candidates[candidates.std(axis=(1, 2)) >= _CONTRAST])
    patches = np.concatenate([np.empty((0, size, size), np.uint8), *found])
    if len(patches) < count:
        raise UserError(f"size: too few patches of {size} pixels with any contrast in a photograph")
    return patches[:count]
