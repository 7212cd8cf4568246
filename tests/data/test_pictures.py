"""Pictures of every kind become square images."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_folders import animation, noise
from PIL import Image

from convtl.config.domains import ImageFolderConfig
from convtl.data.domains import identity, load_domain
from convtl.data.pictures import Fit, common_levels, extremes


def _reread(picture: Image.Image, form: str, **options: object) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, form, **options)
    file.seek(0)
    return Image.open(file)


def _palette_with_a_hole() -> Image.Image:
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.paste(0, (0, 0, 8, 4))
    return _reread(picture, "PNG", transparency=0)


@pytest.mark.parametrize(
    ("make", "top", "bottom"),
    [
        (lambda: Image.new("RGB", (9, 9), "red"), (255, 0, 0), (255, 0, 0)),
        (lambda: Image.new("L", (9, 9), 90), (90, 90, 90), (90, 90, 90)),
        (lambda: Image.new("1", (9, 9), 1), (255, 255, 255), (255, 255, 255)),
        (lambda: Image.new("RGBA", (9, 9), (0, 0, 0, 0)), (255, 255, 255), (255, 255, 255)),
        (lambda: Image.new("LA", (9, 9), (0, 255)), (0, 0, 0), (0, 0, 0)),
        (_palette_with_a_hole, (255, 255, 255), (255, 0, 0)),
        (
            lambda: _reread(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"),
            (255, 0, 0),
            (255, 0, 0),
        ),
        (
            lambda: _reread(Image.new("CMYK", (16, 16), (0, 0, 0, 255)), "TIFF"),
            (0, 0, 0),
            (0, 0, 0),
        ),
        (
            lambda: _reread(Image.new("YCbCr", (16, 16), (0, 128, 128)), "JPEG"),
            (0, 0, 0),
            (0, 0, 0),
        ),
        (lambda: Image.new("RGB", (1, 1), "blue"), (0, 0, 255), (0, 0, 255)),
    ],
)
def test_colours(
    make: Callable[[], Image.Image], top: tuple[int, ...], bottom: tuple[int, ...]
) -> None:
    image = Fit(8, grey=False)(make())
    assert image.shape == (8, 8, 3)
    np.testing.assert_allclose(image[0, 4], top, atol=2)
    np.testing.assert_allclose(image[-1, 4], bottom, atol=2)
    assert Fit(8, grey=True)(make()).shape == (8, 8, 1)


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    animation(tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as picture:
        np.testing.assert_array_equal(Fit(4, grey=False)(picture), np.full((4, 4, 3), (255, 0, 0)))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_file_is_turned_as_its_exif_says(orientation: int) -> None:
    picture = Image.new("RGB", (40, 40), "black")
    picture.paste("white", (0, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = Fit(40, grey=True)(_reread(picture, "PNG", exif=exif))[..., 0]
    quarter = {1: 0, 3: 2, 6: -1, 8: 1}[orientation]
    np.testing.assert_array_equal(turned, np.rot90(np.asarray(picture.convert("L")), quarter))


@pytest.mark.parametrize("extent", [(1, 5000), (5000, 1), (3, 40_000)])
def test_lines_of_pixels_need_no_immense_picture(extent: tuple[int, int]) -> None:
    assert Fit(100, grey=False)(Image.new("RGB", extent, "red")).shape == (100, 100, 3)


@pytest.mark.parametrize(
    ("extent", "size", "crop", "resized", "corner"),
    [
        ((348, 348), 224, 0.875, (256, 256), (16, 16)),
        ((500, 333), 224, 0.875, (384, 256), (80, 16)),
        ((333, 500), 224, 1.0, (224, 336), (0, 56)),
        ((301, 200), 300, 0.904, (498, 331), (99, 16)),  # margins of 99 and 15.5
    ],
)
def test_crops_are_those_of_torchvision(
    extent: tuple[int, int],
    size: int,
    crop: float,
    resized: tuple[int, int],
    corner: tuple[int, int],
) -> None:
    picture = noise(0, extent)
    left, top = corner
    by_hand = picture.resize(resized, Image.Resampling.BICUBIC).crop(
        (left, top, left + size, top + size)
    )
    found = Fit(size, grey=False, crop=crop, interpolation="bicubic")(picture.copy())
    np.testing.assert_array_equal(found, np.asarray(by_hand))


@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.integers(1, 40),
    st.floats(0.1, 1),
    st.sampled_from(["bilinear", "bicubic"]),
)
def test_any_picture_fits(
    extent: tuple[int, int], size: int, crop: float, interpolation: object
) -> None:
    """A plain colour stays what it is, whatever is cut out of it."""
    image = Fit(size, False, crop, interpolation)(Image.new("RGB", extent, (10, 20, 30)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(image, np.full((size, size, 3), (10, 20, 30)))


@given(st.integers(0, 2**32), st.integers(1, 256), st.sampled_from(["PNG", "TIFF", "PPM"]))
def test_grey_levels_of_16_bits_are_those_of_the_copy_with_8(
    seed: int, levels: int, form: str
) -> None:
    """Also of a picture without black and white, whose contrast must stay as low as it is."""
    grey = np.random.default_rng(seed).integers(0, levels, (6, 6)).astype(np.uint8)
    deep = _reread(Image.fromarray(grey.astype(np.uint16) * 257), form)
    assert deep.mode in ("I;16", "I")
    np.testing.assert_array_equal(Fit(6, grey=True)(deep)[..., 0], grey)


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([np.array([[0, 30_000]], np.uint16), np.array([[1, 2]], np.uint16)], (0, 65535)),
        ([np.array([[0, 1000]], np.uint16), np.array([[4095, 3]], np.uint16)], (0, 4095)),
        ([np.array([[0, 200]], np.uint16)], (0, 255)),
        ([np.array([[0, 257]], np.uint16), np.array([[0, 0]], np.uint16)], (0, 65535)),  # widened
        ([np.array([[0, 257]], np.uint16), np.array([[0, 5]], np.uint16)], (0, 4095)),
        ([np.array([[0, 0.25]], np.float32), np.array([[1, 0.5]], np.float32)], (0, 1)),
        ([np.array([[0, 1]], np.uint16)], (0, 255)),
        ([np.array([[-1, 0]], np.float32), np.array([[0, 3]], np.float32)], (-1, 3)),
        ([np.array([[100_000, 0]], np.int32)], (0, 100_000)),
        ([], None),
    ],
)
def test_grey_levels_that_pictures_share(
    values: list[np.ndarray], levels: tuple[float, float] | None
) -> None:
    assert common_levels([extremes(Image.fromarray(own)) for own in values]) == levels


def test_deep_grey_levels_are_scaled_alike_and_clipped() -> None:
    values = np.array([[0, 1000], [2000, 5000]], np.uint16)
    images = [Fit(2, True, levels=to)(Image.fromarray(values)) for to in (None, (0, 4095))]
    np.testing.assert_array_equal(images[0][..., 0], [[0, 4], [8, 19]])
    np.testing.assert_array_equal(images[1][..., 0], [[0, 62], [125, 255]])
    same = Fit(2, True, levels=(-3, -3))(Image.fromarray(np.full((2, 2), -3, np.int32)))
    np.testing.assert_array_equal(same, 0)


def test_a_brighter_deep_picture_is_brighter_whatever_its_largest_level(tmp_path: Path) -> None:
    """Of 12 bits and a little more, in one folder, and the folder remembers the scale."""
    for name, level in (("a", 3000), ("b", 3600)):
        (tmp_path / "deep" / name).mkdir(parents=True)
        for index in range(4):
            values = np.full((8, 8), level, np.uint16)
            values[0, 0] = 4094 + index
            Image.fromarray(values).save(tmp_path / "deep" / name / f"{index}.png")
    config = ImageFolderConfig(path=str(tmp_path / "deep"), size=8)
    domain, again = (load_domain("d", config, tmp_path / "cache") for _ in range(2))
    assert domain.levels == again.levels == (0, 65535)
    for split in domain.splits(0, 0).values():
        means = split.images.mean(axis=(1, 2, 3))
        assert np.ptp(means[split.labels == 0]) < 1
        assert means[split.labels == 1].min() > means[split.labels == 0].max()
    assert identity(config)["deep_grey"] == 1


def test_grey_levels_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="no numbers"):
        Fit(4, grey=True)(Image.fromarray(np.full((4, 4), np.nan, np.float32)))


def test_damaged_metadata_lose_no_pixels() -> None:
    """A PNG whose eXIf chunk ends in the middle of a tag."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    whole = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 100, 50)).save(whole, "PNG")
    png = whole.getvalue()
    damaged = png[:33] + chunk(b"eXIf", b"\0\x08\0\x02\x01\x12\0\x03") + png[33:]
    images = [Fit(8, grey=False)(Image.open(io.BytesIO(file))) for file in (png, damaged)]
    assert np.array_equal(*images)
