"""Pictures of any size to images of one size.

Pillow resizes, with antialiasing, as torchvision and timm do with pictures from files; so `crop` and
`interpolation` of a net that was trained with them give the images that it was trained on.
"""

import math
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_WHITES = (255.0, 4095.0, 65535.0)
"""The largest numbers of 8, 12 and 16 bits."""
_WIDENED = 257
"""What a level of 8 bits is multiplied by where it is written with 16."""
_LONGEST = 64
"""Times the short side that a picture may be long; what lies farther from the centre is never seen."""


@dataclass(frozen=True)
class Fit:
    """How pictures become images.

    Attributes:
      size: side of the square image, pixels; None keeps pictures as large as they are.
      channels: 1 grey, 3 RGB, 4 RGBA (only where the size is kept).
      crop: share of the resized short side that the centre crop takes.
      interpolation: "bilinear" or "bicubic".
    """

    size: int | None
    channels: int = 3
    crop: float = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def __call__(self, picture: Image.Image) -> UInt8[np.ndarray, "height width channels"]:
        """The image of an open picture."""
        if self.size is not None:
            return fit(picture, self.size, self.channels == 1, self.crop, self.interpolation)
        pixels = np.asarray(picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[self.channels]), np.uint8)
        return pixels.reshape(picture.height, picture.width, self.channels)


def fit(
    picture: Image.Image,
    size: int,
    grey: bool,
    crop: float = 1.0,
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
) -> UInt8[np.ndarray, "size size channels"]:
    """A square image: turned as its EXIF says, short side resized to `size / crop`, the centre cut out.

    Transparent parts lie on white; `grey` gives one channel, else there are three (RGB). Of an animation
    the first frame is taken.

    With `crop` < 1 or bicubic interpolation the result is that of torchvision's `Resize(size / crop)` and
    `CenterCrop(size)`, bit for bit; the plain default rounds the long side instead of cutting it off.
    """
    picture.load()
    with suppress(
        ValueError, SyntaxError, OSError, struct.error
    ):  # damaged metadata lose no pixels
        ImageOps.exif_transpose(picture, in_place=True)
    picture = _coloured(_not_too_long(picture), grey)
    plain = crop == 1 and interpolation == "bilinear"
    extent = _extent(picture.size, size, crop, plain)
    picture = picture.resize(extent, _FILTERS[interpolation])
    left, top = (_margin(side - size, plain) for side in extent)
    pixels = np.asarray(picture.crop((left, top, left + size, top + size)), np.uint8)
    return pixels.reshape(size, size, -1)


def _extent(before: tuple[int, int], size: int, crop: float, plain: bool) -> tuple[int, int]:
    """Width and height after resizing."""
    if plain:
        factor = size / min(before)
        return max(size, round(before[0] * factor)), max(size, round(before[1] * factor))
    short = math.floor(size / crop)
    width, height = before
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def _margin(spare: int, plain: bool) -> int:
    return spare // 2 if plain else round(spare / 2)


def _not_too_long(picture: Image.Image) -> Image.Image:
    """A line of pixels would be resized to a picture of immense length, of which the centre is cut out."""
    most = _LONGEST * min(picture.size)
    if max(picture.size) <= most:
        return picture
    left, top = (max(0, (side - most) // 2) for side in picture.size)
    return picture.crop(
        (left, top, left + min(picture.width, most), top + min(picture.height, most))
    )


def _coloured(picture: Image.Image, grey: bool) -> Image.Image:
    """Grey or RGB, of whatever mode the picture is."""
    if picture.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        picture = _eight_bits(picture)
    if picture.has_transparency_data:
        opaque = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    mode = "L" if grey else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)  # converting copies


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Deeper grey levels in 8 bits (Pillow would clip them), brighter ones of two pictures staying brighter.

    White is the largest number of the fewest bits, of 8, 12 and 16, that hold all of a picture (12-bit cameras
    write files of 16 bits); numbers that are multiples of 257 are 8 bits widened to 16, however dark they are.
    Floats between 0 and 1 have white at 1. What is negative or needs more bits says nowhere what is white: it is
    spread between its own darkest and brightest level.
    """
    values = np.asarray(picture).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("grey levels that are no numbers")
    low, high = float(np.min(values)), float(np.max(values))
    if low >= 0 and high <= _WHITES[-1]:
        low, high = 0.0, _white(values, picture.mode == "F")
    spread = (values - low) * (255 / (high - low) if high > low else 0.0)
    return Image.fromarray(np.rint(spread).astype(np.uint8))


def _white(values: np.ndarray, floats: bool) -> float:
    """What number stands for white, where none is negative or of more than 16 bits."""
    if floats and values.max() <= 1:
        return 1.0
    if not (values % _WIDENED).any():
        return _WHITES[-1]
    return next(white for white in _WHITES if values.max() <= white)
