"""Decoding an image folder against a plain loop over its files on all cores."""

import multiprocessing
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from context import Context
from PIL import Image
from result import Result
from timing import ratio, seconds

from convtl.config.domains import ImageFolderConfig
from convtl.config.schema import DataConfig
from convtl.data.domains import load_domain
from convtl.runtime.cores import core_count

_SIZE, _CROP = 224, 0.875
_DISTINCT = 200
_CLASSES = 10


def decoding(context: Context) -> list[Result]:
    """Pictures of 640x480 to 224x224, as the packaged ImageNet net wants them, by as many processes as cores."""
    folder = context.scratch / "pictures"
    files = _pictures(folder, context.speed.pictures)
    config = ImageFolderConfig(
        path=str(folder), size=_SIZE, grey=False, crop=_CROP, interpolation="bicubic"
    )
    caches = context.scratch / "decoded"
    data = replace(context.settings.data, workers=None)

    def ours() -> float:
        shutil.rmtree(caches, ignore_errors=True)
        return seconds(partial(_ours, config, caches, data))

    sides: dict[str, Callable[[], float]] = {
        "theirs": partial(_loop, files, core_count()),
        "ours": ours,
    }
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for order in (("theirs", "ours"), ("ours", "theirs")):
        for name in order:
            taken[name].append(sides[name]())
    return [
        Result(
            "decoding",
            f"An image folder, {len(files)} JPEG files of 640x480 to 224 px: decoded and kept, pictures/s",
            ours=f"{len(files) / min(taken['ours']):.0f}",
            theirs=f"{len(files) / min(taken['theirs']):.0f} (a plain Pillow loop on all cores, nothing kept)",
            ratio=ratio(taken, "ours", "theirs"),
            goal=0.9,
            limit="decompressing JPEG (libjpeg-turbo) and resizing; starting processes and SHA-256 of each file "
            "are in it",
        )
    ]


def _ours(config: ImageFolderConfig, caches: Path, data: DataConfig) -> None:
    load_domain("pictures", config, caches, lambda line: None, data).split("train")


def _pictures(folder: Path, count: int) -> list[Path]:
    """JPEG files cut from photographs: some that differ, and copies of these that differ in a last byte."""
    import skimage.data

    photographs = [
        skimage.data.astronaut(),
        skimage.data.coffee(),
        skimage.data.cat(),
        skimage.data.rocket(),
    ]
    rng = np.random.default_rng(0)
    files, contents = [], list[bytes]()
    for number in range(count):
        path = folder / f"class{number % _CLASSES}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < _DISTINCT:
            picture = Image.fromarray(photographs[number % len(photographs)])
            left, top = rng.integers(0, 60, 2)
            cut = picture.crop((int(left), int(top), picture.width, picture.height)).resize(
                (640, 480)
            )
            cut.save(path, quality=90)
            contents.append(path.read_bytes())
        else:  # what follows the end of a JPEG is not read
            path.write_bytes(contents[number % len(contents)] + number.to_bytes(4, "big"))
        files.append(path)
    return files


def plain(path: str) -> int:
    """What anyone would write: decode, resize the short side, cut the middle."""
    with Image.open(path) as picture:
        short = round(_SIZE / _CROP)
        scale = short / min(picture.size)
        size = (round(picture.width * scale), round(picture.height * scale))
        whole = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    left, top = (whole.width - _SIZE) // 2, (whole.height - _SIZE) // 2
    return int(np.asarray(whole.crop((left, top, left + _SIZE, top + _SIZE)))[0, 0, 0])


def _loop(files: Sequence[Path], cores: int) -> float:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, mp_context=context) as pool:
        list(pool.map(plain, map(str, files[: 2 * cores])))  # the processes are there
        return seconds(lambda: list(pool.map(plain, map(str, files), chunksize=16)))
