"""Prefix features on disk, of a net that all replicates share.

Imported weights are the same in every replicate, and so is what enters the boundary for an image. The
features of a whole split are written to the cache; trials and processes map them into memory. Where
they are computed from changes no bit (`features.through_units`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from convtl.data.domains import Domain
from convtl.data.inputs import LazyRows, Normalisation, normalised
from convtl.keys import digest
from convtl.models.network import Network, Variables
from convtl.storage.cache import Cache, refuse_without_room
from convtl.training.devices import devices
from convtl.training.features import Images, chunks, over_devices, rows_at_once, through_units

KIND = "features"
"""Folder of prefix features in the cache."""
VERSION = 3
"""Raised whenever code changes the features."""
_FILE = "rows.npy"


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
        return digest(
            {
                "weights": self.weights[:boundary],
                "model": self.model,
                "names": self.network.names[:boundary],
                "domain": self.domain.digest,
                "split": split,
                "normalisation": None if self.normalisation is None else repr(self.normalisation),
                "version": VERSION,
            }
        )

    def images(self, split: str) -> LazyRows:
        """All images of a split, in order."""
        pixels, how = self.domain.split(split).images, self.normalisation
        positions = np.arange(len(pixels))
        return LazyRows(lambda at: normalised(pixels[at], how), positions, pixels.shape[1:])


class SharedFeatures:
    """Features by boundary, each computed at most once on this machine.

    Args:
      say: takes a line about what is being computed.
    """

    def __init__(self, cache: Cache, say: Callable[[str], None]) -> None:
        self._cache, self._say = cache, say
        self._open: dict[str, np.ndarray] = {}

    def rows(self, prefix: Prefix, boundary: int, split: str, positions: np.ndarray) -> LazyRows:
        """What enters unit number `boundary` for the images at `positions` of the split."""
        name = prefix.key(boundary, split)
        if name not in self._open:
            fill = partial(self._fill, prefix, boundary, split)
            folder = self._cache.get_or_build(KIND, name, fill)
            self._open[name] = np.load(folder / _FILE, mmap_mode="r")
        rows = self._open[name]
        return LazyRows(rows.__getitem__, positions, rows.shape[1:])

    def _fill(self, prefix: Prefix, boundary: int, split: str, folder: Path) -> None:
        """Compute features from those at the highest boundary below, or from the images."""
        network, unit = prefix.network, prefix.network.names[boundary]
        below = [i for i in range(1, boundary) if prefix.key(i, split) in self._open]
        first = below[-1] if below else 0
        inputs = self._open[prefix.key(first, split)] if below else prefix.images(split)
        count, shape = len(inputs), network.shape_before(boundary)
        refuse_without_room(
            folder,
            4 * count * prod(shape),
            f"features of {count} images before {unit}",
            self._cache.root,
            "choose another folder with cache=... or train more units",
        )
        done = 0
        # As a file, not through a memory map: a full disk is then an error and not a signal.
        with (folder / _FILE).open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (count, *shape)}
            np.lib.format.write_array_header_1_0(file, header)
            for values in passes(network, prefix.variables, first, boundary, inputs):
                file.write(np.ascontiguousarray(values, "<f4").tobytes())
                done += len(values)
                self._say(f"features before {unit} ({split}): {done} of {count} images")


def passes(
    network: Network, variables: Variables, first: int, boundary: int, images: Images
) -> Iterator[np.ndarray]:
    """Compute what enters unit `boundary`, chunk by chunk, on all devices.

    Args:
      first: index of the unit that `images` enter; it changes no bit.
    """
    units = {name: variables[name] for name in network.names[first:boundary]}
    apply = partial(through_units, network, first, boundary)
    return over_devices(apply, units, chunks(images, rows_at_once(network.input_shape)), devices())
