"""Jobs that a launcher has started on this machine, and how all of them are asked to keep their work and end.

Each job says in a file that it is there: who is still starting, or has nothing to do, would die of a signal, and
joblib would kill the others for it.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from convtl.runtime.stopping import handed_on, one_job

_EVERY = 0.5
"""Seconds after which jobs that have begun meanwhile are asked, too."""


@contextmanager
def announced(folder: Path) -> Iterator[None]:
    """One job of this process, known to who waits for it.

    Raises:
      Stopped: this process was asked to stop, now or in an earlier job.
    """
    with one_job():
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / str(os.getpid())
        file.touch()
        try:
            yield
        finally:
            with suppress(OSError):
                file.unlink()


@contextmanager
def asking_jobs(folder: Path) -> Iterator[None]:
    """For who waits for jobs: a signal has them keep their work and end, those that come later too.

    Raises:
      Stopped: there was a signal; raised at the end, when nobody has anything left to keep.
    """
    asked, over = threading.Event(), threading.Event()

    def ask() -> None:
        while not over.wait(_EVERY):
            if asked.is_set():
                _ask(folder)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        with handed_on(asked.set):
            yield
    finally:
        over.set()
        asking.join()
        with suppress(OSError):
            folder.rmdir()


def _ask(folder: Path) -> None:
    """Ends the jobs below this process that have said that they are there."""
    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            if (folder / str(child.pid)).exists():
                with suppress(psutil.Error):
                    child.terminate()
