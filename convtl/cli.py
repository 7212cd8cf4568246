"""The Hydra boundary: words of a command line -> one `Invocation` of plain data, or one clear line.

Nothing but this file knows Hydra. It composes; what keys and values are accepted, `convtl.config` knows.
"""

import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from convtl.config.schema import DEFAULTS, REGISTRIES
from convtl.entry import GROUPS, conf_folders, options
from convtl.errors import UserError, unknown_name
from convtl.runtime.cores import LIMIT, core_count
from convtl.study.assignments import refuse_hidden

LAUNCHERS = {"processes": "joblib", "submitit": "submitit", "slurm": "submitit", "ray_tasks": "ray"}
"""Launchers in conf/ -> the extra that each needs; its plugin is `hydra_plugins.hydra_EXTRA_launcher`."""

_APPENDED = ("experiment", "recipe")
"""Groups that are not in the defaults list; their files hold differences, and later ones win."""

_AS_TYPED = re.compile(r"^(out|cache|question|(.*\.)?(path|data_dir|letters))$")
_OVERRIDE = re.compile(r"^(?P<prefix>\+\+|\+|~)?(?P<key>[\w./@:-]+)(=(?P<value>.*))?$", re.DOTALL)
_MOST_ALIASES = 50
"""YAML aliases in a file; nested ones could grow to any size."""


@dataclass(frozen=True)
class Invocation:
    """A command line: one study, or with `-m` the jobs of a sweep.

    Attributes:
      words: overrides as typed; of a sweep with several values.
      contents: the composed config of each job, as plain data.
      launcher: name of what starts the jobs; `basic` runs them here.
    """

    words: tuple[str, ...]
    contents: tuple[dict[str, Any], ...]
    multirun: bool
    launcher: str

    @property
    def command(self) -> str:
        """The command of the whole study: without workers, and without what is meant for Hydra."""
        words = [word for word in self.words if not _key(word).startswith(("worker", "hydra"))]
        return shlex.join(["python", "-m", "convtl.run", *["-m"] * self.multirun, *words])


def read(argv: Sequence[str]) -> Invocation:
    """Compose everything that a command line asks for.

    Raises:
      UserError: the words cannot be composed, or would have something done that has to be typed.
    """
    words = [word for word in argv if word not in ("-m", "--multirun")]
    multirun, launcher = len(words) < len(argv), _launcher(words)
    if launcher != "basic" and not multirun:
        raise UserError(f"hydra/launcher: got '{launcher}' without -m; accepted: with -m")
    jobs = points(words) if multirun else [overrides_from(words)]
    contents = list(map(compose_overrides, jobs))
    for content in contents:
        refuse_hidden(typed_keys(words), content)
        _refuse_untyped_online(words, content)
    return Invocation(tuple(words), tuple(contents), multirun, launcher)


def _refuse_untyped_online(words: Sequence[str], content: Mapping[str, Any]) -> None:
    tracking = content.get("tracking")
    online = isinstance(tracking, Mapping) and tracking.get("mode") == "online"
    if online and "tracking.mode" not in typed_keys(words):
        raise UserError(
            "tracking.mode: got 'online' from a file; accepted: typed, as tracking.mode=online"
        )


def _launcher(words: Sequence[str]) -> str:
    named = [word.partition("=")[2] for word in words if _key(word) == "hydra/launcher"]
    name = named[-1] if named else "basic"
    if name != "basic" and name not in LAUNCHERS:
        raise unknown_name("hydra/launcher", name, ["basic", *LAUNCHERS])
    extra = LAUNCHERS.get(name)
    if extra is not None and find_spec(f"hydra_plugins.hydra_{extra}_launcher") is None:
        raise UserError(f"hydra/launcher: '{name}' is not installed: pip install -e '.[{extra}]'")
    return name


# --- words -> Hydra's overrides ---------------------------------------------------------------------


def typed_keys(words: Sequence[str]) -> list[str]:
    """Return the keys to which words give a value."""
    matches = [_OVERRIDE.match(word) for word in words]
    return [match["key"] for match in matches if match and match["prefix"] != "~"]


