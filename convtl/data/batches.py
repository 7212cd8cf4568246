"""What a network is fed: standardised images, and which of them in which update."""

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from convtl import keys


def standardise(
    images: UInt8[np.ndarray, "*n height width channels"],
) -> Float32[np.ndarray, "*n height width channels"]:
    """Each image shifted to mean 0 and scaled to standard deviation 1, over its pixels and channels.

    Polarity and contrast would otherwise harm far sources mechanically. A constant image becomes zeros.
    """
    axes = (-3, -2, -1)
    mean = images.mean(axis=axes, keepdims=True, dtype=np.float64)
    centred = images.astype(np.float32) - mean.astype(np.float32)
    spread = np.sqrt(np.mean(np.square(centred), axis=axes, keepdims=True))
    # A single grey level in a single pixel already spreads more than this.
    smallest = np.float32(0.5 / np.sqrt(np.prod(images.shape[-3:])))
    return centred / np.maximum(spread, smallest)


def batch_indices(
    seed: int, stream: tuple[str | int, ...], n: int, batch_size: int, start: int, stop: int
) -> Int32[np.ndarray, "updates batch"]:
    """Positions into a subset of `n` images for the updates start, ..., stop - 1.

    A pure function of the stream and the update. Epoch e visits the images in the order drawn from
    (*stream, "epoch", e); batches run on from one epoch into the next, so that nothing is dropped and a
    subset may be smaller than a batch.
    """
    if n < 1 or batch_size < 1 or not 0 <= start <= stop:
        raise ValueError(
            f"no batches of {batch_size} out of {n} images for updates {start} to {stop}"
        )
    first, last = start * batch_size, stop * batch_size
    epochs = range(first // n, -(-last // n))
    orders = [keys.generator(seed, *stream, "epoch", epoch).permutation(n) for epoch in epochs]
    visited = np.concatenate([np.empty(0, np.int64), *orders]).astype(np.int32)
    offset = first - epochs.start * n
    return visited[offset : offset + last - first].reshape(stop - start, batch_size)
