"""The Hydra boundary: words on the command line -> plain data, or one clear line.

Nothing but this file knows Hydra. It composes, and leaves every check of keys, names and values to
`convtl.config` and `convtl.study.grid`, which know what is accepted.
"""

import os
import re
from collections.abc import Callable, Sequence
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
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from convtl.config.schema import REGISTRIES
from convtl.entry import GROUPS, conf_folders, options
from convtl.errors import UserError, unknown_name
from convtl.inert import leaves, refuse_code
from convtl.runtime.cores import LIMIT, core_count
from convtl.secrets import looks_secret, refuse_secrets

_APPENDED = ("experiment", "protocol")
"""Groups that are not in the defaults list; their files hold differences, and later ones win."""

_AS_TYPED = re.compile(r"^(out|cache|question|(.*\.)?(path|data_dir|letters))$")
_OVERRIDE = re.compile(r"^(?P<prefix>\+\+|\+|~)?(?P<key>[\w./@:-]+)(=(?P<value>.*))?$", re.DOTALL)


class _UsersConf(SearchPathPlugin):
    """Searches `conf/` of the working directory after the package's own."""

    wanted = True

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in conf_folders()[1:] if self.wanted else []:
            search_path.append("convtl-user", f"file://{folder}")


def _prepare() -> None:
    """Stores the nodes of the registries, one for each file, and the user's search path; sets resolvers up."""
    for resolver in (
        "oc.create",
        "oc.decode",
    ):  # with these, text could become configs that nobody has checked
        OmegaConf.register_new_resolver(resolver, lambda *given: _no_resolver(), replace=True)
    OmegaConf.register_new_resolver("oc.env", _environment, replace=True)
    nodes = {
        name: {
            path.stem: _load(path) for folder in conf_folders() for path in _files(folder / name)
        }
        for name in REGISTRIES
    }
    ConfigStore.instance().store(name="registry", node=nodes)
    Plugins.instance().register(_UsersConf)


def _no_resolver() -> Any:
    raise UserError("configuration: ${oc.create:...} and ${oc.decode:...} are not accepted")


def _environment(*given: Any) -> Any:
    """As OmegaConf's own `oc.env`, but for secrets."""
    name = str(given[0]) if given else ""
    if looks_secret(name):
        raise UserError(
            f"configuration: ${{oc.env:{name}}} is not accepted: what it holds must not be written down"
        )
    if name in os.environ:
        return os.environ[name]
    if len(given) < 2:
        raise UserError(f"configuration: ${{oc.env:{name}}}: there is no such environment variable")
    return None if given[1] is None else str(given[1])


def _load(path: Path) -> Any:
    try:
        return OmegaConf.load(path)
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"configuration: {path}: {' '.join(str(error).split())}") from None


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.yaml"))


def overrides_from(words: Sequence[str], sweep: bool = False) -> list[str]:
    """Words as typed -> Hydra overrides.

    Paths are quoted, so that spaces and brackets in them are taken as they are. Keys need no `+` to be
    added: whether a key exists is for `convtl.config` to say, in one line.

    Args:
      sweep: whether several values after one another stand for several points (`-m`).

    Raises:
      UserError: a word is no `key=value`, or names a file that conf/ does not have.
    """
    return [_override(word, sweep) for word in words]


def typed_keys(words: Sequence[str]) -> list[str]:
    """The keys that words give a value."""
    found = [_OVERRIDE.match(word) for word in words]
    return [match["key"] for match in found if match and match["prefix"] != "~"]


def _override(word: str, sweep: bool) -> str:
    match = _OVERRIDE.match(word)
    if match is None or (match["value"] is None and match["prefix"] != "~"):
        raise UserError(
            f"'{word}': not understood; accepted: key=value, such as depth=3 or 'n_per_class=[5,50]'"
        )
    prefix, key, value = match["prefix"] or "", match["key"], match["value"]
    if (
        key == "hydra.searchpath"
    ):  # it could name a Python package, which is imported to be searched
        raise UserError(
            "hydra.searchpath: not accepted; a folder conf/ where convtl is started is read"
        )
    if prefix == "~" or key.startswith("hydra"):
        return word
    if key in GROUPS:
        names = [] if key == "debug" and value == "null" else value.split(",") if sweep else [value]
        for name in names:
            if name not in options(key):
                raise unknown_name(key, name, options(key))
        return f"{'+' if key in _APPENDED else ''}{key}={value}"
    if key in REGISTRIES and not value.startswith("{"):
        raise UserError(f"{key}: got '{value}'; accepted: {key}.NAME.KEY=VALUE, one key at a time")
    return f"++{key}={_value(key, value, sweep)}"


