"""Folders of small generated pictures, odd ones among them."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def noise(seed: int, extent: tuple[int, int] = (16, 12)) -> Image.Image:
    """Coloured noise, never twice the same; `extent` is (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (extent[1], extent[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def fill(folder: Path, count: int, seed: int = 0) -> None:
    """Pictures `00.png` and so on; other folders and seeds get others."""
    folder.mkdir(parents=True, exist_ok=True)
    start = zlib.crc32(f"{folder.name} {seed}".encode())
    for index in range(count):
        noise(start + index).save(folder / f"{index:02}.png")


def png_header(width: int, height: int) -> bytes:
    """The beginning of a grey PNG of this size, without its pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def bomb(path: Path) -> None:
    """A small file that claims 400 million pixels."""
    data = b"IDAT" + zlib.compress(bytes(1000))
    path.write_bytes(
        png_header(20_000, 20_000)
        + struct.pack(">I", len(data) - 4)
        + data
        + struct.pack(">I", zlib.crc32(data))
    )


def animation(path: Path, colours: Sequence[str] = ("red", "blue")) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in colours]
    frames[0].save(path, save_all=True, append_images=frames[1:])
