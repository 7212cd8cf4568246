"""Configs are data: whatever they hold, nothing in them is executed.

Hydra makes objects of what a config names: launchers, sweepers and callbacks by `_target_`, logging by
`logging.config.dictConfig`. A conf/ folder that came with somebody's data could name any function there.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from convtl.errors import UserError

_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
_CLASSES = ("logging.StreamHandler", "logging.FileHandler", "logging.Formatter")


_NAMES_ONLY = (
    "account",
    "backend",
    "comment",
    "constraint",
    "exclude",
    "gres",
    "name",
    "partition",
    "qos",
)
"""Keys of launchers whose texts a file may set, where they look like names; all others could become code: lines of
a job's script, a command, an environment of a worker, an address or a folder that objects are unpickled from."""
_NAME = re.compile(r"[\w.,:@%+=/-]*(?: [\w.,:@%+=/-]+)*", re.ASCII)
_OF_THE_COMMAND = (
    ("hydra", "overrides"),
    ("hydra", "runtime"),
    ("hydra", "job", "override_dirname"),
)
"""What Hydra says of a command, and takes from no file."""

Path = tuple[str, ...]


def refuse_code(
    config: Mapping[str, Any],
    plugins: Collection[str],
    typed: Collection[str] = (),
    known: Collection[tuple[Path, Any]] | None = None,
) -> None:
    """Refuses a config that names code to be executed.

    Args:
      config: as composed, nothing resolved, with the node `hydra`.
      plugins: what may be a `_target_`, whole, of the installed launchers and sweepers: a name that only begins
        like one could lead through its module to anything that is imported there.
      typed: keys that somebody has typed, who may have commands of a shell executed anyway.
      known: (path, value) of all that Hydra, its plugins and the package have below `hydra` by themselves; None where
        no other files were read.

    Raises:
      UserError: it does; nothing was executed.
    """
    own = [tuple(key.split(".")) for key in typed]
    for path, value in _items(config):
        if path[-1] == "_target_" and value not in plugins:
            raise _refused(
                path, value, "configs that name no code, and the launcher that is asked for"
            )
        if path[:1] == ("hydra",) and not any(path[: len(of)] == of for of in _OF_THE_COMMAND):
            _refuse_of_hydra(path, value, any(path[: len(key)] == key for key in own), known)


def _refuse_of_hydra(
    path: Path, value: Any, typed: bool, known: Collection[tuple[Path, Any]] | None
) -> None:
    if path[:2] == ("hydra", "callbacks") and len(path) > 2:
        raise _refused(path, value, "no callbacks")
    if path[:3] == ("hydra", "job", "env_set") and value:
        raise _refused(path, value, "variables of the shell that convtl is started from")
    if (
        path[:3] == ("hydra", "sweeper", "params") and value
    ):  # composed where nobody looks at it any more
        raise _refused(path, value, "values typed after one another")
    if path[1:2] in (("job_logging",), ("hydra_logging",)) and not _harmless(path[-1], value):
        raise _refused(path, value, "Hydra's own logging")
    if typed or known is None:
        return
    if isinstance(value, Mapping | list):
        harmless = re.fullmatch(r"[\w/.-]+", path[-1], re.ASCII) is not None
    else:
        harmless = (path, value) in known or (
            path[1] == "launcher" and _harmless_to_launchers(path, value)
        )
    if not harmless:
        raise _refused(path, value, f"typed: {'.'.join(path)}=...")


def _harmless_to_launchers(path: Path, value: Any) -> bool:
    """Whether a launcher makes no more of it than an option with a number or a name."""
    if not all(re.fullmatch(r"\w+", key, re.ASCII) for key in path):
        return False
    if path[-1] == "_target_" or value is None or type(value) in (bool, int, float):
        return len(path) > 2
    return type(value) is str and path[-1] in _NAMES_ONLY and _NAME.fullmatch(value) is not None


def leaves(node: Any, above: Path) -> Iterator[tuple[Path, Any]]:
    """(path, value) of all in nested mappings and lists that is neither."""
    return (pair for pair in _items(node, above) if not isinstance(pair[1], Mapping | list))


def _harmless(key: str, value: Any) -> bool:
    """Whether `dictConfig` imports and calls nothing but handlers of the standard library for it."""
    if key in ("()", ".", "queue", "listener"):
        return False
    if key == "class":
        return value in _CLASSES
    if not isinstance(value, str) or value in _STREAMS:
        return True
    return "://" not in value and ("${" not in value or key == "filename")


def _items(node: Any, above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """(path, value) of everything in nested mappings and lists."""
    if isinstance(node, Mapping):
        pairs: Any = node.items()
    elif isinstance(node, list):
        pairs = enumerate(node)
    else:
        return
    for key, value in pairs:
        path = (*above, str(key))
        yield path, value
        yield from _items(value, path)


def _refused(path: Path, value: Any, accepted: str) -> UserError:
    shown = (
        f"'{value}'"
        if isinstance(value, str)
        else "a value"
        if not isinstance(value, Mapping)
        else "keys with values"
    )
    said = f"{'.'.join(path)}: got {shown}, which is never executed; accepted: {accepted}"
    return UserError(" ".join(said.split()))