def _value(key: str, value: str, sweep: bool) -> str:
    """A value as Hydra reads it: paths, prose, and what is not in its grammar are quoted."""
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


def compose(words: Sequence[str]) -> dict[str, Any]:
    """The config of one study as plain data.

    Raises:
      UserError: the words cannot be composed.
    """
    return compose_overrides(overrides_from(words))


def compose_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """As `compose`, for overrides that are Hydra's already."""
    _prepare()
    try:
        content = OmegaConf.to_container(_composed(overrides), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_plain(error)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:  # a file of the user's
        raise UserError(f"configuration: {' '.join(str(error).split())}") from None
    assert isinstance(content, dict)
    found = {str(key): value for key, value in content.items()}
    refuse_secrets(found)
    return found


def _composed(overrides: Sequence[str]) -> Any:
    """What Hydra composes, once it is known that nothing in it would be executed."""
    config = _hydras(overrides)
    raw: Any = OmegaConf.to_container(config, resolve=False)
    refuse_secrets(
        {"hydra": {key: value for key, value in raw["hydra"].items() if key != "runtime"}}
    )
    plugins, known = _accepted(overrides)
    refuse_code({str(k): v for k, v in raw.items()}, plugins, typed_keys(overrides), known)
    with open_dict(config):
        del config["hydra"]
    return config


def _hydras(overrides: Sequence[str]) -> Any:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_folders()[0]), version_base="1.3"):
        try:
            return hydra.compose("config", overrides=list(overrides), return_hydra_config=True)
        except (
            AttributeError,
            AssertionError,
            TypeError,
        ) as error:  # Hydra's own keys, of a wrong type
            raise UserError(_plain(error)) from None


def _accepted(overrides: Sequence[str]) -> tuple[set[str], set[tuple[tuple[str, ...], Any]] | None]:
    """Launchers and sweepers, and (path, value) of all below `hydra`, that do not come out of the user's files."""
    if not conf_folders()[1:]:
        return _plugins(), None
    chosen = [word for word in overrides if word.lstrip("+").startswith("hydra/")]
    own = [word for word in chosen if not _users(word)]
    plain = _without_users(tuple(own))
    known = {*leaves(plain, ("hydra",)), *_of_launchers()}
    any_launcher = chosen != own
    return _plugins() if any_launcher else _plugins("sweeper") | {
        plain["launcher"]["_target_"]
    }, known


@lru_cache
def _of_launchers() -> frozenset[tuple[tuple[str, ...], Any]]:
    """(path, value) of all in the package's own files for launchers, and in the installed launchers' defaults."""
    stored = ConfigStore.instance().repo["hydra"]["launcher"].values()
    nodes = [
        *(item.node for item in stored),
        *map(_load, _files(conf_folders()[0] / "hydra" / "launcher")),
    ]
    return frozenset(
        pair
        for node in nodes
        for pair in leaves(OmegaConf.to_container(node), ("hydra", "launcher"))
    )


def _users(override: str) -> bool:
    """Whether what it chooses is a file of the user's."""
    group, _, name = override.lstrip("+").partition("=")
    return any((folder / group / f"{name}.yaml").exists() for folder in conf_folders()[1:])


@lru_cache
def _without_users(overrides: tuple[str, ...]) -> dict[str, Any]:
    """The node `hydra` as it is without any of the user's files."""
    _UsersConf.wanted = False
    try:
        found: Any = OmegaConf.to_container(_hydras(overrides).hydra, resolve=False)
    finally:
        _UsersConf.wanted = True
    return {str(key): value for key, value in found.items()}


def _plugins(*groups: str) -> set[str]:
    """What the installed launchers and sweepers have as their `_target_`."""
    found = set()
    for group in groups or ("launcher", "sweeper"):
        for stored in ConfigStore.instance().repo.get("hydra", {}).get(group, {}).values():
            found.add(str(OmegaConf.select(stored.node, "_target_")))
    return found