def _key(word: str) -> str:
    return next(iter(typed_keys([word])), "")


def overrides_from(words: Sequence[str], sweep: bool = False) -> list[str]:
    """Return words as typed as Hydra's overrides.

    Paths are quoted, so that spaces and brackets in them are taken as they are. Keys need no `+` to be
    added: whether a key exists is for `convtl.config` to say, in one line.

    Args:
      sweep: whether several values after one another stand for several points (`-m`).

    Raises:
      UserError: a word is no `key=value`, or names a file that conf/ does not have.
    """
    return [_override(word, sweep) for word in words]


def _override(word: str, sweep: bool) -> str:
    match = _OVERRIDE.match(word)
    if match is None or (match["value"] is None and match["prefix"] != "~"):
        raise UserError(
            f"'{word}': not understood; accepted: key=value, such as depth=3 or 'n_per_class=[5,50]'"
        )
    prefix, key, value = match["prefix"] or "", match["key"], match["value"]
    if key == "hydra.searchpath" or "_target_" in word:  # names code
        raise UserError(
            f"{key}: never executed; accepted: hydra/launcher={' or '.join(LAUNCHERS)}, a folder conf/"
        )
    if prefix == "~" or key.startswith("hydra"):
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


def points(words: Sequence[str]) -> list[list[str]]:
    """Return the overrides of every point of a `-m` sweep, in Hydra's order.

    Raises:
      UserError: an override cannot be parsed, or stands for no finite list of points.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(overrides_from(words, sweep=True))
        choices = [
            [f"{item.get_key_element()}={value}" for value in item.sweep_string_iterator()]
            if item.is_sweep_override()
            else [str(item.input_line)]
            for item in parsed
        ]
    except HydraException as error:
        raise UserError(_plain(error)) from None
    return [list(point) for point in product(*choices)]


# --- composing --------------------------------------------------------------------------------------


def compose(words: Sequence[str]) -> dict[str, Any]:
    """Compose the config of one study as plain data.

    Raises:
      UserError: the words cannot be composed.
    """
    return compose_overrides(overrides_from(words))


def compose_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Compose as `compose` does, from overrides that are Hydra's already."""
    _register()
    try:
        config = _hydra_compose(overrides)
        raw: Any = OmegaConf.to_container(config, resolve=False)
        _refuse_hydra_in_files(raw, overrides)
        study = OmegaConf.masked_copy(config, [key for key in raw if key != "hydra"])
        content: Any = OmegaConf.to_container(study, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_plain(error)) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"configuration: {' '.join(str(error).split())}") from None
    return {str(key): value for key, value in content.items()}


class _UsersConf(SearchPathPlugin):
    """Searches `conf/` of the working directory after the package's own."""

    enabled = True

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in conf_folders()[1:] if self.enabled else []:
            search_path.append("convtl-user", f"file://{folder}")


def _register() -> None:
    """Store defaults, the nodes of the registries, one for each file, and the user's search path."""
    nodes = {
        name: {
            path.stem: node
            for folder in conf_folders()
            for path in sorted((folder / name).glob("*.yaml"))
            if "_target_" not in (node := _load(path)) or _foreign(path)
        }
        for name in REGISTRIES
    }
    ConfigStore.instance().store(name="convtl_defaults", node=DEFAULTS | nodes)
    Plugins.instance().register(_UsersConf)


@lru_cache
def _foreign(path: Path) -> bool:
    """Say once that a file is another program's; it is left out."""
    print(f"convtl: {path} is left out: its _target_ is for another program", file=sys.stderr)
    return False


def _load(path: Path) -> Any:
    """The content of a YAML file; empty where there is none.

    Raises:
      UserError: it cannot be read, or holds no keys with values.
    """
    try:
        text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
        aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text))
        if aliases > _MOST_ALIASES:
            raise UserError(f"configuration: {path}: more than {_MOST_ALIASES} aliases")
        node = OmegaConf.create(text)
    except (yaml.YAMLError, OSError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"configuration: {path}: {' '.join(str(error).split())[:300]}") from None
    if not OmegaConf.is_dict(node):
        raise UserError(f"configuration: {path}: holds a list; accepted: keys with values")
    return node


