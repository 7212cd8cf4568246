"""The devices that this process trains on, and how training runs lie on them."""

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
from convtl.models.lowering import as_on_accelerators
from convtl.runtime.backend import prepare_jax
from convtl.runtime.cores import core_count, visible_cores

_config = DevicesConfig()


def use_all_cores() -> None:
    """Make one CPU device of each core; without effect once JAX is in use.

    Runs spread over devices, so that the same code serves several cores and several accelerators.
    """
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
    """Choose on which devices, and how, this process trains while this lasts.

    Raises:
      UserError: there are not so many; a CPU is as many as are asked for, unless JAX was in use before.
    """
    global _config
    if jax.distributed.is_initialized() and config.split != "batch":
        raise UserError(
            f"devices: got '{config.split}' with distributed; accepted: batch (for a study of many trials start "
            "each process by itself)"
        )
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
    """Those that this process uses."""
    local: list[jax.Device] = jax.local_devices()
    return local[: _config.count]


def device_line() -> str:
    """Number and kind of the devices, for records."""
    layout = chosen_layout()
    each = ", each batch over all of them" if layout.split == "batch" else ""
    return f"{len(layout.devices)} x {layout.devices[0].device_kind}{each}"


def peak_memory_gib() -> float:
    """Largest resident memory of this process so far, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


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
    split: Literal["trials", "batch"] = "trials"

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

    def check(self, batch_size: int) -> None:
        """Refuse a batch that devices cannot share evenly.

        Raises:
          UserError: it has a remainder.
        """
        if self.split == "batch" and batch_size % len(self.devices):
            raise UserError(
                f"batch_size: got {batch_size} with devices.split=batch on {len(self.devices)} devices; accepted: "
                f"a multiple of {len(self.devices)}"
            )

    def compile_call(self, call: Callable[..., Any]) -> Any:
        """Compile a call of all runs, with the memory of variables and state used again.

        Args:
          call: (variables, state, rates, seeds, images, labels, multipliers, first, count) ->
            (variables, state, losses).
        """
        if self.split == "batch":
            sharding = NamedSharding(self.mesh, self.runs)
            return jax.jit(as_on_accelerators(call), donate_argnums=(0, 1), out_shardings=sharding)
        specs = (*[self.runs] * 6, *[PartitionSpec()] * 3)
        sharded = jax.shard_map(call, mesh=self.mesh, in_specs=specs, out_specs=self.runs)
        return jax.jit(sharded, donate_argnums=(0, 1))

    def compile_each(self, make: Callable[..., Any]) -> Any:
        """Compile what is made of each run's arrays."""
        sharding = NamedSharding(self.mesh, self.runs)
        return jax.jit(jax.vmap(make), out_shardings=sharding)

    def put_runs(self, trees: Sequence[Any]) -> Any:
        """A tree for each run -> one tree of arrays on the devices."""
        return jax.tree.map(lambda *leaves: self._put(np.stack(leaves), self.runs), *trees)

    def put_shared(self, values: Any) -> Any:
        """The same for all runs."""
        return self._put(values, PartitionSpec())

    def local_rows(self, batch_size: int) -> slice:
        """The places of a batch that this process reads."""
        if self.split == "trials" or jax.process_count() == 1:
            return slice(0, batch_size)
        share = batch_size // jax.process_count()
        return slice(jax.process_index() * share, (jax.process_index() + 1) * share)

    def put_batches(self, values: np.ndarray, batch_size: int) -> Any:
        """Images or labels of this process: (runs, updates, local rows, ...)."""
        shape = (*values.shape[:2], batch_size, *values.shape[3:])
        batches = self.runs if self.split == "trials" else PartitionSpec(None, None, "devices")
        sharding = NamedSharding(self.mesh, batches)
        if values.shape == shape:
            return jax.device_put(values, sharding)
        return jax.make_array_from_process_local_data(sharding, values, shape)

    def _put(self, values: Any, spec: PartitionSpec) -> Any:
        sharding = NamedSharding(self.mesh, spec)
        if all(device.process_index == jax.process_index() for device in self.devices):
            return jax.device_put(values, sharding)
        # Every process has the same values and gives its devices what is theirs.
        return jax.make_array_from_callback(
            values.shape, sharding, lambda index: np.asarray(values[index])
        )


def chosen_layout() -> Layout:
    """How training runs lie on devices, as `devices_as` has it."""
    if _config.split == "batch" and jax.process_count() > 1:  # as many of each process as of this
        by_process: dict[int, list[jax.Device]] = {}
        for device in jax.devices():
            by_process.setdefault(device.process_index, []).append(device)
        of_all = [by_process[index][: _config.count] for index in sorted(by_process)]
        return Layout(tuple(device for some in of_all for device in some), "batch")
    return Layout(tuple(devices()), _config.split)
