"""What every command begins with, and all that `--help` needs: quick to import, since it knows no Hydra and no JAX."""

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from convtl.errors import UserError
from convtl.runtime.stopping import Stopped
from convtl.secrets import redacted

GROUPS = ("experiment", "debug", "optim", "protocol", "size")
"""Folders of conf/ of which one file is chosen by name."""


def conf_folders() -> list[Path]:
    """The package's own conf/ (beside the package in a checkout, inside it in a wheel), then the user's."""
    inside, beside = Path(__file__).parent / "conf", Path(__file__).parent.parent / "conf"
    own = inside if inside.is_dir() else beside
    users = Path.cwd() / "conf"
    return [own, users] if users.is_dir() and users.resolve() != own.resolve() else [own]


def options(group: str) -> list[str]:
    """Names of the files in one folder of conf/."""
    return sorted(
        {path.stem for folder in conf_folders() for path in (folder / group).glob("*.yaml")}
    )


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


def guarded(main: Callable[[list[str]], int]) -> int:
    """Runs an entry point: a user's mistake is one line and code 2, Ctrl-C 130, another signal 75: try again.

    What nobody has thought of is code 1, with its trace but without secrets.
    """
    try:
        return main(sys.argv[1:])
    except UserError as error:
        print(f"convtl: {redacted(str(error))}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt as error:
        by = f" by {error}" if isinstance(error, Stopped) else ""
        print(f"convtl: stopped{by}; the same command goes on where it stopped", file=sys.stderr)
        return error.code if isinstance(error, Stopped) else 130
    except Exception:
        print(redacted(traceback.format_exc()), file=sys.stderr)
        return 1