def _hydra_compose(overrides: Sequence[str]) -> Any:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_folders()[0]), version_base="1.3"):
        try:
            return hydra.compose("config", overrides=list(overrides), return_hydra_config=True)
        except (
            AttributeError,
            AssertionError,
            TypeError,
        ) as error:  # Hydra's keys, of a wrong type
            raise UserError(_plain(error)) from None


def _refuse_hydra_in_files(raw: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Refuse a file of the user's that sets what is below `hydra`: launchers, callbacks and logging are made of it."""
    typed = tuple(word for word in overrides if word.lstrip("+~").startswith("hydra"))
    if conf_folders()[1:] and _hydra_node(raw) != _without_users_conf(typed):
        raise UserError(
            "hydra: set in a file of conf/, which is never executed; accepted: typed, such as "
            "hydra.launcher.partition=gpu"
        )


def _hydra_node(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The node `hydra`, without what it says of the command."""
    node = {
        key: value for key, value in raw["hydra"].items() if key not in ("overrides", "runtime")
    }
    return node | {"job": {**node["job"], "override_dirname": None}}


@lru_cache
def _without_users_conf(typed: tuple[str, ...]) -> dict[str, Any]:
    _UsersConf.enabled = False
    try:
        return _hydra_node(OmegaConf.to_container(_hydra_compose(typed), resolve=False))  # type: ignore[arg-type]
    finally:
        _UsersConf.enabled = True


def _plain(error: Exception) -> str:
    """The first telling line of a Hydra error."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"configuration: {lines[0]}" if lines else f"configuration: {type(error).__name__}"


# --- launching --------------------------------------------------------------------------------------


def multirun(invocation: Invocation, task: Callable[[dict[str, Any]], Any], out: Path) -> list[Any]:
    """Hand every point of a sweep to Hydra's launcher; its own folders go under `out`.

    Args:
      task: takes a composed config; pickled where a launcher starts processes.

    Returns:
      What `task` returned, in the order of the points.

    Raises:
      UserError: the launcher's own keys are not understood.
    """
    _register()
    overrides = [
        *overrides_from(invocation.words, sweep=True),
        f"hydra.sweep.dir={_quoted(str(out / 'launch'))}",
        "hydra.output_subdir=null",
        "hydra.job.chdir=false",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
    ]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_folders()[0]), version_base="1.3", job_name="convtl"):
        app: Any = GlobalHydra.instance().hydra
        try:
            app.compose_config("config", overrides, run_mode=RunMode.MULTIRUN)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(_plain(error)) from None
        batches = app.multirun("config", task_function=_Task(task), overrides=overrides)
    return [job.return_value for batch in batches for job in batch]


@dataclass(frozen=True)
class _Task:
    """A job as Hydra calls it: with plain data, on no more cores than the launcher gives it."""

    run: Callable[[dict[str, Any]], Any]

    def __call__(self, config: Any) -> Any:
        if (cores := _cores_of_job(HydraConfig.get().launcher)) is not None:
            # A process that takes one job after another keeps it.
            os.environ.setdefault(LIMIT, str(cores))
        content: Any = OmegaConf.to_container(config, resolve=True)
        return self.run({str(key): value for key, value in content.items()})


def _cores_of_job(launcher: Any) -> int | None:
    """Return a job's cores by its launcher's config; None where the system says, or where jobs run here."""
    if (jobs := OmegaConf.select(launcher, "n_jobs")) is not None:
        return max(1, core_count() // jobs) if jobs > 0 else 1
    for key in ("cpus_per_task", "ray.remote.num_cpus"):
        if (cores := OmegaConf.select(launcher, key)) is not None:
            return max(1, int(cores))
    return None
