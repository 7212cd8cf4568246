"""Several processes on one net (`jax.distributed`): they do the same, one decides, and none waits for the dead.

All processes go through a study in the same order, since each takes part in every update. Whatever depends on
more than the config (what is done already, which trial can be claimed, whether it is time to stop) is decided by
process 0 and told to the others (`agreed`); only process 0 writes.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from convtl.config.schema import DistributedConfig
from convtl.errors import UserError
from convtl.runtime.stopping import REQUEUE
from convtl.secrets import redacted

_JOIN_SECONDS = 120
_BEAT_SECONDS, _SILENT_SECONDS = 2.0, 30.0
"""Each process counts in a file of its own; a count that stays for so long is that of a dead or lost process."""

_ENDED = "ended"
_start = ""
"""What tells this start of the processes from earlier ones, whose words may still be there."""

Decided = TypeVar("Decided")


class PeerLost(UserError):
    """Another process is gone, so that no update can be finished; started again, all go on where they were."""

    code = REQUEUE


def join(config: DistributedConfig | None) -> None:
    """Has this process become one of several; to be called before JAX is first used. Without effect later.

    Raises:
      UserError: the others do not come.
    """
    global _start
    if config is None or jax.distributed.is_initialized():
        return
    jax.config.update(
        "jax_enable_preemption_service", False
    )  # it would take SIGTERM from `convtl.runtime.stopping`
    jax.config.update(
        "jax_enable_recoverability", True
    )  # else JAX aborts this process when another ends
    where = config.coordinator or "found by JAX"
    apart = f"distributed: the processes did not come together within {_JOIN_SECONDS} s (coordinator {where})"
    late = threading.Timer(
        _JOIN_SECONDS, leave, [apart]
    )  # JAX's own way is an abort with a trace of C++
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(
            config.coordinator,
            config.processes,
            config.process,
            cluster_detection_method=None if config.coordinator is None else "deactivate",
            initialization_timeout=_JOIN_SECONDS + 60,
        )
        _start = _agree_on_start()
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"distributed: the processes do not come together (coordinator {where}: {reason})"
        ) from None
    finally:
        late.cancel()


def _agree_on_start() -> str:
    """A word of process 0 for all, by way of JAX's coordinator: no process has touched a device yet."""
    from jax._src.distributed import global_state  # the store has no public name

    key, client = "convtl/start", global_state.client
    assert client is not None
    if global_state.process_id == 0:
        client.key_value_set(key, token_hex(4))
    word: str = client.blocking_key_value_get(key, 1000 * _JOIN_SECONDS)
    return word


def several() -> bool:
    """Whether there are other processes; never starts JAX."""
    return jax.distributed.is_initialized()


def leading() -> bool:
    """Whether this process decides and writes."""
    return not several() or jax.process_index() == 0


def agreed(decide: Callable[[], Decided]) -> Decided:
    """What process 0 decides, on every process; with others, it is made of what JSON knows."""
    if not several():
        return decide()
    text = json.dumps(decide()).encode() if leading() else b""
    with peers_alive():
        size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
        room = np.zeros(
            1 << (size - 1).bit_length(), np.uint8
        )  # few sizes, so that few programs are compiled
        room[: len(text)] = np.frombuffer(text, np.uint8)
        told = np.asarray(multihost_utils.broadcast_one_to_all(room))[:size]
    return json.loads(bytes(told))


def anyone(here: bool) -> bool:
    """Whether it is so on any process."""
    if not several():
        return here
    with peers_alive():
        return bool(np.any(multihost_utils.process_allgather(np.asarray(here))))


@contextmanager
def peers_alive() -> Iterator[None]:
    """For what all processes do together.

    Raises:
      PeerLost: another process has not done its part.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # gloo says it in either way
        if not several() or not _by_others(str(error)):
            raise
        raise _lost(error) from None


def _by_others(told: str) -> bool:
    """Whether an error of XLA is about other processes; any other is this one's own."""
    return any(
        word in told.lower()
        for word in ("gloo", "nccl", "coordination", "connection", "peer", "unavailable")
    )


