"""Shifts of a target: every image or label of it changed by a stated amount, the source left as it is.

Amounts are the same for all images; what is random (the partner that is blended in, the noise) is drawn from
a stream of each image, so that its result does not depend on which others are read with it.
"""

import numpy as np
from scipy import ndimage

from convtl import keys
from convtl.config.training import ShiftConfig
from convtl.data.splits import Images, Indices, Labels, Split
from convtl.errors import UserError

VERSION = 1
"""Raised whenever code changes the pixels or labels."""
_BORDER = "reflect"
"""Beyond its border an image goes on as in a mirror: no dark corners, and noise stays noise."""
_CHUNK = 2048
"""Images that are worked on at a time."""


def keeps_pixels(shift: ShiftConfig) -> bool:
    """Return whether images stay as they are."""
    return not (shift.blend or shift.rotation or shift.blur or shift.inversion or shift.noise)


def shifted(
    split: Split,
    indices: Indices,
    shift: ShiftConfig,
    blend: Split | None,
    stream: tuple[str | int, ...],
) -> Images:
    """Return images of a split after the shift, in the order of `ShiftConfig`; labels are not touched.

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
    if keeps_pixels(shift) or not len(indices):
        return np.array(split.images[indices])
    if shift.blend:
        if blend is None:
            raise ValueError("shift.blend is on, but no images to blend with were given")
        if blend.images.shape[1:] != split.images.shape[1:]:
            raise UserError(
                f"shift.blend_with: got '{shift.blend_with}' with images of shape {blend.images.shape[1:]}; "
                f"accepted: the shape of the target's, {split.images.shape[1:]}"
            )
    chunks = (indices[start : start + _CHUNK] for start in range(0, len(indices), _CHUNK))
    return np.concatenate([_chunk(split, chunk, shift, blend, stream) for chunk in chunks])


def _chunk(
    split: Split,
    indices: Indices,
    shift: ShiftConfig,
    blend: Split | None,
    stream: tuple[str | int, ...],
) -> Images:
    def streams(use: str) -> list[np.random.Generator]:
        """Return a stream for each image and use: amounts do not change each other's draws."""
        return [keys.generator(0, "shift", VERSION, *stream, use, int(index)) for index in indices]

    grey = split.images[indices].astype(np.float32) / 255
    if shift.blend and blend is not None:
        chosen = [int(rng.integers(len(blend.images))) for rng in streams("blend")]
        partners = blend.images[chosen].astype(np.float32) / 255
        grey = (1 - shift.blend) * grey + shift.blend * partners
    if shift.rotation:
        # Cubic: linear interpolation would smooth the noise away, which is another shift.
        plane = {"axes": (1, 2), "reshape": False, "order": 3, "mode": _BORDER}
        grey = ndimage.rotate(grey, shift.rotation, **plane)
    if shift.blur:
        grey = ndimage.gaussian_filter(grey, shift.blur, axes=(1, 2), mode=_BORDER)
    if shift.inversion:
        grey = 1 - grey
    if shift.noise:
        noise = [rng.standard_normal(grey.shape[1:], dtype=np.float32) for rng in streams("noise")]
        grey = grey + shift.noise * np.stack(noise)
    return np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8)


def permute_labels(labels: Labels, share: float, rng: np.random.Generator) -> Labels:
    """Permute a share of the labels, rounded to whole images, among themselves.

    Every class keeps its number of images. Some of the permuted labels are right by chance: with C balanced
    classes about 1 in C.
    """
    changed = np.array(labels)
    chosen = rng.permutation(len(changed))[: round(share * len(changed))]
    changed[chosen] = changed[rng.permutation(chosen)]
    return changed
