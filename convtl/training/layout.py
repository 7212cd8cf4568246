"""How runs lie on devices: each device its share of the runs, or all devices every run, each its share of a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from convtl.errors import UserError
from convtl.models.lowering import as_on_accelerators

Split = Literal["trials", "batch"]


@dataclass(frozen=True)
class Layout:
    """Runs over devices.

    - `trials`: a program takes so many runs on each device, and devices exchange nothing.
    - `batch`: a program takes so many runs in all; each device has their weights, and its share of the images of
      every batch, so that what an update needs beside weights falls as devices are added. XLA joins gradients and
      the statistics of batch normalisation over devices (GSPMD, Xu et al. 2021): an update is that of one device
      but for the order of sums. Convolutions are then XLA's own on any platform.

    Attributes:
      devices: with `batch` possibly those of several processes, each with as many.
    """

    devices: tuple[jax.Device, ...]
    split: Split = "trials"

    @cached_property
    def mesh(self) -> Mesh:
        return Mesh(np.asarray(self.devices), ("devices",))

    @property
    def copies(self) -> int:
        """How many times the runs of a recipe travel together."""
        return len(self.devices) if self.split == "trials" else 1

    @property
    def runs(self) -> PartitionSpec:
        """Of arrays with the runs as first axis."""
        return PartitionSpec("devices") if self.split == "trials" else PartitionSpec()

    @property
    def batches(self) -> PartitionSpec:
        """Of images and labels: (runs, updates, batch, ...)."""
        return self.runs if self.split == "trials" else PartitionSpec(None, None, "devices")

    def check(self, batch_size: int) -> None:
        """Refuses a batch that devices cannot share evenly.

        Raises:
          UserError: it has a remainder.
        """
        if self.split == "batch" and batch_size % len(self.devices):
            raise UserError(
                f"batch_size: got {batch_size} with devices.split=batch on {len(self.devices)} devices; accepted: "
                f"a multiple of {len(self.devices)}"
            )

    def program(self, chunk: Callable[..., Any]) -> Any:
        """Compiles a chunk of updates of all runs: (variables, state, rates, seeds, multipliers, numbers, images,
        labels) -> (variables, state, losses); the memory of variables and state is used again.
        """
        if self.split == "trials":
            own, shared = self.runs, PartitionSpec()
            specs = (own, own, own, own, shared, shared, own, own)
            sharded = jax.shard_map(chunk, mesh=self.mesh, in_specs=specs, out_specs=own)
            return jax.jit(sharded, donate_argnums=(0, 1))
        return jax.jit(
            as_on_accelerators(chunk),
            donate_argnums=(0, 1),
            out_shardings=self._sharding(self.runs),
        )

    def fresh(self, make: Callable[[Any], Any]) -> Any:
        """Compiles what is made of each run's variables."""
        return jax.jit(jax.vmap(make), out_shardings=self._sharding(self.runs))

    def by_run(self, trees: Sequence[Any]) -> Any:
        """A tree for each run -> one tree of arrays on the devices."""
        return jax.tree.map(lambda *leaves: self._put(np.stack(leaves), self.runs), *trees)

    def shared(self, values: np.ndarray) -> Array:
        """The same for all runs."""
        return self._put(values, PartitionSpec())

    def own_rows(self, batch_size: int) -> slice:
        """The places of a batch that this process reads."""
        if self.split == "trials" or jax.process_count() == 1:
            return slice(0, batch_size)
        share = batch_size // jax.process_count()
        return slice(jax.process_index() * share, (jax.process_index() + 1) * share)

    def put_batches(self, values: np.ndarray, batch_size: int) -> Array:
        """Images or labels of the places that this process reads: (runs, updates, own rows, ...)."""
        shape = (*values.shape[:2], batch_size, *values.shape[3:])
        sharding = self._sharding(self.batches)
        if values.shape == shape:
            return jax.device_put(values, sharding)
        return jax.make_array_from_process_local_data(sharding, values, shape)

    def _sharding(self, spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(self.mesh, spec)

    def _put(self, values: np.ndarray, spec: PartitionSpec) -> Array:
        if all(device.process_index == jax.process_index() for device in self.devices):
            return jax.device_put(values, self._sharding(spec))
        # Every process has the same values and gives its devices what is theirs.
        return jax.make_array_from_callback(
            values.shape, self._sharding(spec), partial(_at, values)
        )


def _at(values: np.ndarray, index: Any) -> np.ndarray:
    return np.asarray(values[index])
