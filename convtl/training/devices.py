"""Devices of this process, and the layout of training runs on them."""

import os
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from convtl.config.schema import DevicesConfig
from convtl.errors import UserError
from convtl.models.lowering import plain_forms
from convtl.runtime.backend import core_count, prepare_jax, visible_cores

_config = DevicesConfig()


def use_all_cores() -> None:
    """Make each core a CPU device for runs; without effect once JAX is in use."""
    if core_count() < visible_cores():  # XLA's own threads know of no cluster's or launcher's limit
        os.environ.setdefault("NPROC", str(core_count()))
    _cpu_devices(core_count())


def leave_accelerators() -> None:
    """Keep a process that trains nothing off the accelerators."""
    with suppress(RuntimeError):
        jax.config.update("jax_platforms", "cpu")


def _cpu_devices(count: int) -> None:
    # JAX may be in use already (a notebook, a test): then its devices are taken as they are.
    with suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", count)


@contextmanager
def devices_as(config: DevicesConfig) -> Iterator[None]:
    """Set devices and layout of this process within the context."""
    global _config
    if jax.distributed.is_initialized() and config.split != "batch":
        raise UserError(f"devices: got '{config.split}' with distributed; accepted: batch")
    if config.count is not None:
        _cpu_devices(config.count)
        prepare_jax()
        if config.count > (most := jax.local_device_count()):
            raise UserError(
                f"devices: got {config.count}; accepted: 1 to {most}, as many as there are here"
            )
    before, _config = _config, config
    try:
        yield
    finally:
        _config = before


def devices() -> list[jax.Device]:
    """Return the devices that this process uses."""
    local: list[jax.Device] = jax.local_devices()
    return local[: _config.count]


def device_line() -> str:
    """Describe number and kind of the devices, for records."""
    layout = chosen_layout()
    each = ", each batch over all of them" if layout.split == "batch" else ""
    return f"{len(layout.devices)} x {layout.devices[0].device_kind}{each}"


def peak_memory_gib() -> float:
    """Largest resident memory of this process so far, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


@dataclass(frozen=True)
class Layout:
    """Layout of arrays of runs on devices.

    - `trials`: each device has runs of its own, and devices exchange nothing.
    - `batch`: each device has all runs, and its share of the images of every batch; XLA joins gradients and batch
      statistics (GSPMD, Xu et al. 2021). All processes have the same arrays; each puts its part on its devices.
    """

    devices: tuple[jax.Device, ...]
    split: Literal["trials", "batch"] = "trials"

    @cached_property
    def mesh(self) -> Mesh:
        return Mesh(np.asarray(self.devices), ("devices",))

    @property
    def runs(self) -> PartitionSpec:
        """Partition of arrays with the runs as first axis."""
        return PartitionSpec("devices") if self.split == "trials" else PartitionSpec()

    @property
    def batches(self) -> PartitionSpec:
        """Partition of images and labels (runs, updates, batch, ...)."""
        return self.runs if self.split == "trials" else PartitionSpec(None, None, "devices")

    def check(self, batch_size: int) -> None:
        """Raise a UserError for a batch that devices cannot share evenly."""
        if self.split == "batch" and batch_size % len(self.devices):
            raise UserError(
                f"batch_size: got {batch_size} with devices.split=batch on {len(self.devices)} devices; accepted: "
                f"a multiple of {len(self.devices)}"
            )

    def compile_call(self, call: Callable[..., Any]) -> Any:
        """Compile `convtl.training.loop._call`, donating variables and state."""
        if self.split == "batch":
            call, sharding = plain_forms()(call), NamedSharding(self.mesh, self.runs)
            return jax.jit(call, donate_argnums=(0, 1), out_shardings=sharding)
        specs = (*[self.runs] * 6, *[PartitionSpec()] * 3)
        sharded = jax.shard_map(call, mesh=self.mesh, in_specs=specs, out_specs=self.runs)
        return jax.jit(sharded, donate_argnums=(0, 1))

    def put_runs(self, trees: Sequence[Any]) -> Any:
        """Stack the trees of all runs into one of arrays on the devices."""
        return jax.tree.map(lambda *leaves: self.put(np.stack(leaves), self.runs), *trees)

    def put(self, values: np.ndarray, spec: PartitionSpec | None = None) -> Any:
        """Put an array on the devices, without a `spec` all of it on each."""
        sharding = NamedSharding(self.mesh, spec or PartitionSpec())
        if sharding.is_fully_addressable:
            return jax.device_put(values, sharding)
        return jax.make_array_from_callback(
            values.shape, sharding, lambda index: np.asarray(values[index])
        )


def chosen_layout() -> Layout:
    """Return the layout set by `devices_as`."""
    if _config.split == "trials":
        return Layout(tuple(devices()))
    processes = range(jax.process_count())  # as many of each process as of this one
    used = [device for index in processes for device in jax.local_devices(index)[: _config.count]]
    return Layout(tuple(used), "batch")
