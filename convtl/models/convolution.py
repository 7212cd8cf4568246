"""Convolution, and what it becomes on each platform. GPU and TPU keep `lax.conv_general_dilated`.

On CPU, XLA hands a convolution to Eigen only if its axes are in one order (images NHWC, kernel HWIO), and puts
them in that order only outside loops. The two convolutions of a backward pass have other orders; inside a scan,
where all training is, they fall back to plain loops: 15 to 80 times slower. So on CPU

- `canonical` writes both convolutions of the backward pass in that order itself, and under `vmap` over images and
  kernels makes one convolution for each lane (XLA's grouped convolution is 3 to 8 times slower a lane);
- a 1x1 convolution is a matrix product;
- `winograd`, for 3x3 kernels and many maps, has fewer than half of the multiplications (`convtl.models.winograd`);
- `patches`, for small maps, is one matrix product of all patches that the kernel sees (Eigen's convolution is slow
  there, and far slower where the kernel is larger than the maps);
- `banded`, for few channels, is one matrix product for the images' rows, a few pixels at a time (the kernel laid
  out as a banded matrix).

Which one is taken is said in `convtl.models.lowering`.

Milliseconds for forward and backward of 8 images of 28x28 with 128 -> 128 maps, 3x3, on 2 cores: `lax` 62 outside
a scan, 1,800 in one, 3,600 a lane with 2 lanes; `canonical` 95 in a scan. A whole update of ResNet-20
(8 images of 32x32, CPU time): `lax` 46 outside and 610 inside; `canonical` 40 inside, 46 with one lane, 49 a lane
with two. (JAX 0.10.)
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float

from convtl.models.lowering import Lowering, band_tile, convolution_form
from convtl.models.winograd import Sides, winograd

Padding = int | tuple[tuple[int, int], tuple[int, int]]
"""Rows and columns of zeros: the same on every side, or ((top, bottom), (left, right))."""


def conv2d(
    x: Float[Array, "batch height width in"],
    kernel: Float[Array, "kh kw in_per_group out"],
    *,
    stride: int = 1,
    padding: Padding = 0,
    groups: int = 1,
    lowering: Lowering = "auto",
) -> Float[Array, "batch height2 width2 out"]:
    """Cross-correlation with explicit zero padding, as PyTorch's `conv2d`.

    Output map i sees the input maps of group i // (out / groups). On CPU, what `auto` gives can be differentiated
    in reverse mode only.

    Raises:
      ValueError: the form asked for cannot do it; see `convolution_form`.
    """
    sides: Sides = ((padding, padding), (padding, padding)) if isinstance(padding, int) else padding
    batch, height, width, _ = x.shape
    padded = (batch, height + sum(sides[0]), width + sum(sides[1]))
    chosen = convolution_form(lowering, padded, kernel.shape, stride, groups)
    if chosen == "lax":
        # As in `_apart`: its backward pass would cut where there is more padding than the kernel reaches.
        if any(max(both) >= span for both, span in zip(sides, kernel.shape, strict=False)):
            x, sides = jnp.pad(x, ((0, 0), *sides, (0, 0))), ((0, 0), (0, 0))
        return _lax(x, kernel, stride, sides, groups=groups)
    if chosen == "canonical":
        if kernel.shape[:2] == (1, 1) and sides == ((0, 0), (0, 0)):
            return x[:, ::stride, ::stride] @ kernel[0, 0]
        return _canonical(x, kernel, stride, sides)
    if chosen == "winograd":
        return winograd(x, kernel, sides)
    x = jnp.pad(x, ((0, 0), *sides, (0, 0)))
    if chosen == "banded":
        return _banded(x, kernel)
    # Patches are images several times over: made anew for the backward pass, not kept.
    return jax.checkpoint(partial(_patches, stride=stride), prevent_cse=False)(x, kernel)


def _lax(
    x: Array,
    kernel: Array,
    stride: int,
    sides: Sides,
    *,
    groups: int = 1,
    dilation: int = 1,
    kernel_dilation: int = 1,
) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=sides,
        lhs_dilation=(dilation, dilation),
        rhs_dilation=(kernel_dilation, kernel_dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _by_lane(convolution: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """The same, but one convolution for each lane where `vmap` runs over images and kernels both."""
    alone = custom_vmap(convolution)

    @alone.def_vmap
    def _(lanes: int, batched: list[bool], x: Array, kernel: Array) -> tuple[Array, bool]:
        if all(batched):
            return jnp.stack([alone(x[lane], kernel[lane]) for lane in range(lanes)]), True
        return jax.vmap(convolution, [0 if own else None for own in batched])(x, kernel), True

    return alone


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _canonical(x: Array, kernel: Array, stride: int, sides: Sides) -> Array:
    return _by_lane(partial(_lax, stride=stride, sides=sides))(x, kernel)


def _forward(
    x: Array, kernel: Array, stride: int, sides: Sides
) -> tuple[Array, tuple[Array, Array]]:
    return _canonical(x, kernel, stride, sides), (x, kernel)


def _apart(x: Array, sides: Sides, dilation: int) -> tuple[Array, Sides, int]:
    """Images to convolve with padding and zeros between, and what is left of both: none where `sides` cut off.

    XLA on CPU is wrong about padding of -1 before and 1 after (JAX 0.10).
    """
    if min(map(min, sides)) >= 0:
        return x, sides, dilation
    edges = [(0, 0, 0), *((low, high, dilation - 1) for low, high in sides), (0, 0, 0)]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), edges), ((0, 0), (0, 0)), 1


def _edges(
    size: int, span: int, outputs: int, stride: int, low: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """In one direction, zeros before and after y for the pull on images, and images for that on the kernel."""
    reach = (outputs - 1) * stride + 1
    before = span - 1 - low
    return (before, size + span - 1 - reach - before), (low, reach + span - 1 - size - low)


def _backward(
    stride: int, sides: Sides, kept: tuple[Array, Array], pull: Array
) -> tuple[Array, Array]:
    """Cotangents of images and kernel: two convolutions with axes in the order that Eigen takes.

    With y[i] = sum_u k[u] x[s i + u - p] in each direction: x[m] is pulled by y[i] through k[m - s i + p], which
    is a convolution of y with s - 1 zeros between its values and the flipped kernel; k[u] is pulled by y[i]
    through x[s i + u - p], a convolution of the images with y, its values s apart, as the kernel.
    """
    x, kernel = kept
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    rows, columns = (
        _edges(x.shape[axis], kernel.shape[axis - 1], pull.shape[axis], stride, sides[axis - 1][0])
        for axis in (1, 2)
    )
    pulled, to_images, dilation = _apart(pull, (rows[0], columns[0]), stride)
    images = _by_lane(partial(_lax, stride=1, sides=to_images, dilation=dilation))(pulled, flipped)
    x, to_kernel, _ = _apart(x, (rows[1], columns[1]), 1)
    weights = _by_lane(partial(_lax, stride=1, sides=to_kernel, kernel_dilation=stride))(
        x.transpose(3, 1, 2, 0), pull.transpose(1, 2, 0, 3)
    )
    return images, weights.transpose(1, 2, 0, 3)


_canonical.defvjp(_forward, _backward)


def _patches(
    x: Float[Array, "batch height width in"], kernel: Float[Array, "kh kw in out"], stride: int
) -> Float[Array, "batch height2 width2 out"]:
    batch, height, width, channels = x.shape
    kh, kw, _, out = kernel.shape
    down, across = (height - kh) // stride, (width - kw) // stride
    patches = jnp.concatenate(
        [
            x[:, i : i + down * stride + 1 : stride, j : j + across * stride + 1 : stride]
            for i in range(kh)
            for j in range(kw)
        ],
        axis=-1,
    )
    product = patches.reshape(-1, kh * kw * channels) @ kernel.reshape(-1, out)
    return product.reshape(batch, down + 1, across + 1, out)


def _banded(
    x: Float[Array, "batch height width in"], kernel: Float[Array, "kh kw in out"]
) -> Float[Array, "batch height2 width2 out"]:
    """One matrix product for all tiles: a few neighbouring output pixels of a row, in all maps.

    A tile is a linear map of a patch of kh input rows and as many columns as its pixels see: its (kh * columns *
    in) values times a matrix in which the kernel is shifted along the tile. Wider tiles multiply more zeros,
    narrower ones repeat more input and have matrices too thin for the machine (`convtl.models.lowering`).
    """
    batch, height, width, channels = x.shape
    kh, kw, _, out = kernel.shape
    rows_out, width_out = height - kh + 1, width - kw + 1
    tile = band_tile(width_out, out)
    tiles, columns = -(-width_out // tile), tile + kw - 1
    shift = np.zeros((kw, columns, tile), kernel.dtype)
    for offset in range(kw):
        shift[offset, np.arange(tile) + offset, np.arange(tile)] = 1
    band = jnp.einsum("yxio,xwp->ywipo", kernel, shift).reshape(kh * columns * channels, tile * out)
    x = jnp.pad(x, ((0, 0), (0, 0), (0, tiles * tile - width_out), (0, 0)))
    strips = jnp.stack([x[:, :, at * tile : at * tile + columns] for at in range(tiles)], 2)
    strips = strips.reshape(batch, height, tiles, columns * channels)
    patches = jnp.concatenate([strips[:, i : i + rows_out] for i in range(kh)], axis=-1)
    product = patches.reshape(-1, kh * columns * channels) @ band
    return product.reshape(batch, rows_out, tiles * tile, out)[:, :, :width_out]
