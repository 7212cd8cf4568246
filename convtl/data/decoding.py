"""Many pictures to rows of a file: here while there are few, else by Grain with several processes.

What a row holds depends on its picture alone, never on how many processes there are or who was faster.
"""

import os
import signal
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal, Protocol

from PIL import Image, UnidentifiedImageError

from convtl.config.schema import DataConfig
from convtl.data.pictures import Fit
from convtl.data.rows import Rows
from convtl.runtime.cores import core_count

Fault = Literal["broken", "too large", "no picture", "of another shape"]
"""Why a picture is left out; `broken` ends in .jpg or the like and cannot be read, `no picture` does not."""
Job = tuple[int, int]
"""(row to write, index of the picture)"""
_Verdict = tuple[int, str]
"""(index of the picture, "" or a fault or `_LATER`)"""

_LATER = "later"
_ALONE = 200
"""Pictures that are read in this process first: so few are done before others could have started ..."""
_ALONE_SECONDS = 2.0
"""... unless they take longer than this."""
_WORTH_PROCESSES = 10.0
"""Seconds of work from which on starting other processes (1 to 3 s each) is worth it."""
_BLOCK = 16
"""Pictures that are fetched together, and travel together to a process, at most ..."""
_BLOCK_SECONDS = 0.5
"""... and how long it may take, since a process ends only between blocks."""
_BYTES_A_PIXEL = 16
"""Memory that a picture takes while it is decoded, turned, laid on white and converted, at most."""
_BYTES_A_PROCESS = 250e6
"""Memory of a process that has read nothing yet."""
_SECONDS_BETWEEN_LINES = 5.0


class Source(Protocol):
    """Where pictures come from; is sent to other processes."""

    @property
    def fit(self) -> Fit: ...

    def ahead(self, indices: Sequence[int]) -> None:
        """Told which pictures are opened next, in case it is cheaper to fetch them together."""

    def open(self, index: int) -> Image.Image:
        """The picture at this index, opened but not decoded; to be closed. Raises whatever goes wrong."""

    def looks_like_a_picture(self, index: int) -> bool:
        """Whether somebody would miss the picture if it cannot be read."""


@dataclass(frozen=True)
class Means:
    """What decoding may use.

    Attributes:
      data: memory and processes.
      say: takes a line about how far it is.
    """

    data: DataConfig = field(default_factory=DataConfig)
    say: Callable[[str], None] | None = None

    def tell(self, line: str) -> None:
        if self.say:
            self.say(line)


def decode(
    source: Source, jobs: Sequence[Job], rows: Rows, means: Means, title: str
) -> dict[int, Fault]:
    """Writes the image of each job's picture to its row.

    Args:
      source: the pictures.
      jobs: which picture goes to which row.
      rows: a file that was created.
      means: memory, processes, progress.
      title: what is decoded, for the lines of progress.

    Returns:
      Index of a picture -> why it was left out; its row is as it was before.
    """
    progress = _Rate(len(jobs), title, means)
    faults: dict[int, str] = {}

    def note(verdicts: Sequence[_Verdict]) -> None:
        faults.update((index, fault) for index, fault in verdicts if fault)
        progress.add(sum(fault != _LATER for _, fault in verdicts))

    alone = _Task(source, rows)
    for start in range(0, len(jobs), _BLOCK):
        if workers := _worth_processes(progress, means):
            together = int(min(_BLOCK, max(1, _BLOCK_SECONDS * start / progress.seconds)))
            _by_many(alone, _blocks(jobs[start:], together), workers, means, note)
            break
        note(alone(jobs[start : start + _BLOCK]))
    places = {index: row for row, index in jobs}
    for index in sorted(index for index, fault in faults.items() if fault == _LATER):
        del faults[index]
        note(alone([(places[index], index)]))
    progress.finish()
    return faults  # type: ignore[return-value]


def _blocks(jobs: Sequence[Job], size: int) -> list[tuple[Job, ...]]:
    return [tuple(jobs[start : start + size]) for start in range(0, len(jobs), size)]


