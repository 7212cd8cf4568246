"""Shifts of a target: the same change of all its images, none of the source's.

Noise is drawn from a stream for each image, so that it does not depend on which others are read with it.
"""

import numpy as np
from scipy import ndimage

from convtl import keys
from convtl.config.training import ShiftConfig
from convtl.data.splits import Images, Indices, Split

VERSION = 1
"""Raised when code changes the pixels."""
_BORDER = "reflect"
"""Beyond its border an image goes on as in a mirror: no dark corners, and noise stays noise."""


def shifted(
    split: Split, indices: Indices, shift: ShiftConfig, stream: tuple[str | int, ...]
) -> Images:
    """Return images of a split after the shift, in the order of `ShiftConfig`.

    `stream` names the target and its split, such as (digest of the domain, "train").
    """
    indices = np.asarray(indices, np.int64)
    if shift == ShiftConfig() or not len(indices):
        return np.array(split.images[indices])
    grey = split.images[indices].astype(np.float32) / 255
    if shift.rotation:
        # Cubic: linear interpolation would smooth the noise away, which is another shift.
        plane = {"axes": (1, 2), "reshape": False, "order": 3, "mode": _BORDER}
        grey = ndimage.rotate(grey, shift.rotation, **plane)
    if shift.blur:
        grey = ndimage.gaussian_filter(grey, shift.blur, axes=(1, 2), mode=_BORDER)
    if shift.inversion:
        grey = 1 - grey
    if shift.noise:
        name = ("shift", VERSION, *stream, "noise")
        streams = [keys.generator(0, *name, int(index)) for index in indices]
        noise = [rng.standard_normal(grey.shape[1:], dtype=np.float32) for rng in streams]
        grey = grey + shift.noise * np.stack(noise)
    return np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8)
