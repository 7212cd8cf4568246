"""Configs are data: whatever they hold, nothing in them is executed.

Hydra makes objects of what a config names: launchers, sweepers and callbacks by `_target_`, logging by
`logging.config.dictConfig`. A conf/ folder that came with somebody's data could name any function there.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from convtl.errors import UserError

_LOGGING = ("hydra.job_logging", "hydra.hydra_logging")
_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
_CLASSES = ("logging.StreamHandler", "logging.FileHandler", "logging.Formatter")


_NAMES_ONLY = ("account", "backend", "comment", "constraint", "exclude", "gres", "name", "partition", "qos")
"""Keys of launchers whose texts a file may set, where they look like names; all others could become code: lines of
a job's script, a command, an environment of a worker, an address or a folder that objects are unpickled from."""
_NAME = re.compile(r"[\w.,:@%+=/-]*(?: [\w.,:@%+=/-]+)*", re.ASCII)


def refuse_code(
    config: Mapping[str, Any],
    plugins: Collection[str],
    typed: Collection[str] = (),
    known: Collection[tuple[str, Any]] = (),
) -> None:
    """Refuses a config that names code to be executed.

    Args:
      config: as composed, nothing resolved, with the node `hydra`.
      plugins: what the installed launchers and sweepers give as their `_target_`, whole: a name that only begins
        like one could lead through its module to anything that is imported there.
      typed: keys that somebody has typed, who may have commands of a shell executed anyway.
      known: (path, text) that launchers take as they are: their own defaults, and what the package's files hold.

    Raises:
      UserError: it does; nothing was executed.
    """
    for path, value in _items(config):
        key = path.rpartition(".")[2]
        if key == "_target_" and value not in plugins:
            raise _refused(path, value, "configs that name no code, and the launchers that are installed")
        if path.startswith("hydra.callbacks."):
            raise _refused(path, value, "no callbacks")
        if path.startswith("hydra.job.env_set") and value:
            raise _refused(path, value, "variables of the shell that convtl is started from")
        if path.startswith("hydra.launcher") and not _harmless_to_launchers(path, value, typed, known):
            raise _refused(path, value, f"typed: {path}=...")
        if path.startswith(_LOGGING) and not _harmless(key, value):
            raise _refused(path, value, "Hydra's own logging")


def texts_in(node: Any, above: str) -> Iterator[tuple[str, str]]:
    """(path, text) of all texts in nested mappings and lists."""
    yield from ((path, value) for path, value in _items(node, above) if isinstance(value, str))


def _harmless_to_launchers(
    path: str, value: Any, typed: Collection[str], known: Collection[tuple[str, Any]]
) -> bool:
    """Whether a launcher makes no more of it than an option with a number or a name."""
    key = path.rpartition(".")[2]
    if any(path == own or path.startswith(f"{own}.") for own in typed) or key == "_target_":
        return True
    if not isinstance(value, str):
        return re.fullmatch(r"\w+", key, re.ASCII) is not None
    return (path, value) in known or (key in _NAMES_ONLY and _NAME.fullmatch(value) is not None)


def _harmless(key: str, value: Any) -> bool:
    """Whether `dictConfig` imports and calls nothing but handlers of the standard library for it."""
    if key in ("()", ".", "queue", "listener"):
        return False
    if key == "class":
        return value in _CLASSES
    if not isinstance(value, str) or value in _STREAMS:
        return True
    return "://" not in value and ("${" not in value or key == "filename")


def _items(node: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of everything in nested mappings and lists."""
    if isinstance(node, Mapping):
        pairs: Any = node.items()
    elif isinstance(node, list):
        pairs = enumerate(node)
    else:
        return
    for key, value in pairs:
        path = f"{above}.{key}" if above else str(key)
        yield path, value
        yield from _items(value, path)


def _refused(path: str, value: Any, accepted: str) -> UserError:
    shown = f"'{value}'" if isinstance(value, str) else "keys with values"
    return UserError(f"{path}: got {shown}, which is never executed; accepted: {accepted}")
