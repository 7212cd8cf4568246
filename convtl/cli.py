"""The Hydra boundary: a command line's words to one `Invocation`.

Only this file uses Hydra: to join files, read values and start launchers; `convtl.config` validates keys and values.
Words that cannot be read and launchers that are not installed raise a `UserError`.
"""

import os
import re
import shlex
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, reduce
from itertools import product
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from convtl.config.schema import AXES, DEFAULTS, REGISTRIES
from convtl.entry import GROUPS, conf_folders, options
from convtl.errors import UserError, shown, unknown_name
from convtl.runtime.backend import LIMIT, core_count
from convtl.study.grid import refuse_hidden, value_at

_FAULTS = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, RecursionError)

_EXTRAS = {"processes": "joblib", "submitit": "submitit", "slurm": "submitit", "ray_tasks": "ray"}
"""Launcher -> the extra that installs it."""
_AS_TYPED = re.compile(r"(out|cache|question|(.*\.)?(path|data_dir|letters))")
_WORD = re.compile(r"\+{0,2}([\w./@:-]+)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Invocation:
    """A command line: one study, or with `-m` the points of a sweep."""

    words: tuple[str, ...]  # as typed
    contents: tuple[dict[str, Any], ...]  # the composed config of each point, as plain data
    multirun: bool
    launcher: str  # name of what starts the jobs; with `basic` there are none

    @property
    def command(self) -> str:
        """The whole study's command, without workers and words for Hydra."""
        words = [w for w in self.words if not w.lstrip("+").startswith(("worker=", "hydra"))]
        return shlex.join(["python", "-m", "convtl.run", *["-m"] * self.multirun, *words])


def read(argv: Sequence[str]) -> Invocation:
    """Compose the `Invocation` of a command line."""
    words = [word for word in argv if word not in ("-m", "--multirun")]
    multirun, launcher = len(words) < len(argv), "basic"
    for key, value in map(split, words):
        if not key.startswith("hydra"):
            continue
        named = key == "hydra/launcher"
        code = "_target_" in key + value or not (named or key.startswith("hydra.launcher."))
        if code or not multirun:
            accepted = "-m with hydra/launcher=NAME and hydra.launcher.KEY=VALUE"
            raise UserError(f"{key}: got '{value}'; accepted: {accepted}, which names no code")
        launcher = value if named else launcher
    if launcher not in (names := ["basic", *options("hydra/launcher")]):
        raise unknown_name("hydra/launcher", launcher, names)
    contents = tuple(map(compose, points(words) if multirun else [words]))
    typed = typed_keys(words)
    for content in contents:
        refuse_hidden(typed, content)
        # A folder's conf/ publishes nothing, and brings no cache of its own.
        for key, harmless in (("tracking.mode", (None, "disabled", "offline")), ("cache", (None,))):
            value = value_at(content, key)
            if value not in harmless and key not in typed:
                raise UserError(
                    f"{key}: got {shown(value)} from a file; accepted: typed, as {key}={value}"
                )
    return Invocation(tuple(words), contents, multirun, launcher)


# --- words ------------------------------------------------------------------------------------------


def split(word: str) -> tuple[str, str]:
    """Return the key and the value of a word, without a leading `+`."""
    match = _WORD.fullmatch(word)
    if match is None:
        raise UserError(
            f"'{word}': not understood; accepted: key=value, such as depth=3 or 'n_per_class=[5,50]'"
        )
    return match[1], match[2]


def typed_keys(words: Sequence[str]) -> list[str]:
    """Return the keys to which words give a value."""
    return [match[1] for match in map(_WORD.fullmatch, words) if match]


def is_slice(command: str) -> bool:
    """Return whether a command sets axes, and so may run a part of a study."""
    return not {*AXES, "blocks"}.isdisjoint(typed_keys(shlex.split(command)))


def points(words: Sequence[str]) -> list[list[str]]:
    """Return the words of every point of a `-m` sweep, in Hydra's order."""
    choices = []
    for key, value in map(split, words):
        values = value.split(",") if key in GROUPS else [value]
        override = None if key in GROUPS or key.startswith("hydra") else _override(key, value)
        if override is not None and override.is_sweep_override():
            try:
                values = list(override.sweep_string_iterator())
            except HydraException as error:
                raise _one_line(error) from None
        choices.append([f"{key}={one}" for one in values])
    return [list(point) for point in product(*choices)]


def _override(key: str, value: str) -> Any:
    """Read a value by Hydra's grammar; None for text such as paths and prose."""
    if _AS_TYPED.fullmatch(key) and value != "null" and value[:1] not in ("'", '"'):
        return None
    try:
        return OverridesParser.create().parse_override(f"{key}={value}")
    except (HydraException, RecursionError):
        if value.startswith(("[", "{", "'", '"')):
            raise UserError(
                f"{key}: got {value}; not understood: are brackets and quotes closed?"
            ) from None
        return None


# --- composing --------------------------------------------------------------------------------------


def compose(words: Sequence[str]) -> dict[str, Any]:
    """Compose a study's config as plain data, without words for Hydra's launchers."""
    folders, chosen, typed, names = conf_folders(), [], [], dict[str, str]()
    for key, value in map(split, words):
        if key in GROUPS:
            chosen.append(_choice(key, value))
            if (first := names.setdefault(key, value)) != value:
                raise UserError(f"{key}: given twice, '{first}' and '{value}'; accepted: one")
        elif key in REGISTRIES and not value.startswith("{"):
            raise UserError(
                f"{key}: got '{value}'; accepted: {key}.NAME.KEY=VALUE, one key at a time"
            )
        elif not key.startswith("hydra"):
            override = _override(key, value)
            if override is not None and override.is_sweep_override():
                raise UserError(
                    f"{key}: got '{value}'; accepted: one value or a list, such as '{key}=[{value}]'"
                )
            node = value if override is None else override.value()
            for step in reversed(key.split(".")):
                node = {step: node}
            typed.append(node)
    chosen += [f"hydra.searchpath=[{_quoted(f'file://{users}')}]" for users in folders[1:]]
    nodes = {
        name: {
            p.stem: _load(p) for folder in folders for p in sorted((folder / name).glob("*.yaml"))
        }
        for name in REGISTRIES
    }
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(folders[0]), version_base="1.3"):
            config = hydra.compose("config", overrides=chosen)
        # Hydra would take four times as long to copy the nodes as to do all else.
        layers: list[Any] = [{}, DEFAULTS | nodes, OmegaConf.to_container(config), *typed]
        content = reduce(_merged, layers)
        if "${" in str(content):
            content = OmegaConf.to_container(OmegaConf.create(content), resolve=True)
    except _FAULTS as error:
        raise _one_line(error) from None
    return {str(key): value for key, value in content.items()}


