"""Pictures of any size to images of one size."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps


def fit(picture: Image.Image, size: int, grey: bool) -> UInt8[np.ndarray, "size size channels"]:
    """A square image: turned as its EXIF says, short side resized to `size`, the centre cut out.

    Transparent parts lie on white; `grey` gives one channel, else there are three (RGB).
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        picture = _eight_bits(picture)
    if picture.has_transparency_data:
        opaque = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    picture = picture.convert("L" if grey else "RGB")
    factor = size / min(picture.size)
    extent = (max(size, round(picture.width * factor)), max(size, round(picture.height * factor)))
    picture = picture.resize(extent, Image.Resampling.BILINEAR)
    left, top = (extent[0] - size) // 2, (extent[1] - size) // 2
    pixels = np.asarray(picture.crop((left, top, left + size, top + size)), np.uint8)
    return pixels.reshape(size, size, -1)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Deeper grey levels, spread over 8 bits (Pillow would clip them)."""
    values = np.asarray(picture).astype(np.float64)
    low, high = values.min(), values.max()
    spread = (values - low) * (255 / (high - low) if high > low else 0.0)
    return Image.fromarray(np.rint(spread).astype(np.uint8))
