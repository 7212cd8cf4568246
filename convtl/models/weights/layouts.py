"""How an array of a file becomes an array of a net: transposes that lose nothing."""

from collections.abc import Callable

import numpy as np

Shape = tuple[int, ...]
Make = Callable[[np.ndarray], np.ndarray]


def from_torch(wanted: Shape, given: Shape, before: Shape) -> Make | None:
    """How a PyTorch array turns into a leaf, or None where the shapes do not fit.

    PyTorch keeps kernels as (out, in, height, width) and dense weights as (out, in); here they are
    (height, width, in, out) and (in, out). A depthwise kernel, (channels, 1, height, width), becomes (height,
    width, 1, channels) by the same transpose. A dense unit that follows a feature map takes it flattened:
    there as (channels, height, width), here as (height, width, channels).

    Args:
      wanted: shape of the net's leaf.
      given: shape of the file's array.
      before: shape of one image's input to the unit.
    """
    if len(wanted) == 2:
        return _dense(wanted, given, before)
    if len(wanted) == 4 and len(given) == 2:  # a 1x1 convolution, kept as a dense layer
        given = (*given, 1, 1)
    if len(wanted) == 4:
        same = len(given) == 4 and (given[2], given[3], given[1], given[0]) == wanted
        return (lambda array: array.reshape(given).transpose(2, 3, 1, 0)) if same else None
    if wanted == given or (
        len(wanted) == 1 and given == (*wanted, 1, 1)
    ):  # (C, 1, 1): a scale for each channel
        return lambda array: array.reshape(wanted)
    return None


def _dense(wanted: Shape, given: Shape, before: Shape) -> Make | None:
    incoming, out = wanted
    if len(given) == 4 and given[2:] == (1, 1):  # a dense layer, kept as a 1x1 convolution
        given = given[:2]
    if len(before) == 3 and before[0] * before[1] * before[2] == incoming:
        height, width, channels = before
        if given not in ((out, incoming), (out, channels, height, width)):
            return None
        maps = (out, channels, height, width)
        return lambda array: array.reshape(maps).transpose(2, 3, 1, 0).reshape(wanted)
    return (lambda array: array.reshape(out, incoming).T) if given == (out, incoming) else None


def from_keras(wanted: Shape, given: Shape, before: Shape) -> Make | None:
    """As `from_torch`, for Keras, whose layout is this package's own; None where the shapes do not fit."""
    return (lambda array: array) if wanted == given else None


def colours_reversed(make: Make) -> Make:
    """The same for a first kernel that expects blue, green, red: afterwards it takes red, green, blue."""
    return lambda array: make(array)[:, :, ::-1, :]
