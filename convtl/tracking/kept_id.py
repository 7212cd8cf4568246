"""The id of the W&B run of one invocation, kept with the claims until that has ended.

So a process that is killed or preempted goes on in the same W&B run when it is started again. As with trials, an
OS lock says who is alive: two processes of one invocation never share a run.
"""

import os
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # nobody knows who is alive: nothing is kept
    fcntl = None  # type: ignore[assignment]


class KeptId:
    """One file for each invocation that has not ended.

    Args:
      out: folder of the study.
      invocation: digest of the resolved config, as in the names of `configs/`.

    Attributes:
      id: what an earlier process has left; None for a first one, or beside one that is alive.
    """

    def __init__(self, out: Path, invocation: str) -> None:
        self.id: str | None = None
        self._path = out / "claims" / f"wandb-{invocation}"
        self._file: int | None = None
        if fcntl is None:
            return
        with suppress(OSError):  # held, or a file system without locks
            self._path.parent.mkdir(parents=True, exist_ok=True)
            while self._file is None:
                self._file = _locked(self._path)
            self.id = os.pread(self._file, 200, 0).decode("utf-8", "replace").strip() or None

    def keep(self, run: str) -> None:
        """From now on a later process of this invocation goes on in `run`."""
        if self._file is not None:
            with suppress(OSError):
                os.truncate(self._file, 0)
                os.pwrite(self._file, f"{run}\n".encode(), 0)

    def forget(self) -> None:
        """The invocation has ended: the next one begins a run of its own."""
        if self._file is not None:
            with suppress(OSError):
                self._path.unlink()
        self.release()

    def release(self) -> None:
        """This process ends, the invocation goes on later."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _locked(path: Path) -> int | None:
    """The file, locked; None if its last owner has removed it meanwhile.

    Raises:
      OSError: somebody alive holds it.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
            return file
    except OSError:
        os.close(file)
        raise
    os.close(file)
    return None
