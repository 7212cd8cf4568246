"""Which form an operation takes on which platform and for which shape: each choice beside what it was measured by.

GPU and TPU keep XLA's own convolutions; pooling and 1x1 convolutions have one form everywhere. On CPU (JAX 0.10, 2
cores; all inside `lax.scan`, where training is):

| operation, shape | form | measured |
|---|---|---|
| convolution, stride 1, up to 128 pairs of maps, 40 wide | `banded` | LeNet-5, an update of 32: 2.3 ms, `lax` 11.7 |
| convolution, 1x1 without padding | matrix product | `lax` 3 to 10 times as long under `vmap` over kernels |
| convolution, others without groups | `canonical` | 8 of 28x28, 128 to 128 maps, 3x3: 95 ms, `lax` 1,800 |
| depthwise convolution | `shifted` | 112x112x32, forward: 2.4 ms, `lax` 209 |
| 2x2 average pooling | sums of halves | LeNet-5: 68 us an image, 74 with a mean over reshaped axes |
| 2x2 maximum; others | over reshaped axes; of slices | XLA's windowed reduction takes longer, its gradient more |
| normalisation | Flax's own | no other form was tried |
| inference from maps above 32x32 on | 2 images at a time | EfficientNet-Lite0: 144 images/s, 32 at a time 98 |
| gradients of nets for images above 64x64 | 4 images at a time | EfficientNet-Lite0: 25 images/s, 32 at a time 14 |
| gradients of nets for smaller images | 32 images at a time | LeNet-5, batch 64: 43 us an image, all at a time 51 |

Gradients are taken in pieces only where a batch is no more than its images: with batch statistics held (`norm_mode`)
or none in the net, and no dropout.
"""

from typing import Literal

import jax

Lowering = Literal["auto", "lax", "banded", "canonical"]
DepthwiseLowering = Literal["auto", "lax", "shifted"]

_BANDED_MAX_CHANNEL_PRODUCT = 128
_BANDED_MAX_WIDTH = 40
# Columns of a band. LeNet-5 on one core (5x5 kernels; columns of conv1 and conv2, us an image, batch 32):
# 24 and 32: 72, 42 and 32: 79, 24 and 80: 75, 42 and 80: 81, 42 and 16: 91, whole rows (168 and 160): 111.
_BAND_COLUMNS = 32

# Maps of a whole batch leave the cache, and a program's memory comes anew from the system at each call. Features of
# images of 224 px, images/s on 2 cores, 32, 4, 2 and 1 at a time: EfficientNet-Lite0 98, 132, 144, 148; MobileNetV2
# 119, 183, 203, 200; ResNet-18 45, 49, 47, 27 (kernels are laid out anew each time); ResNet-50 18, 21, 20, 20.
# LeNet-5 (28 px) and ResNet-20 (32 px) gain nothing.
# Features as studies compute them (EfficientNet-Lite0): 143 in one program for all units, 90 with one for each.
_INFERRED_AT_A_TIME, _INFERRED_ABOVE = 2, 32 * 32
# Updates of all layers, images/s, 32, 4 and 2 at a time: EfficientNet-Lite0 14, 25, 28; ResNet-18 12, 15, 14.
# LeNet-5, us an image, batch 64 whole and 32 at a time: 51 and 43; batch 128 whole, 32 and 16 at a time: 53, 39, 39.
_TRAINED_AT_A_TIME, _SMALL_TRAINED_AT_A_TIME, _SMALL = 4, 32, 64 * 64


def on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def convolution_form(
    asked: Lowering, width: int, kernel: tuple[int, ...], stride: int, groups: int
) -> Lowering:
    """`lax`, `banded` or `canonical`.

    Args:
      width: of the padded images.
      kernel: its shape, (kh, kw, in / groups, out).

    Raises:
      ValueError: `banded` with a stride or groups, or `canonical` with groups: there is no such form.
    """
    if asked == "banded" and (stride, groups) != (1, 1):
        raise ValueError(f"a banded convolution has no stride {stride} and no {groups} groups")
    if asked == "canonical" and groups != 1:
        raise ValueError(f"a canonical convolution has no {groups} groups")
    if asked != "auto":
        return asked
    if not on_cpu() or groups != 1:
        return "lax"
    small = kernel[2] * kernel[3] <= _BANDED_MAX_CHANNEL_PRODUCT and width <= _BANDED_MAX_WIDTH
    return "banded" if stride == 1 and small else "canonical"


def band_tile(width_out: int, out: int) -> int:
    """Output pixels of a row that one band computes: as many as its columns allow, and wasting fewest."""
    most = max(1, min(width_out, _BAND_COLUMNS // out))
    return min(range(1, most + 1), key=lambda tile: (-width_out % tile, -tile))


def depthwise_form(asked: DepthwiseLowering) -> DepthwiseLowering:
    """`lax` or `shifted`."""
    if asked != "auto":
        return asked
    return "shifted" if on_cpu() else "lax"


def inferred_at_a_time(rows: int, shape: tuple[int, ...]) -> int:
    """How many of `rows` maps of `shape` go through a net together in inference mode: all, or a divisor of `rows`."""
    large = len(shape) == 3 and shape[0] * shape[1] > _INFERRED_ABOVE
    return _divisor(rows, _INFERRED_AT_A_TIME) if on_cpu() and large else rows


def trained_at_a_time(rows: int, input_shape: tuple[int, ...]) -> int:
    """How many of a batch go together through a net for such images when it is trained: all, or a divisor of `rows`.

    For nets with maps, in whose training no image depends on the others of its batch.
    """
    if not on_cpu():
        return rows
    small = input_shape[0] * input_shape[1] <= _SMALL
    return _divisor(rows, _SMALL_TRAINED_AT_A_TIME if small else _TRAINED_AT_A_TIME)


def _divisor(rows: int, most: int) -> int:
    """The largest number from 2 to `most` that divides `rows`; `rows` if none does: single images are slow."""
    return next((few for few in range(most, 1, -1) if rows % few == 0), rows)