def _lost(error: Exception) -> PeerLost:
    count = jax.process_count()
    return PeerLost(
        f"distributed: another of the {count} processes is gone ({str(error).partition(chr(10))[0][:120]}); start all "
        f"{count} again, they go on from what was kept last"
    )


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Ends this process, in one line, when another has been silent for too long; whatever ends it ends it at once.

    A dead process is noticed at once by the others' connections; one that hangs, or whose machine is gone, only by
    its silence. JAX's own way out would wait for the others, who may be waiting for this one.

    Args:
      folder: that all processes see.
    """
    if not several():
        yield
        return
    kept = _end_abortions_in_a_line()
    ended = threading.Event()
    watching = threading.Thread(target=_watch, args=(folder, ended), daemon=True)
    watching.start()
    try:
        yield
    except PeerLost as error:
        _leave_after(error, folder)
    except UserError as error:
        _say(folder, f"{_ENDED} {error.code}")
        leave(str(error), error.code)
    except KeyboardInterrupt as error:
        leave(
            f"stopped by {error}; the same commands go on where they stopped",
            getattr(error, "code", 130),
        )
    except BaseException:
        print(redacted(traceback.format_exc()), file=sys.stderr)
        leave("stopped by an error of its own", 1)
    finally:
        ended.set()
        watching.join()
        _say(folder, _ENDED)
        del kept


def _leave_after(error: PeerLost, folder: Path) -> None:
    """Ends the process as the other one ended, if that has said how; such a refusal is not to be tried again."""
    time.sleep(0.5)
    for process in range(jax.process_count()):
        said = _heard(folder, process).split()
        if process != jax.process_index() and said[:1] == [_ENDED] and len(said) > 1:
            leave(f"distributed: process {process} refuses to go on, and says why", int(said[1]))
    leave(str(error))


def _end_abortions_in_a_line() -> Any:
    """Has SIGABRT end the process as a lost peer does; the handler lives as long as what is returned.

    Where process 0 is gone, JAX's client aborts from a thread of its own, maybe before gloo has said anything; it has
    no switch for that, and Python's own handlers wait for the main thread.
    """

    def aborted(number: int) -> None:
        leave("distributed: process 0 is gone; start all again, they go on from what was kept last")

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)
    ctypes.CDLL(None).signal(int(signal.SIGABRT), handler)
    return handler


def leave(line: str, code: int = REQUEUE) -> None:
    """Ends the process at once."""
    print(f"convtl: {redacted(line)}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(code)


def _beat_file(folder: Path, process: int) -> Path:
    return folder / f"process-{process}"


def _say(folder: Path, text: str) -> None:
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        _beat_file(folder, jax.process_index()).write_text(f"{_start} {text}")


def _heard(folder: Path, process: int) -> str:
    """The last word of a process; none where it has not said anything since it was started."""
    try:
        start, _, text = _beat_file(folder, process).read_text().partition(" ")
    except OSError:
        return ""
    return text if start == _start else ""


def _watch(folder: Path, ended: threading.Event) -> None:
    own, count, beat = jax.process_index(), jax.process_count(), 0
    heard = {process: ("", time.monotonic()) for process in range(count) if process != own}
    while not ended.wait(_BEAT_SECONDS):
        beat += 1
        _say(folder, f"{os.getpid()} {beat}")
        for process, (before, since) in heard.items():
            said = _heard(folder, process)
            if said != before or said.startswith(_ENDED):
                heard[process] = (said, time.monotonic())
            elif time.monotonic() - since > _SILENT_SECONDS:
                leave(
                    f"distributed: process {process} of {count} has been silent for {_SILENT_SECONDS:.0f} s; start all "
                    f"{count} again, they go on from what was kept last"
                )
