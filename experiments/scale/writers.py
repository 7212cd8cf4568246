"""Many processes on one `out`: what appending and claiming take.

Apart from the other steps, as its processes should be quick to start: nothing here imports JAX.
"""

import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import Figures, measure

from convtl.keys import digest
from convtl.study.claims import Claims
from convtl.study.store import RowStore

_APPENDS = 200
_ROW = {"trial": "0" * 16, "status": "done", "seconds": 0.04, "reason": "x" * 1250}
"""As long as a row of LeNet-5."""


def append(out: str, writers: str) -> Figures:
    """Processes that append to one folder, each row flushed to disk."""
    with tempfile.TemporaryDirectory(dir=out, prefix="writers-") as folder:
        context = multiprocessing.get_context("spawn")
        start = context.Barrier(int(writers) + 1)
        workers = [
            context.Process(target=_append, args=(folder, start)) for _ in range(int(writers))
        ]
        for worker in workers:
            worker.start()
        start.wait()
        began = time.perf_counter()
        for worker in workers:
            worker.join()
        taken = time.perf_counter() - began
        there = len(RowStore(Path(folder)).read())
    if there != int(writers) * _APPENDS:
        raise RuntimeError(f"{there} rows of {int(writers) * _APPENDS} are there")
    return {"rows a second": there / taken}


def _append(folder: str, start: Any) -> None:
    store = RowStore(Path(folder))
    store.prepare()
    me = multiprocessing.current_process().name
    rows = [_ROW | {"trial": digest([me, number])} for number in range(_APPENDS)]
    start.wait()
    for row in rows:
        store.append(row)


def claim(out: str, held: str) -> Figures:
    """Taking and giving back a claim while others hold so many in the one lock file."""
    with tempfile.TemporaryDirectory(dir=out, prefix="writers-") as folder:
        context = multiprocessing.get_context("spawn")
        ready, done = context.Event(), context.Event()
        holder = context.Process(target=_hold, args=(folder, int(held), ready, done))
        holder.start()
        ready.wait()
        claims, names = Claims(Path(folder)), [digest(["mine", number]) for number in range(500)]
        began = time.perf_counter()
        taken = [name for name in names if claims.take(name)]
        claims.release(taken)
        each = (time.perf_counter() - began) / len(names)
        claims.close()
        done.set()
        holder.join()
    if len(taken) != len(names):
        raise RuntimeError("a claim was refused that nobody held")
    return {"seconds": each}


def _hold(folder: str, held: int, ready: Any, done: Any) -> None:
    claims = Claims(Path(folder))
    for number in range(held):
        claims.take(digest(["other", number]))
    ready.set()
    done.wait()


if __name__ == "__main__":
    measure([append, claim])
