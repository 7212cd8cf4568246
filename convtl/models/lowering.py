"""Which form an operation takes on which platform and for which shape: each choice beside what it was measured by.

GPU and TPU keep XLA's own operations. On CPU (JAX 0.10, 2 cores; all inside `lax.scan`, where training is):

| operation, shape | form | measured |
|---|---|---|
| convolution, stride 1, up to 128 pairs of maps, 40 wide | `banded` | LeNet-5, an update of 32: 2.3 ms, `lax` 11.7 |
| convolution, 1x1 without padding | matrix product | `lax` 3 to 10 times as long under `vmap` over kernels |
| convolution, others without groups | `canonical` | 8 of 28x28, 128 to 128 maps, 3x3: 95 ms, `lax` 1,800 |
| depthwise convolution | `shifted` | 112x112x32, forward: 2.4 ms, `lax` 209 |
| 2x2 average pooling | sums of halves | LeNet-5: 68 us an image, 74 with a mean over reshaped axes |
| other pooling | maximum of slices | XLA's windowed reduction takes longer, its gradient more so |
| normalisation | Flax's own | no other form was tried |
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
