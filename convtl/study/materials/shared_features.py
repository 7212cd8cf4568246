"""Prefix features on disk, of a net that all replicates share.

Imported weights are the same in every replicate, and so is what enters the boundary for an image. The
features of a whole split are written to the cache; trials and processes map them into memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from convtl.data.inputs import LazyRows, normalised
from convtl.keys import digest
from convtl.models.network import Network
from convtl.storage.cache import Cache
from convtl.study.materials.source_nets import Start
from convtl.study.materials.target_data import TargetData
from convtl.training.features import Images, passes

KIND = "features"  # folder in the cache
VERSION = 3  # raised whenever code changes the features
_FILE = "rows.npy"


@dataclass(frozen=True)
class Prefix:
    """The frozen part of a net (with its model's digest), and the fixed target whose images enter it."""

    network: Network
    start: Start
    data: TargetData
    model: str

    def key(self, boundary: int, split: str) -> str:
        """Digest of all that the features at a boundary depend on."""
        names, how = self.network.names[:boundary], self.data.normalisation
        weights = [digest(self.start.digests[name]) for name in names]
        images = [self.data.domain.digest, split, how and repr(how)]
        return digest([VERSION, self.model, names, weights, images])


class SharedFeatures:
    """Features by boundary, each computed at most once on this machine."""

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
        """Compute features from those at the highest boundary below, or from the images.

        The one gives the same bits as the other (`features.through_units`).
        """
        network, unit = prefix.network, prefix.network.names[boundary]
        pixels = prefix.data.splits[split].images
        count, shape = len(pixels), network.shape_before(boundary)
        below = [i for i in range(1, boundary) if prefix.key(i, split) in self._open]
        how = prefix.data.normalisation
        inputs: Images = LazyRows(
            lambda at: normalised(pixels[at], how), np.arange(count), pixels.shape[1:]
        )
        if below:
            inputs = self._open[prefix.key(below[-1], split)]
        done = 0
        # As a file, not through a memory map: a full disk is then an error and not a signal.
        with (folder / _FILE).open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (count, *shape)}
            np.lib.format.write_array_header_1_0(file, header)
            first = below[-1] if below else 0
            for values in passes(network, prefix.start.variables, first, boundary, inputs):
                file.write(np.ascontiguousarray(values, "<f4").tobytes())
                done += len(values)
                self._say(f"features before {unit} ({split}): {done} of {count} images")