def _worth_processes(progress: "_Rate", means: Means) -> int:
    """How many processes to hand the rest to; 0: go on here."""
    done, total, seconds = progress.done, progress.total, progress.seconds
    if not done or (done < _ALONE and seconds < _ALONE_SECONDS):
        return 0
    wanted = means.data.workers
    if wanted == 1 or total <= _ALONE:
        return 0
    if wanted is None:
        if (total - done) * seconds / done < _WORTH_PROCESSES:
            return 0
        fitting = int(means.data.memory_gb * 1e9 / 2 // _BYTES_A_PROCESS)
        wanted = min(core_count(), fitting)
    return wanted if wanted > 1 else 0


def _by_many(
    alone: "_Task",
    blocks: Sequence[tuple[Job, ...]],
    workers: int,
    means: Means,
    note: Callable[[Sequence[_Verdict]], None],
) -> None:
    """Several processes decode; should they not work on this machine, this one goes on."""
    task = replace(alone, most_bytes=means.data.memory_gb * 1e9 / 2 / workers)
    seen = 0
    try:
        for verdicts in _in_processes(task, blocks, min(workers, len(blocks))):
            note(verdicts)
            seen += 1
    except (
        Exception
    ) as error:  # a process may be killed, or none can be started: slower is better than not
        reason = " ".join(str(error).split()) or type(error).__name__
        means.tell(f"decoding with {workers} processes failed ({reason[:200]}); going on with one")
    for block in blocks[seen:]:
        note(alone(block))


@dataclass(frozen=True)
class _Task:
    """What is done with a block of pictures, wherever.

    Attributes:
      most_bytes: a picture that needs more memory is left for later, when it is alone.
    """

    source: Source
    rows: Rows
    most_bytes: float | None = None

    def __call__(self, block: Sequence[Job]) -> list[_Verdict]:
        self.source.ahead([index for _, index in block])
        return [self.one(job) for job in block]

    def one(self, job: Job) -> _Verdict:
        row, index = job
        try:
            with warnings.catch_warnings():  # of Pillow: odd tags, sizes just below what it refuses
                warnings.simplefilter("ignore")
                with self.source.open(index) as picture:
                    needed = picture.width * picture.height * _BYTES_A_PIXEL
                    if self.most_bytes is not None and needed > self.most_bytes:
                        return index, _LATER
                    image = self.source.fit(picture)
        except MemoryError:  # says nothing about the picture
            raise
        except Image.DecompressionBombError:
            return index, "too large"
        except UnidentifiedImageError:
            return index, "broken" if self.source.looks_like_a_picture(index) else "no picture"
        except Exception:  # decoders of damaged files raise nearly anything
            return index, "broken"
        if image.shape != self.rows.shape:
            return index, "of another shape"
        self.rows.write(row, image)
        return index, ""


def _in_processes(
    task: _Task, blocks: Sequence[tuple[Job, ...]], workers: int
) -> Iterator[Sequence[_Verdict]]:
    """Grain's results, in the order of the blocks."""
    import grain
    from absl import flags

    if (
        not flags.FLAGS.is_parsed()
    ):  # Grain reads flags of its own, which a program without absl never parses
        flags.FLAGS.mark_as_parsed()
    results = iter(
        grain.MapDataset.source(blocks)
        .map(task)
        .to_iter_dataset(grain.ReadOptions(num_threads=0))
        .mp_prefetch(
            grain.MultiprocessingOptions(workers, per_worker_buffer_size=2), worker_init_fn=_begin
        )
    )
    try:
        with _without_main():
            first = list(islice(results, workers))  # one of each process: all have started
        yield from first
        yield from results
    finally:
        results.close()


def _begin(index: int, count: int) -> None:
    """In a new process: Ctrl-C is for the parent to handle, and nobody outlives it, however it ends."""
    import multiprocessing

    del index, count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def _without_main() -> Iterator[None]:
    """Processes that start meanwhile do not run the program's main module again.

    They need nothing of it, it takes seconds (JAX), and a script without `if __name__ == "__main__"` would
    start all over in each.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class _Rate:
    """Says now and then how many pictures are done, and how many a second."""

    def __init__(self, total: int, title: str, means: Means) -> None:
        self.total, self._title, self._means = total, title, means
        self.done, self._began = 0, time.monotonic()
        self._last = self._began
        means.tell(f"{title}: 0 of {total}")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def add(self, count: int) -> None:
        self.done += count
        if time.monotonic() - self._last > _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self._line()

    def finish(self) -> None:
        if self._last > self._began:
            self._line()

    def _line(self) -> None:
        rate = self.done / max(self.seconds, 1e-9)
        self._means.tell(f"{self._title}: {self.done} of {self.total}, {rate:.0f} a second")
