"""One place that sets JAX's devices up, and says what this process runs on."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import jax

from convtl.config.schema import DevicesConfig
from convtl.errors import UserError
from convtl.runtime.cores import core_count, visible_cores
from convtl.training.layout import Layout

_config = DevicesConfig()


def use_all_cores() -> None:
    """Makes one CPU device of each core; to be called before JAX is first used, without effect later.

    Lanes spread over devices, so that the same code serves several cores and several accelerators.
    """
    if core_count() < visible_cores():  # XLA's own threads know of no cluster's or launcher's limit
        os.environ.setdefault("NPROC", str(core_count()))
    _cpu_devices(core_count())


def _cpu_devices(count: int) -> None:
    # JAX may be in use already (a notebook, a test): then its devices are taken as they are.
    with suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", count)


@contextmanager
def devices_as(config: DevicesConfig) -> Iterator[None]:
    """Chooses on which devices, and how, this process trains while this lasts.

    Raises:
      UserError: there are not so many; a CPU is as many as are asked for, unless JAX was in use before.
    """
    global _config
    if jax.distributed.is_initialized() and config.split != "batch":
        raise UserError(
            f"devices: got '{config.split}' with distributed; accepted: batch (for a study of many trials start each "
            "process by itself, with shards=N shard=I)"
        )
    if config.count is not None:
        _cpu_devices(config.count)
        if config.count > (there := jax.local_device_count()):
            raise UserError(
                f"devices: got {config.count}; accepted: 1 to {there}, as many as there are here"
            )
    before, _config = _config, config
    try:
        yield
    finally:
        _config = before


def devices() -> list[jax.Device]:
    """Those that this process uses."""
    return jax.local_devices()[: _config.count]


def chosen() -> Layout:
    """How training runs lie on devices."""
    if _config.split == "batch" and jax.process_count() > 1:
        return Layout(_of_all_processes(), "batch")
    return Layout(tuple(devices()), _config.split)


def _of_all_processes() -> tuple[jax.Device, ...]:
    """As many of each process as this one uses."""
    count = jax.process_count()
    each = [
        [device for device in jax.devices() if device.process_index == index]
        for index in range(count)
    ]
    return tuple(device for own in each for device in own[: _config.count])


def leave_accelerators() -> None:
    """Keeps a process that trains nothing from taking the memory of an accelerator that others need."""
    with suppress(RuntimeError):
        jax.config.update("jax_platforms", "cpu")


def device_count() -> int:
    """How many devices this process uses."""
    return len(devices())


def device_line() -> str:
    """Number and kind of the devices, for records."""
    layout = chosen()
    each = ", each batch over all of them" if layout.split == "batch" else ""
    return f"{len(layout.devices)} x {layout.devices[0].device_kind}{each}"


def peak_memory_gib() -> float:
    """Largest resident memory of this process so far, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
