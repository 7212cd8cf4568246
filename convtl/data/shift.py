"""Dials on a target: every image or label of it changed by a stated amount, the source left as it is.

Amounts are the same for all images; what is random (the partner that is blended in, the noise) is drawn from
a stream of each image, so that an image's result does not depend on which others are asked for with it.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int, UInt8
from scipy import ndimage

from convtl import keys
from convtl.config.training import ShiftConfig
from convtl.data.splits import Split
from convtl.errors import UserError

VERSION = 1
"""Raised whenever code changes the pixels or labels."""
_BORDER = "reflect"
"""Beyond its border an image goes on as in a mirror: no dark corners, and noise stays noise."""
_CHUNK = 2048
"""Images that are worked on at a time."""


def keeps_pixels(shift: ShiftConfig) -> bool:
    """Whether images stay as they are."""
    return not (shift.blend or shift.rotation or shift.blur or shift.inversion or shift.noise)


def shifted(
    split: Split,
    indices: Int[np.ndarray, " n"],
    shift: ShiftConfig,
    blend: Split | None,
    stream: tuple[str | int, ...],
) -> UInt8[np.ndarray, "n height width channels"]:
    """Images of a split after the shift, in the order of `ShiftConfig`; labels are not touched.

    Args:
      split: the target's.
      indices: which images; an image's result is a function of its index, the shift and the stream alone.
      shift: amounts; with all of them off the images are returned bit for bit.
      blend: the same split of the domain `shift.blend_with`; None where `shift.blend` is 0.
      stream: names the target and its split, such as (digest of the domain, "train").

    Raises:
      UserError: the images of `blend` are of another shape.
    """
    indices = np.asarray(indices, np.int64)
    partners = blend.images if blend is not None else None
    return apply_shift(split.images[indices], shift, indices, stream, partners)


def apply_shift(
    images: UInt8[np.ndarray, "n height width channels"],
    shift: ShiftConfig,
    indices: Int[np.ndarray, " n"],
    stream: tuple[str | int, ...],
    partners: UInt8[np.ndarray, "m height width channels"] | None = None,
) -> UInt8[np.ndarray, "n height width channels"]:
    """As `shifted`, for images that have been read: `indices` are their numbers in the split.

    Raises:
      UserError: the images to blend in are of another shape.
    """
    if keeps_pixels(shift) or not len(images):
        return np.array(images)
    if shift.blend:
        _check_partners(shift, images.shape[1:], partners)
    return np.concatenate(
        [
            _chunk(
                images[start : start + _CHUNK],
                shift,
                indices[start : start + _CHUNK],
                stream,
                partners,
            )
            for start in range(0, len(images), _CHUNK)
        ]
    )


def permute_labels(
    labels: Int[np.ndarray, " n"], share: float, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Labels of which a share, rounded to whole images, is permuted among themselves.

    Every class keeps its number of images. Some of the permuted labels are right by chance: with C balanced
    classes about 1 in C.
    """
    changed = np.array(labels)
    chosen = rng.permutation(len(changed))[: round(share * len(changed))]
    changed[chosen] = changed[rng.permutation(chosen)]
    return changed


def _check_partners(
    shift: ShiftConfig,
    shape: tuple[int, ...],
    partners: UInt8[np.ndarray, "m height width channels"] | None,
) -> None:
    if partners is None:
        raise ValueError("shift.blend is on, but no images to blend with were given")
    if partners.shape[1:] != shape:
        raise UserError(
            f"shift.blend_with: got '{shift.blend_with}' with images of shape {partners.shape[1:]}; accepted: "
            f"the shape of the target's, {tuple(shape)}"
        )


def _chunk(
    images: UInt8[np.ndarray, "n height width channels"],
    shift: ShiftConfig,
    indices: Sequence[int] | Int[np.ndarray, " n"],
    stream: tuple[str | int, ...],
    partners: UInt8[np.ndarray, "m height width channels"] | None,
) -> UInt8[np.ndarray, "n height width channels"]:
    grey = images.astype(np.float32) / 255
    if shift.blend and partners is not None:
        chosen = [int(_own(stream, "blend", index).integers(len(partners))) for index in indices]
        grey = (1 - shift.blend) * grey + shift.blend * (partners[chosen].astype(np.float32) / 255)
    if shift.rotation:
        # Cubic: linear interpolation would smooth the noise away, which is another shift.
        grey = ndimage.rotate(
            grey, shift.rotation, axes=(1, 2), reshape=False, order=3, mode=_BORDER
        )
    if shift.blur:
        grey = ndimage.gaussian_filter(grey, shift.blur, axes=(1, 2), mode=_BORDER)
    if shift.inversion:
        grey = 1 - grey
    if shift.noise:
        grey = grey + shift.noise * _noise(grey.shape[1:], indices, stream)
    return np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8)


def _noise(
    shape: tuple[int, ...],
    indices: Sequence[int] | Int[np.ndarray, " n"],
    stream: tuple[str | int, ...],
) -> Float32[np.ndarray, "n height width channels"]:
    drawn = [
        _own(stream, "noise", index).standard_normal(shape, dtype=np.float32) for index in indices
    ]
    return np.stack(drawn)


def _own(stream: tuple[str | int, ...], use: str, index: int) -> np.random.Generator:
    """The stream of one image for one use: dials do not change each other's draws."""
    return keys.generator(0, "shift", VERSION, *stream, use, int(index))