def _plain(error: Exception) -> str:
    """The first telling line of a Hydra error."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, UserError):  # of a resolver
            return str(below)
        below = below.__cause__ or below.__context__
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"configuration: {lines[0]}" if lines else f"configuration: {type(error).__name__}"


def points(words: Sequence[str]) -> list[list[str]]:
    """Overrides of every point of a `-m` sweep, in Hydra's order, with those of Hydra's own keys.

    Raises:
      UserError: an override cannot be parsed.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(overrides_from(words, sweep=True))
    except HydraException as error:
        raise UserError(_plain(error)) from None
    choices = [
        [f"{item.get_key_element()}={value}" for value in item.sweep_string_iterator()]
        if item.is_sweep_override()
        else [str(item.input_line)]
        for item in parsed
    ]
    return [list(point) for point in product(*choices)]


def _of_the_whole(overrides: Sequence[str]) -> list[str]:
    """The overrides of a sweep that do not differ from point to point."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [str(item.input_line) for item in parsed if not item.is_sweep_override()]


def _refuse_code_of_the_whole(overrides: Sequence[str]) -> None:
    """Checks what a launcher is made from: all that does not differ from point to point (each is checked as such)."""
    try:
        _composed(_of_the_whole(overrides))
    except HydraException as error:
        raise UserError(_plain(error)) from None


LAUNCHERS = {"processes": "joblib", "submitit": "submitit", "slurm": "submitit", "ray_tasks": "ray"}
"""Launchers in conf/ -> the extra that each needs; its plugin is `hydra_plugins.hydra_EXTRA_launcher`."""


def launcher_of(words: Sequence[str]) -> str:
    """The name of Hydra's launcher that words ask for: `basic`, which runs jobs here, if they do not say.

    Raises:
      UserError: there is none of this name, or its package is not installed.
    """
    named = [
        word.partition("=")[2] for word in words if word.lstrip("+").startswith("hydra/launcher=")
    ]
    if not named or named[-1] == "basic":
        return "basic"
    Plugins.instance()  # finds those that are installed
    installed = ConfigStore.instance().list("hydra/launcher")
    extra = LAUNCHERS.get(named[-1])
    if (
        extra is None
        and f"{named[-1]}.yaml" not in installed
        and named[-1] not in options("hydra/launcher")
    ):
        raise unknown_name("hydra/launcher", named[-1], ["basic", *LAUNCHERS])
    if extra is not None and find_spec(f"hydra_plugins.hydra_{extra}_launcher") is None:
        raise UserError(
            f"hydra/launcher: '{named[-1]}' is not installed: pip install -e '.[{extra}]'"
        )
    return named[-1]


def class_of_launcher(words: Sequence[str]) -> str:
    """Name of the class of the launcher that a `-m` sweep gets, whatever its file is called."""
    _prepare()
    found = _hydras(_of_the_whole(overrides_from(words, sweep=True)))
    return str(found.hydra.launcher._target_).rpartition(".")[2]


def multirun(words: Sequence[str], task: Callable[[dict[str, Any]], Any], out: Path) -> list[Any]:
    """Hands every point of a sweep to Hydra's launcher; its own folders go under `out`.

    Args:
      task: takes a composed config; pickled where a launcher starts processes.

    Returns:
      What `task` returned, in the order of the points.

    Raises:
      UserError: the launcher's own keys are not understood.
    """
    _prepare()
    quiet = [
        f"hydra.sweep.dir={_quoted(str(out / 'launch'))}",
        "hydra.output_subdir=null",
        "hydra.job.chdir=false",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
    ]
    overrides = [*overrides_from(words, sweep=True), *quiet]
    _refuse_code_of_the_whole(overrides)
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
    """What Hydra calls for a job: plain data in, and no more cores taken than the launcher gives it."""

    run: Callable[[dict[str, Any]], Any]

    def __call__(self, config: Any) -> Any:
        if (cores := _cores_of_job(HydraConfig.get().launcher)) is not None:
            os.environ.setdefault(
                LIMIT, str(cores)
            )  # a process that takes one job after another keeps it
        content = OmegaConf.to_container(config, resolve=True)
        assert isinstance(content, dict)
        return self.run({str(key): value for key, value in content.items()})


def _cores_of_job(launcher: Any) -> int | None:
    """What a launcher's config says of it; None where the system does, or where jobs run one after another."""
    if (jobs := OmegaConf.select(launcher, "n_jobs")) is not None:
        return max(1, core_count() // jobs) if jobs > 0 else 1
    for key in ("cpus_per_task", "ray.remote.num_cpus"):
        if (cores := OmegaConf.select(launcher, key)) is not None:
            return max(1, int(cores))
    return None
