"""Prefix features on disk: of a net that all replicates share, computed once for a domain and a boundary.

A net whose weights came from elsewhere is the same in every replicate, and so is what its frozen units say of
an image. For each boundary that a study asks for, the features of a whole split are written to the cache, from
where trials and processes map them into memory. Units are applied one by one, each by a program of its own, so
that features do not depend on which other boundaries were asked for, or on where a pass began.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from convtl.cache import Cache
from convtl.data.domains import Domain
from convtl.data.inputs import Gathered, Normalisation, normalised
from convtl.keys import digest
from convtl.models.network import Network, Variables
from convtl.training.features import rows_at_once

KIND = "features"
"""Folder of prefix features in the cache."""
VERSION = 1
"""Raised whenever code changes the features."""
_FILE = "rows.npy"
_AHEAD = 2
"""Chunks on their way on each device."""


@dataclass(frozen=True)
class Prefix:
    """The frozen part of a net, on the images of a domain.

    Attributes:
      weights: digest of the weights of every unit, in order.
      model: digest of what the model's name stands for.
    """

    network: Network
    variables: Variables
    weights: tuple[str, ...]
    model: str
    domain: Domain
    normalisation: Normalisation | None

    def key(self, boundary: int, split: str) -> str:
        """Digest of all that the features at a boundary depend on."""
        how = None if self.normalisation is None else repr(self.normalisation)
        return digest(
            {
                "weights": self.weights[:boundary],
                "model": self.model,
                "names": self.network.names[:boundary],
                "domain": self.domain.digest,
                "split": split,
                "normalisation": how,
                "version": VERSION,
            }
        )


class SharedFeatures:
    """Features by boundary, each computed at most once on this machine.

    Args:
      say: takes a line about what is being computed.
    """

    def __init__(self, cache: Cache, say: Callable[[str], None]) -> None:
        self._cache, self._say = cache, say
        self._announced: dict[str, set[int]] = {}
        self._open: dict[str, np.ndarray] = {}

    def announce(self, prefix: Prefix, boundary: int) -> None:
        """Says that a boundary will be asked for, so that one pass over the images serves several."""
        self._announced.setdefault(self._place(prefix), set()).add(boundary)

    def rows(self, prefix: Prefix, boundary: int, split: str, positions: np.ndarray) -> Gathered:
        """What enters unit number `boundary` for the images at `positions` of the split."""
        wanted = {*self._announced.get(self._place(prefix), ()), boundary}
        for index in sorted(index for index in wanted if index <= boundary):
            key = prefix.key(index, split)
            if key not in self._open:
                folder = self._cache.get_or_build(KIND, key, partial(self._fill, prefix, index, split))
                self._open[key] = np.load(folder / _FILE, mmap_mode="r")
        return Gathered(self._open[prefix.key(boundary, split)], positions)

    @staticmethod
    def _place(prefix: Prefix) -> str:
        return prefix.key(len(prefix.network.units) - 1, "")  # heads are each replicate's own

    def _fill(self, prefix: Prefix, boundary: int, split: str, folder: Path) -> None:
        """Computes one boundary's features from the nearest one below that is known, or from the images."""
        first, read, count = self._below(prefix, boundary, split)
        shape = prefix.network.shape_before(boundary)
        rows = np.lib.format.open_memmap(folder / _FILE, mode="w+", dtype=np.float32, shape=(count, *shape))
        at_once = rows_at_once(prefix.network.input_shape)
        done = 0
        for begin, values in _passes(prefix, first, boundary, read, count, at_once):
            rows[begin : begin + len(values)] = values
            done += len(values)
            self._say(f"features before {prefix.network.names[boundary]} ({split}): {done} of {count} images")
        rows.flush()

    def _below(
        self, prefix: Prefix, boundary: int, split: str
    ) -> tuple[int, Callable[[slice], np.ndarray], int]:
        """Where to begin: index of the unit, what enters it for a slice of images, number of images."""
        known = [i for i in range(1, boundary) if prefix.key(i, split) in self._open]
        if known:
            rows = self._open[prefix.key(known[-1], split)]
            return known[-1], lambda part: np.asarray(rows[part]), len(rows)
        images = prefix.domain.split(split).images
        return 0, lambda part: normalised(np.asarray(images[part]), prefix.normalisation), len(images)


def _passes(
    prefix: Prefix,
    first: int,
    boundary: int,
    read: Callable[[slice], np.ndarray],
    count: int,
    at_once: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """(place of the first image, features) of one chunk of images after another, spread over the devices."""
    devices = jax.local_devices()
    names = prefix.network.names[first:boundary]
    own = [jax.device_put([prefix.variables[name] for name in names], device) for device in devices]
    modules = [module for _, module in prefix.network.units[first:boundary]]
    ahead: deque[tuple[int, int, jax.Array]] = deque()
    for number, begin in enumerate(range(0, count, at_once)):
        values = read(slice(begin, begin + at_once))
        missing = at_once - len(values)
        if missing:  # one shape for all chunks
            values = np.concatenate([values, np.zeros((missing, *values.shape[1:]), values.dtype)])
        place = number % len(devices)
        x = jax.device_put(values, devices[place])
        for module, variables in zip(modules, own[place], strict=True):
            x = _through(module, variables, x)
        ahead.append((begin, at_once - missing, x))
        if len(ahead) > _AHEAD * len(devices):
            yield _arrived(*ahead.popleft())
    while ahead:
        yield _arrived(*ahead.popleft())


def _arrived(begin: int, count: int, values: jax.Array) -> tuple[int, np.ndarray]:
    return begin, np.asarray(values)[:count]


@partial(jax.jit, static_argnums=0)
def _through(module: nn.Module, variables: Any, x: jax.Array) -> jax.Array:
    """One unit in inference mode; equal units share the program."""
    return jax.numpy.asarray(module.apply(variables, x, train=False))
