"""Several processes on every run, by `jax.distributed`: all train, process 0 decides and writes.

All processes go through a study in the same order. What depends on more than the config (what is done, which trial
can be claimed, whether to stop) is decided by process 0 and broadcast. If a process is lost JAX ends the others.
"""

import json
from collections.abc import Callable
from typing import Literal, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from convtl.config.schema import DistributedConfig
from convtl.errors import UserError
from convtl.runtime.stopping import obey, requested

T = TypeVar("T")
is_distributed = jax.distributed.is_initialized  # which never starts JAX


def join(config: DistributedConfig | Literal["auto"] | None) -> None:
    """Become one of several processes; to be called before JAX is first used, without effect later.

    Raises:
      UserError: JAX does not find the others.
    """
    if config is None or is_distributed():
        return
    # JAX's own service would take SIGTERM from `convtl.runtime.stopping`.
    jax.config.update("jax_enable_preemption_service", False)
    coordinator = processes = process = None
    if config != "auto":
        coordinator, processes, process = config.coordinator, config.processes, config.process
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            cluster_detection_method="deactivate" if coordinator else None,
            initialization_timeout=120,
            heartbeat_timeout_seconds=30,  # until JAX ends those that are left when one is lost
        )
    except (RuntimeError, ValueError) as error:
        reason = f"{coordinator or 'found by JAX'}: {error}".partition("\n")[0]
        raise UserError(f"distributed: the processes do not come together ({reason})") from None


def is_primary() -> bool:
    """Return whether this process decides and writes."""
    return not is_distributed() or jax.process_index() == 0


def broadcast_from_primary(decide: Callable[[], T]) -> T:
    """Return on every process what `decide` returns on process 0; with others, it is made of JSON."""
    if not is_distributed():
        return decide()
    text = json.dumps(decide()).encode() if is_primary() else b""
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    # Powers of two: few sizes, so that few programs are compiled.
    buffer = np.frombuffer(text.ljust(1 << (size - 1).bit_length()), np.uint8)
    decided: T = json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(buffer))))
    return decided


def any_process(flag: bool) -> bool:
    """Return whether `flag` is true on any process."""
    if not is_distributed():
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def obey_together() -> None:
    """Raise `Stopped` on every process if a signal has come to any of them."""
    obey(any_process(requested()))
