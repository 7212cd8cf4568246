"""Prefix features on disk: of a net that all replicates share, computed once for a domain and a boundary.

A net whose weights came from elsewhere is the same in every replicate, and so is what its frozen units say of
an image. For each boundary that a study asks for, the features of a whole split are written to the cache, from
where trials and processes map them into memory. Nothing is joined across units (`features.through_units`), so that
features do not depend on which other boundaries were asked for, or on where a pass began.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import jax
import numpy as np

from convtl.data.domains import Domain
from convtl.data.inputs import Gathered, LazyImages, Normalisation
from convtl.keys import digest
from convtl.models.network import Network, Variables
from convtl.storage.cache import Cache, refuse_without_room
from convtl.training.devices import devices
from convtl.training.features import Images, arrived, chunks, rows_at_once, through_units

KIND = "features"
"""Folder of prefix features in the cache."""
VERSION = 3
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
                folder = self._cache.get_or_build(
                    KIND, key, partial(self._fill, prefix, index, split)
                )
                self._open[key] = np.load(folder / _FILE, mmap_mode="r")
        return Gathered(self._open[prefix.key(boundary, split)], positions)

    @staticmethod
    def _place(prefix: Prefix) -> str:
        return prefix.key(len(prefix.network.units) - 1, "")  # heads are each replicate's own

    def _fill(self, prefix: Prefix, boundary: int, split: str, folder: Path) -> None:
        """Computes one boundary's features from the nearest one below that is known, or from the images."""
        first, images = self._below(prefix, boundary, split)
        count = len(images)
        shape = prefix.network.shape_before(boundary)
        unit = prefix.network.names[boundary]
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
            for values in passes(prefix.network, prefix.variables, first, boundary, images):
                file.write(np.ascontiguousarray(values, "<f4").tobytes())
                done += len(values)
                self._say(f"features before {unit} ({split}): {done} of {count} images")

    def _below(self, prefix: Prefix, boundary: int, split: str) -> tuple[int, Images]:
        """Where to begin: index of the unit, and what enters it for every image."""
        known = [i for i in range(1, boundary) if prefix.key(i, split) in self._open]
        if known:
            return known[-1], self._open[prefix.key(known[-1], split)]
        images = prefix.domain.split(split).images
        every = np.arange(len(images))
        return 0, LazyImages(
            lambda chosen: images[chosen], every, images.shape[1:], prefix.normalisation
        )


def passes(
    network: Network, variables: Variables, first: int, boundary: int, images: Images
) -> Iterator[np.ndarray]:
    """What enters unit `boundary` for one chunk of images after another, in order; computed on all devices.

    Whichever boundary is wanted, and from whichever a pass begins, the bits are the same (`through_units`).

    Args:
      first: index of the unit that `images` enter.
    """
    used = devices()
    names = network.names[first:boundary]
    own = [jax.device_put({name: variables[name] for name in names}, device) for device in used]
    ahead: deque[tuple[jax.Array, int]] = deque()
    for number, (_, values, there) in enumerate(chunks(images, rows_at_once(network.input_shape))):
        place = number % len(used)
        x = jax.device_put(values, used[place])
        ahead.append((through_units(network, first, boundary, own[place], x), there))
        if len(ahead) > _AHEAD * len(used):
            yield arrived(*ahead.popleft())
    while ahead:
        yield arrived(*ahead.popleft())
