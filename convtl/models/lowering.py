"""Forms of convolutions by platform, and sizes of the pieces of a batch.

GPU and TPU keep XLA's own convolutions; pooling and kernels without overlap have one form everywhere. On CPU a form
stays only for what a net that ships loses without it. Measured on JAX 0.12 with 2 cores, which had other work too, by
the trainer and the feature passes themselves: medians of the ratio of processor time, over 3 to 15 interleaved rounds.

| form | convolutions | net and task | instead of it | times as long |
| --- | --- | --- | --- | --- |
| `banded` | stride 1, 128 pairs of maps, 40 wide | LeNet-5, updates | `canonical`, `patches`, `lax` | 2.3, 2.0, 8.3 |
| `banded` | the same | LeNet-5, features | `canonical`, `patches`, `lax` | 2.6, 4.3, 2.6 |
| `winograd` | 3x3, stride 1, from 64 to 64 maps on | ResNet-18, features, 224 and 64 px | `canonical` | 1.3, 1.2 |
| `patches` | 128 maps on to 64 pixels; maps below the kernel's size | ResNet-18, last stage, 64 px | `canonical` | 22 |
| `canonical` | all others | ResNet-18, features, 224 and 64 px | `patches`, for `winograd` too | 1.7, 1.5 |
| `shifted` | depthwise | EfficientNet-Lite0, features, 64 px | `lax` | 13 |

The bounds between forms, and the sizes of pieces, are from JAX 0.10 on the same cores, in `lax.scan`. Gradients are
taken in pieces only where a batch is no more than its images: without batch statistics or dropout.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import jax

from convtl.models.forms.winograd import tiles

ConvolutionForm = Literal["lax", "banded", "canonical", "patches", "winograd"]

_BANDED_MAX_CHANNEL_PRODUCT = 128
_BANDED_MAX_WIDTH = 40
# Columns of a band. LeNet-5's two convolutions, us an image: 32 columns 72, 24 75, whole rows 111.
_BAND_COLUMNS = 32
# Forward, ms: 4 images of 14x14x256 `canonical` 11, `winograd` 7; 4 of 56x56x64 (more than 2,048 tiles) 9.6, 10.9.
_WINOGRAD_MIN_MAPS, _WINOGRAD_TILES = 64, (96, 2048)
# Both gradients, ms: 32 images of 2x2x512 `canonical` 1,160, `patches` 26; 32 of 8x8x32 1.5, 2.4.
_PATCHES_MIN_MAPS, _PATCHES_MAX_PIXELS = 128, 64

# Pixels that are inferred at a time, as maps of a whole batch leave the cache: 224 px, images/s, 32 and 2 at a time:
# EfficientNet-Lite0 98, 144. Images of at most 32x32 gain nothing. Where weights outweigh maps: AlexNet, 2 and 8: 69,
# 108.
_INFERRED_PIXELS, _INFERRED_ABOVE = 2 * 224 * 224, 32 * 32
_HEAVY, _HEAVY_AT_A_TIME = 32_000_000, 8
# Pixels and images that are differentiated at a time: 224 px, images/s, 32 and 4 at a time: Lite0 14, 25; ResNet-18 12,
# 15. LeNet-5, us an image, batch 128 whole and 32 at a time: 53, 39.
_TRAINED_PIXELS, _TRAINED_AT_A_TIME = 4 * 224 * 224, 32

_PLAIN = ContextVar("plain", default=False)


def on_cpu() -> bool:
    """Return whether tracing now uses the forms that are fast on a CPU."""
    return jax.default_backend() == "cpu" and not _PLAIN.get()


@contextmanager
def plain_forms() -> Iterator[None]:
    """Trace the body with XLA's own convolutions, the only ones that XLA shards."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def convolution_form(
    padded: tuple[int, int, int], kernel: tuple[int, ...], stride: int
) -> ConvolutionForm:
    """Form for `padded` (images, rows, columns) and `kernel` (kh, kw, in, out)."""
    if not on_cpu():
        return "lax"
    images, height, width = padded
    small = kernel[2] * kernel[3] <= _BANDED_MAX_CHANNEL_PRODUCT and width <= _BANDED_MAX_WIDTH
    if stride == 1 and small:
        return "banded"
    rows, columns = (height - kernel[0]) // stride + 1, (width - kernel[1]) // stride + 1
    down, across = tiles(rows, columns)
    fewest, most = _WINOGRAD_TILES
    if (
        (*kernel[:2], stride) == (3, 3, 1)
        and min(kernel[2:]) >= _WINOGRAD_MIN_MAPS
        and fewest <= images * down * across <= most
    ):
        return "winograd"
    many = kernel[2] >= _PATCHES_MIN_MAPS and rows * columns <= _PATCHES_MAX_PIXELS
    if many or rows < kernel[0] or columns < kernel[1]:
        return "patches"
    return "canonical"


def band_tile(width_out: int, out: int) -> int:
    """Output pixels per band: as many as its columns allow, with the least waste."""
    most = max(1, min(width_out, _BAND_COLUMNS // out))
    return min(range(1, most + 1), key=lambda tile: (-width_out % tile, -tile))


def inferred_at_a_time(
    rows: int, entering: tuple[int, ...], input_shape: tuple[int, ...], weights: int = 0
) -> int:
    """Images that a net, or a part, infers together: all, or a divisor of `rows`.

    Args:
      entering: shape of one image's input to that part.
      weights: number of weights below the head.
    """
    if not on_cpu() or len(entering) != 3 or entering[0] * entering[1] <= _INFERRED_ABOVE:
        return rows
    most = _INFERRED_PIXELS // (input_shape[0] * input_shape[1])
    return _divisor(rows, max(most, _HEAVY_AT_A_TIME) if weights > _HEAVY else most)


def trained_at_a_time(rows: int, input_shape: tuple[int, ...]) -> int:
    """Images that are differentiated together: all, or a divisor of `rows`."""
    if not on_cpu():
        return rows
    most = _TRAINED_PIXELS // (input_shape[0] * input_shape[1])
    return _divisor(rows, min(_TRAINED_AT_A_TIME, most))


def _divisor(rows: int, most: int) -> int:
    """Largest divisor of `rows` from 2 to `most`; else `rows`: one by one is slow."""
    return next((size for size in range(min(max(most, 2), rows), 1, -1) if rows % size == 0), rows)
