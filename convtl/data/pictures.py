"""Conversion of pictures of any size to images of one size.

Pillow resizes, with antialiasing, as torchvision and timm do: with the `crop` and `interpolation` of a net's training,
images are those that it was trained on.
"""

import math
import struct
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
"""Modes of Pillow for grey levels of more than 8 bits."""
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_WHITES = (255.0, 4095.0, 65535.0)
"""The largest numbers of 8, 12 and 16 bits."""
_LONGEST = 64
"""Largest ratio of a picture's sides; pixels further out are outside any crop."""
_BYTES_A_PIXEL, _MORE_BYTES = 10, 16
"""Memory while a picture is decoded, turned and converted; more if it is deep or transparent."""
_ROWS = 256
"""Rows of deep grey levels that are converted at a time."""

Levels = tuple[float, float]
"""Grey levels of black and white."""
Extremes = tuple[float, float, bool, bool]
"""Lowest and highest grey level; whether all are 8 bits written with 16; whether they are floats."""
NO_PICTURE = "no picture that can be read, convert to JPEG or PNG"
_RAW = "3fr arw cr2 cr3 crw dcr dng erf kdc mef mrw nef nrw orf pef raf raw rw2 rwl sr2 srf srw x3f"
"""Suffixes of raw camera files, in some of which Pillow would open the thumbnail."""


def opened(path: Path) -> Image.Image:
    """Open a picture, not decoded; UnidentifiedImageError if it cannot be read."""
    if path.suffix[1:].lower() in _RAW.split():
        raise UnidentifiedImageError("raw data of a camera")
    return Image.open(path)


def mode_of(path: Path) -> str | None:
    """Return Pillow's mode of a picture from its header; None if it cannot be read."""
    ignored = warnings.catch_warnings(action="ignore")
    with suppress(Exception), ignored, opened(path) as picture:
        return picture.mode
    return None


@dataclass(frozen=True)
class Fit:
    """Conversion to a square image: turned by EXIF, short side resized, centre crop.

    With `crop` < 1 or bicubic interpolation the result is that of torchvision's `Resize(size / crop)` and
    `CenterCrop(size)`, bit for bit; the plain default rounds the long side instead of truncating it.

    Attributes:
      size: side of the image, pixels.
      grey: one channel; else three (RGB). Transparent parts lie on white; of an animation the first frame is taken.
      levels: range that grey levels of more than 8 bits are clipped to and scaled from (`common_levels`); by default
        0 to 65535, of floats 0 to 1.
    """

    size: int
    grey: bool = False
    crop: float = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    levels: Levels | None = None

    def __call__(self, picture: Image.Image) -> UInt8[np.ndarray, "height width channels"]:
        """Return the image of an open picture."""
        picture.load()
        damaged = (ValueError, SyntaxError, OSError, struct.error)
        with suppress(*damaged):  # metadata that cannot be read lose no pixels
            ImageOps.exif_transpose(picture, in_place=True)
        picture = _coloured(_not_too_long(picture), self.grey, self.levels)
        size, plain = self.size, self.crop == 1 and self.interpolation == "bilinear"
        if plain:
            extent = [max(size, round(side * (size / min(picture.size)))) for side in picture.size]
        else:
            short = math.floor(size / self.crop)
            extent = [int(short * side / min(picture.size)) for side in picture.size]
        picture = picture.resize(extent, _FILTERS[self.interpolation])
        spare = [side - size for side in extent]
        left, top = (margin // 2 if plain else round(margin / 2) for margin in spare)
        picture = picture.crop((left, top, left + size, top + size))
        return np.asarray(picture, np.uint8).reshape(self.shape)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the image."""
        return self.size, self.size, 1 if self.grey else 3

    def memory(self, picture: Image.Image) -> float:
        """Return the most bytes that making the image takes."""
        short, long = sorted(picture.size)
        resized = self.size**2 / self.crop**2 * min(long / short, _LONGEST)
        costly = picture.mode in DEEP_MODES or picture.has_transparency_data
        return (_MORE_BYTES if costly else _BYTES_A_PIXEL) * max(short * long, resized)


def _not_too_long(picture: Image.Image) -> Image.Image:
    """Crop the ends of a very long picture, which resizing would make immense."""
    most = _LONGEST * min(picture.size)
    if max(picture.size) <= most:
        return picture
    left, top = (max(0, (side - most) // 2) for side in picture.size)
    width, height = (min(side, most) for side in picture.size)
    return picture.crop((left, top, left + width, top + height))


def _coloured(picture: Image.Image, grey: bool, levels: Levels | None) -> Image.Image:
    """Return a picture of any mode as grey (L) or RGB."""
    if picture.mode in DEEP_MODES:
        picture = _eight_bits(picture, levels or (0.0, 1.0 if picture.mode == "F" else _WHITES[-1]))
    if picture.has_transparency_data:
        clear = picture if picture.mode == "RGBA" else picture.convert("RGBA")  # converting copies
        picture = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    mode = "L" if grey else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)


def _eight_bits(picture: Image.Image, levels: Levels) -> Image.Image:
    """Scale deep grey levels to 8 bits; Pillow itself would clip them."""
    values, (black, white) = _numbers(picture), levels
    scaled = np.empty(values.shape, np.uint8)
    factor = 255 / (white - black) if white > black else 0.0
    for start in range(0, len(values), _ROWS):
        rows = (values[start : start + _ROWS].astype(np.float64) - black) * factor
        scaled[start : start + _ROWS] = np.rint(np.clip(rows, 0, 255))
    return Image.fromarray(scaled)


def extremes(picture: Image.Image) -> Extremes:
    """Return the range of a deep picture's levels; ValueError if not finite."""
    values, floats = _numbers(picture), picture.mode == "F"
    widened = not floats and not (values % 257).any()  # 8 bits written with 16
    return float(values.min()), float(values.max()), widened, floats


def _numbers(picture: Image.Image) -> np.ndarray:
    values = np.asarray(picture)
    if not np.isfinite(values).all():
        raise ValueError("grey levels that are no numbers")
    return values


def common_levels(ranges: Sequence[Extremes]) -> Levels | None:
    """Return black and white of a data set's deep pictures; None if it has none.

    White is the largest number of the fewest bits, of 8, 12 and 16, that hold every picture (12-bit cameras
    write files of 16 bits), 65535 where all are 8 bits widened to 16, and 1 of floats between 0 and 1. Other
    numbers are spread between the darkest and brightest level of all.
    """
    if not ranges:
        return None
    lows, highs, widened, floats = zip(*ranges, strict=True)
    low, high = min(lows), max(highs)
    if low < 0 or high > _WHITES[-1]:
        return low, high
    if high <= 1 and all(floats):
        return 0.0, 1.0
    if all(widened):
        return 0.0, _WHITES[-1]
    return 0.0, next(white for white in _WHITES if high <= white)