def _choice(group: str, name: str) -> str:
    """Check one file of a group; return Hydra's word for it."""
    if name not in options(group):
        raise unknown_name(group, name, options(group))
    for folder in conf_folders():
        _load(folder / group / f"{name}.yaml")
    return f"{group}={name}"


def _merged(content: Any, changes: Any) -> Any:
    """Return content with changes: mappings are merged, other values replaced."""
    if not (isinstance(content, dict) and isinstance(changes, dict)):
        return deepcopy(changes)
    return content | {key: _merged(content.get(key), value) for key, value in changes.items()}


def _quoted(text: str | Path) -> str:
    return QuotedString(str(text), Quote.single).with_quotes()


def _load(path: Path) -> Any:
    """Read a YAML file; empty if it does not exist."""
    try:
        return _parsed(path, path.read_text(encoding="utf-8-sig") if path.exists() else "")
    except (yaml.YAMLError, OSError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"configuration: {path}: {' '.join(str(error).split())[:300]}") from None


@cache  # parsing takes half of the time of composing
def _parsed(path: Path, text: str) -> Any:
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
        raise UserError(f"configuration: {path}: has aliases, which could grow to any size")
    node: Any = OmegaConf.to_container(OmegaConf.create(text))
    if not isinstance(node, dict):
        raise UserError(f"configuration: {path}: holds a list; accepted: keys with values")
    if "hydra" in node or "/hydra" in str(node.get("defaults")):
        raise UserError(
            f"configuration: {path}: sets hydra; accepted: typed, such as hydra.launcher.mem_gb=8"
        )
    return node


def _one_line(error: Exception) -> UserError:
    """Return the first line of a Hydra error as a UserError."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return UserError(f"configuration: {lines[0] if lines else type(error).__name__}")


# --- launching --------------------------------------------------------------------------------------


def launch(invocation: Invocation, task: Callable[[dict[str, Any]], Any], out: Path) -> list[Any]:
    """Run `task` on the config of every point by Hydra's launcher; return results.

    Hydra composes only its launcher, from the package's conf/ and typed words: nothing of a user's conf/ is executed.
    Its folders go under `out`.
    """
    contents, common = invocation.contents, invocation.contents[0]
    # Where jobs are pickled each holds all contents: what is equal in them is there once.
    changes = [{key: one[key] for key in one if one[key] != common.get(key)} for one in contents]
    typed = [word for word in invocation.words if word.lstrip("+").startswith("hydra")]
    fixed = [f"+job={','.join(map(str, range(len(contents))))}"]
    fixed += [f"hydra.sweep.dir={_quoted(out / 'launch')}", "hydra.output_subdir=null"]
    fixed += ["hydra.job.chdir=false", "hydra/job_logging=none", "hydra/hydra_logging=none"]

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
            name = invocation.launcher
            if isinstance(error, MissingConfigException) and name in _EXTRAS:
                install = f"pip install -e '.[{_EXTRAS[name]}]'"
                raise UserError(f"hydra/launcher: {name} is not installed; {install}") from None
            raise _one_line(error) from None
        app: Any = GlobalHydra.instance().hydra
        batches = app.multirun(None, task_function=run_job, overrides=[*typed, *fixed])
    return [job.return_value for batch in batches for job in batch]
