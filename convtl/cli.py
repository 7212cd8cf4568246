"""The Hydra boundary: words of a command line -> one `Invocation` of plain data, or one clear line.

Nothing but this file knows Hydra. It composes; what keys and values are accepted, `convtl.config` knows. Words that
cannot be parsed or composed, and launchers that are not there, are a `UserError`.
"""

import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from convtl.config.schema import AXES, DEFAULTS, REGISTRIES
from convtl.entry import GROUPS, conf_folders, options
from convtl.errors import UserError, unknown_name
from convtl.runtime.backend import LIMIT, core_count
from convtl.study.grid import refuse_hidden

_FAULTS = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, RecursionError)

_APPENDED = ("experiment", "recipe")
"""Groups that are not in the defaults list; their files hold differences, and later ones win."""

_AS_TYPED = re.compile(r"^(out|cache|question|(.*\.)?(path|data_dir|letters))$")
_OVERRIDE = re.compile(r"^(?P<prefix>\+\+|\+|~)?(?P<key>[\w./@:-]+)(=(?P<value>.*))?$", re.DOTALL)


@dataclass(frozen=True)
class Invocation:
    """A command line: one study, or with `-m` the points of a sweep."""

    words: tuple[str, ...]  # overrides as typed
    contents: tuple[dict[str, Any], ...]  # the composed config of each point, as plain data
    multirun: bool
    launcher: str  # name of what starts the jobs; `basic` runs them here

    @property
    def command(self) -> str:
        """The command of the whole study: without workers, and without what is meant for Hydra."""
        words = [
            word for word in self.words if not word.lstrip("+").startswith(("worker=", "hydra"))
        ]
        return shlex.join(["python", "-m", "convtl.run", *["-m"] * self.multirun, *words])


def read(argv: Sequence[str]) -> Invocation:
    """Compose everything that a command line asks for."""
    words = [word for word in argv if word not in ("-m", "--multirun")]
    multirun, launcher = len(words) < len(argv), "basic"
    for word in filter(_for_hydra, words):
        key, _, value = word.lstrip("+~").partition("=")
        named = key == "hydra/launcher"
        if not multirun or not (named or key.startswith("hydra.launcher.")) or "_target_" in word:
            accepted = "-m with hydra/launcher=NAME and hydra.launcher.KEY=VALUE"
            raise UserError(f"{key}: got '{value}'; accepted: {accepted}, which names no code")
        launcher = value if named else launcher
    if launcher not in (names := ["basic", *options("hydra/launcher")]):
        raise unknown_name("hydra/launcher", launcher, names)
    contents = tuple(map(compose, points(words) if multirun else [words]))
    typed = typed_keys(words)
    for content in contents:
        refuse_hidden(typed, content)
        tracking = content.get("tracking")
        online = isinstance(tracking, dict) and tracking.get("mode") == "online"
        if online and "tracking.mode" not in typed:  # a folder's conf/ publishes nothing
            raise UserError(
                "tracking.mode: got 'online' from a file; accepted: typed, as tracking.mode=online"
            )
    return Invocation(tuple(words), contents, multirun, launcher)


# --- words -> Hydra's overrides ---------------------------------------------------------------------


def typed_keys(words: Sequence[str]) -> list[str]:
    """Return the keys to which words give a value."""
    matches = [_OVERRIDE.match(word) for word in words]
    return [match["key"] for match in matches if match and match["prefix"] != "~"]


def is_slice(command: str) -> bool:
    """Whether a command types values of axes: it may run a part of what an experiment is."""
    return not {*AXES, "blocks"}.isdisjoint(typed_keys(shlex.split(command)))


def _for_hydra(word: str) -> bool:
    return word.lstrip("+~").startswith("hydra")


def points(words: Sequence[str]) -> list[list[str]]:
    """Return the words of every point of a `-m` sweep, in Hydra's order."""
    overrides = [_override(word, sweep=True) for word in words]
    try:
        choices = [
            [f"{item.get_key_element()}={value}" for value in item.sweep_string_iterator()]
            if item.is_sweep_override()
            else [str(item.input_line)]
            for item in OverridesParser.create().parse_overrides(overrides)
        ]
    except HydraException as error:
        raise _one_line(error) from None
    return [list(point) for point in product(*choices)]


def _override(word: str, sweep: bool = False) -> str:
    """Return a word as typed as Hydra's override.

    Paths are quoted, so that spaces and brackets in them are taken as they are. Keys need no `+` to be
    added: whether a key exists is for `convtl.config` to say, in one line.

    Args:
      sweep: whether several values after one another stand for several points (`-m`).
    """
    match = _OVERRIDE.match(word)
    if match is None or (match["value"] is None and match["prefix"] != "~"):
        raise UserError(
            f"'{word}': not understood; accepted: key=value, such as depth=3 or 'n_per_class=[5,50]'"
        )
    prefix, key, value = match["prefix"] or "", match["key"], match["value"]
    if prefix == "~" or _for_hydra(word):
        return word
    if key in GROUPS:
        names = [] if key == "debug" and value == "null" else value.split(",") if sweep else [value]
        for name in names:
            if name not in options(key):
                raise unknown_name(key, name, options(key))
            for folder in conf_folders():
                _load(folder / key / f"{name}.yaml")  # its faults are named with the file
        return f"{'+' if key in _APPENDED else ''}{key}={value}"
    if key in REGISTRIES and not value.startswith("{"):
        raise UserError(f"{key}: got '{value}'; accepted: {key}.NAME.KEY=VALUE, one key at a time")
    return f"++{key}={_value(key, value, sweep)}"


