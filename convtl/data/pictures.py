"""Pictures of any size to images of one size.

Pillow resizes, with antialiasing, as torchvision and timm do with pictures from files; so `crop` and
`interpolation` of a net that was trained with them give the images that it was trained on.
"""

import math
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
"""Modes of Pillow for grey levels of more than 8 bits."""
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_WHITES = (255.0, 4095.0, 65535.0)
"""The largest numbers of 8, 12 and 16 bits."""
_WIDENED = 257
"""What a level of 8 bits is multiplied by where it is written with 16."""
_LONGEST = 64
"""Times the short side that a picture may be long; the rest is farther from the centre than any crop."""
_BYTES_A_PIXEL, _MORE_BYTES = 10, 16
"""Memory of a picture while it is decoded, turned and converted; if deep, or transparent, laid on white."""
_ROWS = 256
"""Rows of deep grey levels that are converted at a time."""

Levels = tuple[float, float]
"""Grey levels of black and white."""
Extremes = tuple[float, float, bool, bool]
"""Lowest and highest grey level; whether all are 8 bits written with 16; whether they are floats."""
NO_PICTURE = "no picture that can be read"


def _suffixes(words: str) -> frozenset[str]:
    return frozenset(f".{word}" for word in words.split())


_SOMETIMES_READ = _suffixes("avif avifs heic heif hif jxl")
"""Pictures that only some builds of Pillow read; with a wrong suffix others, so they are tried."""
RAW = _suffixes(
    "3fr arw cr2 cr3 crw dcr dng erf kdc mef mrw nef nrw orf pef raf raw rw2 rwl sr2 srf srw x3f"
)
"""Raw data of cameras; Pillow takes some of it for TIFF and would show the thumbnail in it."""
_NO_PICTURES = _suffixes(
    "7z aae avi bz2 csv db doc docx gz htm html ini ipynb json jsonl lnk log m4a m4v md mkv mov mp3 mp4 npy npz pdf "
    "pkl ppt pptx py rar rtf sh tar toml tsv txt url wav xls xlsx xml xmp yaml yml zip"
)
"""What often lies beside pictures. A file with a suffix that nobody knows, or with none, may be one."""
NEVER_DEEP = _suffixes("jpg jpeg jpe jfif gif webp bmp") | RAW | _NO_PICTURES
"""Formats that hold no grey levels of more than 8 bits, by name."""


def suffix(name: str) -> str:
    """Return the suffix of a file's name, in small letters."""
    return PurePath(name).suffix.lower()


def is_picture(name: str) -> bool:
    """Return whether the name is that of a picture in a format that Pillow reads."""
    Image.init()
    return Image.registered_extensions().get(suffix(name)) in Image.OPEN


def name_fault(name: str) -> str | None:
    """Return why a file cannot be read, as far as its name says; None where it may be a picture."""
    form = suffix(name)
    if form in RAW or (form in _SOMETIMES_READ and not is_picture(name)):
        return f"{form} files cannot be read, convert to JPEG or PNG"
    return NO_PICTURE if form in _NO_PICTURES else None


@dataclass(frozen=True)
class Fit:
    """How a picture becomes a square image: turned as its EXIF says, short side resized, the centre cut out.

    With `crop` < 1 or bicubic interpolation the result is that of torchvision's `Resize(size / crop)` and
    `CenterCrop(size)`, bit for bit; the plain default rounds the long side instead of cutting it off.

    Attributes:
      size: side of the image; None leaves a picture as large as it is.
      grey: one channel; else three (RGB). Transparent parts lie on white; of an animation the first frame is taken.
      levels: what grey levels of more than 8 bits are scaled from, and clipped to (`common_levels`); without them
        from 0 to 65535, floats from 0 to 1.
    """

    size: int | None
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
        if (size := self.size) is not None:
            plain = self.crop == 1 and self.interpolation == "bilinear"
            extent = _extent(picture.size, size, self.crop, plain)
            picture = picture.resize(extent, _FILTERS[self.interpolation])
            spare = [side - size for side in extent]
            left, top = (margin // 2 if plain else round(margin / 2) for margin in spare)
            picture = picture.crop((left, top, left + size, top + size))
        return np.asarray(picture, np.uint8).reshape(picture.height, picture.width, -1)

    def memory(self, picture: Image.Image) -> float:
        """Return the bytes that making the image takes at most."""
        short, long = sorted(picture.size)
        resized = (self.size or 0) ** 2 / self.crop**2 * min(long / short, _LONGEST)
        costly = picture.mode in DEEP_MODES or picture.has_transparency_data
        return (_MORE_BYTES if costly else _BYTES_A_PIXEL) * max(short * long, resized)


def _extent(before: tuple[int, int], size: int, crop: float, plain: bool) -> list[int]:
    """Return width and height after resizing."""
    if plain:
        factor = size / min(before)
        return [max(size, round(side * factor)) for side in before]
    short = math.floor(size / crop)
    return [int(short * side / min(before)) for side in before]


def _not_too_long(picture: Image.Image) -> Image.Image:
    """Cut the ends off a line of pixels, which would be resized to a picture of immense length."""
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
    """Return the range of a deep picture's grey levels; a ValueError where they are no numbers."""
    values, floats = _numbers(picture), picture.mode == "F"
    widened = not floats and not (values % _WIDENED).any()
    return float(values.min()), float(values.max()), widened, floats


def _numbers(picture: Image.Image) -> np.ndarray:
    values = np.asarray(picture)
    if not np.isfinite(values).all():
        raise ValueError("grey levels that are no numbers")
    return values


def common_levels(ranges: Sequence[Extremes]) -> Levels | None:
    """Return black and white of all deep pictures of a data set; None where it has none.

    White is the largest number of the fewest bits, of 8, 12 and 16, that hold every picture (12-bit cameras
    write files of 16 bits); where all numbers are multiples of 257 they are 8 bits widened to 16. Floats between
    0 and 1 have white at 1. Other numbers are spread between the darkest and brightest level of all.
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
