"""One place that sets JAX's devices up, and says what this process runs on."""

import resource
import sys
from contextlib import suppress

import jax

from convtl.cores import core_count


def use_all_cores() -> None:
    """Makes one CPU device of each core; to be called before JAX is first used, without effect later.

    Lanes spread over devices, so that the same code serves several cores and several accelerators.
    """
    # JAX may be in use already (a notebook, a test): then its devices are taken as they are.
    with suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", core_count())


def device_count() -> int:
    """Devices of this process, over which lanes spread."""
    return jax.local_device_count()


def device_line() -> str:
    """Number and kind of the devices, for records."""
    devices = jax.local_devices()
    return f"{len(devices)} x {devices[0].device_kind}"


def peak_memory_gib() -> float:
    """Largest resident memory of this process so far, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
