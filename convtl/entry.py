"""Common parts of all commands, importable without Hydra and JAX."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from convtl.errors import UserError, redacted
from convtl.runtime.stopping import Stopped

GROUPS = ("experiment", "debug", "optim", "recipe")
"""Folders of conf/ of which one file is chosen by name."""


def conf_folders() -> list[Path]:
    """Return the package's conf/, then the user's if there is one."""
    inside, beside = Path(__file__).parent / "conf", Path(__file__).parent.parent / "conf"
    package = inside if inside.is_dir() else beside
    users = Path.cwd() / "conf"
    has_own = users.is_dir() and users.resolve() != package.resolve()
    return [package, users] if has_own else [package]


def options(group: str) -> list[str]:
    """Return the names of the files in one folder of conf/."""
    files = (path for folder in conf_folders() for path in (folder / group).glob("*.yaml"))
    return sorted({path.stem for path in files})


def folder(key: str, typed: str) -> Path:
    """Return a typed path as an absolute one; `~` is the home folder.

    Raises:
      UserError: there is no such home folder, or it is the address of something remote.
    """
    if "://" in typed:
        raise UserError(f"{key}: got '{typed}'; accepted: a folder of this machine, no address")
    try:
        return Path(typed).expanduser().absolute()
    except RuntimeError:
        raise UserError(f"{key}: got '{typed}'; there is no such home folder") from None


def keywords(words: list[str], defaults: dict[str, str | None], usage: str) -> dict[str, str]:
    """Return `key=value` words over defaults; keys with default None are required.

    Raises:
      UserError: a key is unknown, empty or missing.
    """
    given = dict(word.split("=", 1) for word in words if "=" in word)
    values = {key: value for key, value in {**defaults, **given}.items() if value is not None}
    if len(given) < len(words) or values.keys() != defaults.keys() or "" in given.values():
        raise UserError(f"got '{' '.join(words)}'; accepted: {usage}")
    return values


class _Lenient:
    """A stream that replaces unprintable characters and drops failed writes.

    Attributes:
      error: the first failure: a closed pipe, a full disk.
    """

    def __init__(self, stream: Any) -> None:
        stream.reconfigure(errors="backslashreplace")
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            self.error = self.error or error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # what is buffered goes there at the end
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def lenient_output() -> None:
    """Make stdout and stderr drop what cannot be written."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the process
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif not isinstance(stream, _Lenient):
            setattr(sys, name, _Lenient(stream))


def is_read() -> bool:
    """Return whether output still arrives: no closed pipe, no full disk."""
    return getattr(sys.stdout, "error", None) is None


def command(main: Callable[[list[str]], int]) -> NoReturn:
    """Run a command and exit with its code.

    On failure the process exits at once: the interpreter's shutdown would free memory in use by threads of XLA, and
    wait for other processes, which wait for this one.
    """
    lenient_output()
    code = guarded(main)
    sys.stdout.flush()
    error = getattr(sys.stdout, "error", None)
    if error is not None and not isinstance(error, BrokenPipeError):
        print(f"convtl: output: {error.strerror}", file=sys.stderr)
        code = code or 1
    sys.stderr.flush()
    if code:
        os._exit(code)
    sys.exit(0)


def guarded(main: Callable[[list[str]], int], words: list[str] | None = None) -> int:
    """Run a command on words (None: those typed); turn errors into exit codes.

    `--help` prints the module's docstring with the names of conf/ filled in. A user's mistake or a storage error is
    code 2; Ctrl-C 130, another signal 75: try again. Any other error is code 1, with its trace but without secrets.
    """
    words = sys.argv[1:] if words is None else words
    try:
        if {"-h", "--help"} & set(words):
            groups = ("experiment", "domains", "models", "regimes")
            names = {group: ", ".join(options(group)) for group in groups}
            print(str(sys.modules[main.__module__].__doc__).format(**names))
            return 0
        return main(words)
    except UserError as error:
        line, code = str(error), error.code
    except KeyboardInterrupt as error:
        code = error.code if isinstance(error, Stopped) else 130
        by = f" by {error}" if isinstance(error, Stopped) else ""
        line = f"stopped{by}; the same command goes on where it stopped"
    except OSError as error:
        place = f"'{os.fsdecode(error.filename)}': " if error.filename else ""
        line, code = f"{place}{error.strerror or error}", 2
    except Exception:
        print(redacted(traceback.format_exc()), file=sys.stderr)
        return 1
    print(f"convtl: {redacted(line)}", file=sys.stderr)
    return code