def _value(key: str, value: str, sweep: bool) -> str:
    """Quote paths, prose, and what is not in Hydra's grammar."""
    typed = bool(value) and value[0] not in "'\"" and value != "null"
    if _AS_TYPED.match(key):
        return _quoted(value) if typed else value
    try:
        parsed = OverridesParser.create().parse_override(f"++{key}={value}")
    except HydraException:
        if value[:1] in "[{'\"":
            raise UserError(
                f"{key}: got {value}; not understood: are brackets and quotes closed?"
            ) from None
        return _quoted(value)
    if parsed.is_sweep_override() and not sweep:
        raise UserError(
            f"{key}: got '{value}'; accepted: one value or a list, such as '{key}=[{value}]'"
        )
    return value


def _quoted(text: str) -> str:
    """Text in Hydra's quotes, where backslashes are doubled only in front of a quote."""
    return "'" + re.sub(r"(\\*)'", r"\1\1\\'", re.sub(r"(\\+)$", r"\1\1", text)) + "'"


# --- composing --------------------------------------------------------------------------------------


def compose(words: Sequence[str]) -> dict[str, Any]:
    """Compose the config of one study as plain data; words for Hydra's launchers are left out."""
    folders = conf_folders()
    nodes = {
        name: {
            path.stem: _load(path)
            for folder in folders
            for path in sorted((folder / name).glob("*.yaml"))
        }
        for name in REGISTRIES
    }
    ConfigStore.instance().store(name="convtl_defaults", node=DEFAULTS | nodes)
    GlobalHydra.instance().clear()
    overrides = [_override(word) for word in words if not _for_hydra(word)]
    overrides += [f"hydra.searchpath=[{_quoted(f'file://{users}')}]" for users in folders[1:]]
    try:
        with hydra.initialize_config_dir(str(folders[0]), version_base="1.3"):
            config = hydra.compose("config", overrides=overrides)
        content: Any = OmegaConf.to_container(config, resolve=True)
    except _FAULTS as error:
        raise _one_line(error) from None
    return {str(key): value for key, value in content.items()}


def _load(path: Path) -> Any:
    """The content of a YAML file; empty where there is none."""
    try:
        return _parsed(path, path.read_text(encoding="utf-8-sig") if path.exists() else "")
    except (yaml.YAMLError, OSError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"configuration: {path}: {' '.join(str(error).split())[:300]}") from None


@cache  # parsing takes half of the time of composing, and Hydra copies what it is given
def _parsed(path: Path, text: str) -> Any:
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
        raise UserError(f"configuration: {path}: has aliases, which could grow to any size")
    node: Any = OmegaConf.create(text)
    if not OmegaConf.is_dict(node):
        raise UserError(f"configuration: {path}: holds a list; accepted: keys with values")
    if "hydra" in node or "/hydra" in str(node.get("defaults")):
        raise UserError(
            f"configuration: {path}: sets hydra; accepted: typed, such as hydra.launcher.mem_gb=8"
        )
    return node


def _one_line(error: Exception) -> UserError:
    """The first telling line of a Hydra error."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return UserError(f"configuration: {lines[0] if lines else type(error).__name__}")


# --- launching --------------------------------------------------------------------------------------


def launch(invocation: Invocation, task: Callable[[dict[str, Any]], Any], out: Path) -> list[Any]:
    """Hand every point of a sweep to Hydra's launcher; its own folders go under `out`.

    Hydra composes no more than its launcher here, from the package's conf/ and typed words: nothing of a user's
    conf/ is executed.

    Args:
      task: takes a composed config; pickled where a launcher starts processes.

    Returns:
      What `task` returned, in the order of the points.
    """
    contents, common = invocation.contents, invocation.contents[0]
    # Where jobs are pickled each holds all contents: what is equal in them is there once.
    changes = [{key: one[key] for key in one if one[key] != common.get(key)} for one in contents]
    typed = list(filter(_for_hydra, invocation.words))
    fixed = [
        f"+job={','.join(map(str, range(len(contents))))}",
        f"hydra.sweep.dir={_quoted(str(out / 'launch'))}",
        "hydra.output_subdir=null",
        "hydra.job.chdir=false",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
    ]

    def run_job(config: Any) -> Any:
        launcher = HydraConfig.get().launcher
        cores = OmegaConf.select(launcher, "cpus_per_task")
        cores = cores or OmegaConf.select(launcher, "ray.remote.num_cpus")
        if jobs := OmegaConf.select(launcher, "n_jobs"):
            cores = core_count() // jobs
        if cores is not None:  # a process that takes one job after another keeps it
            os.environ.setdefault(LIMIT, str(max(1, int(cores))))
        return task({**common, **changes[config.job]})

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_folders()[0]), version_base="1.3", job_name="convtl"):
        try:
            hydra.compose(overrides=typed, return_hydra_config=True)
        except _FAULTS as error:
            extras = "launchers are extras: pip install -e '.[joblib,submitit,ray]'"
            raise UserError(f"{_one_line(error)} ({extras})") from None
        app: Any = GlobalHydra.instance().hydra
        batches = app.multirun(None, task_function=run_job, overrides=[*typed, *fixed])
    return [job.return_value for batch in batches for job in batch]
