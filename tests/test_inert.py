"""Whatever a config names is not executed."""

import sys
from pathlib import Path

import pytest
from commands import Commands

from convtl.cli import LAUNCHERS, compose, points

EVIL = """
import pathlib
pathlib.Path({witness!r}).touch()

class Thing:
    def __init__(self, *given, **named):
        pass

stream = None
"""


@pytest.fixture
def witness(tmp_path) -> Path:
    """A file that is there once any of the code has run."""
    return tmp_path / "executed"


@pytest.fixture
def commands(monkeypatch, capfd, tmp_path, witness) -> Commands:
    """Commands in a folder whose module touches a file when it is imported."""
    work = tmp_path / "work"
    (work / "conf" / "experiment").mkdir(parents=True)
    (work / "evil_module.py").write_text(EVIL.format(witness=str(witness)))
    (work / "evil_package").mkdir()
    (work / "evil_package" / "__init__.py").write_text(EVIL.format(witness=str(witness)))
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(str(work))  # as `python -m` does
    for name in ("evil_module", "evil_package"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return Commands(monkeypatch, capfd)


TARGET = "_target_: evil_module.Thing"
FILES = {
    "a callback": f"hydra: {{callbacks: {{mine: {{{TARGET}}}}}}}",
    "a callback of Hydra's": "hydra: {callbacks: {mine: "
    "{_target_: hydra.experimental.callbacks.PickleJobInfoCallback}}}",
    "a callback from elsewhere": f"else: {{{TARGET}}}\nhydra: {{callbacks: {{mine: '${{else}}'}}}}",
    "a callback out of text": f"hydra: {{callbacks: {{mine: '${{oc.decode:\"{{{TARGET}}}\"}}'}}}}",
    "a launcher": f"hydra: {{launcher: {{{TARGET}}}}}",
    "a launcher through a module of Hydra's": "hydra: {launcher: {_target_: hydra._internal.utils.os.system}}",
    "a launcher from elsewhere": "else: evil_module.Thing\nhydra: {launcher: {_target_: '${else}'}}",
    "a launcher's part": f"hydra: {{launcher: {{part: {{{TARGET}}}}}}}",
    "a launcher's list": f"hydra: {{launcher: {{part: [{{{TARGET}}}]}}}}",
    "a launcher's part out of text": f"hydra: {{launcher: {{part: '${{oc.create:{{{TARGET}}}}}'}}}}",
    "a sweeper": f"hydra: {{sweeper: {{{TARGET}}}}}",
    "a factory of logging": "hydra: {job_logging: {root: {handlers: [x]}, handlers: {x: {(): evil_module.Thing}}}}",
    "a class of logging": "hydra: {hydra_logging: {root: {handlers: [x]}, handlers: {x: {class: evil_module.Thing}}}}",
    "a stream of logging": "hydra: {job_logging: {root: {handlers: [x]}, handlers: {x: {class: logging.StreamHandler, "
    "stream: 'ext://evil_module.stream'}}}}",
    "a stream from elsewhere": "else: 'ext://evil_module.stream'\nhydra: {job_logging: {root: {handlers: [x]}, "
    "handlers: {x: {class: logging.StreamHandler, stream: '${else}'}}}}",
    "variables of jobs": "hydra: {job: {env_set: {PATH: .}}}",
    "variables of jobs from elsewhere": "else: {PATH: .}\nhydra: {job: {env_set: '${else}'}}",
    "a sweeper's words": "hydra: {sweeper: {params: {'++hydra.job_logging.handlers.x.class': evil_module.Thing}}}",
    "a file of logging": "hydra: {job_logging: {root: {handlers: [x]}, handlers: {x: {class: logging.FileHandler, "
    "filename: executed}}}}",
    "a launcher that nobody asked for": "hydra: {launcher: {_target_: "
    "hydra_plugins.hydra_ray_launcher.ray_aws_launcher.RayAWSLauncher}}",
    "a name of jobs": 'hydra: {job: {name: "x\\ntouch executed #"}}',
    "a domain": f"domains: {{mine: {{{TARGET}}}}}",
    "a search path": "hydra: {searchpath: ['pkg://evil_package']}",
}


OF_LAUNCHERS = {
    "lines for a shell": "hydra: {launcher: {setup: ['touch executed']}}",
    "a worker's first task": "hydra: {launcher: {ray: {init: {runtime_env: "
    "{worker_process_setup_hook: evil_module.Thing}}}}}",
    "an environment of workers": "hydra: {launcher: {ray: {remote: {runtime_env: "
    "{py_executable: 'touch executed; python'}}}}}",
    "an environment from elsewhere": "else: {py_executable: x}\n"
    "hydra: {launcher: {ray: {remote: {runtime_env: '${else}'}}}}",
    "somebody's cluster": "hydra: {launcher: {ray: {init: {address: 'ray://evil.example:1'}}}}",
    "a folder to unpickle from": "hydra: {launcher: {submitit_folder: evil_package}}",
    "a line in the script of a job": 'hydra: {launcher: {partition: "main\\ntouch executed #"}}',
    "a key in the script of a job": 'hydra: {launcher: {additional_parameters: {"a\\ntouch executed #": 1}}}',
    "a substitution in the script of a job": "hydra: {launcher: {comment: '$(touch executed)'}}",
    "a key with a dot in the script of a job": "hydra: {launcher: {additional_parameters: "
    '{"a\\ntouch executed #.x": 1}}}',
    "an object that becomes a text": "hydra: {launcher: {additional_parameters: {comment: "
    "!!python/object/apply:pathlib.PosixPath ['a\\ntouch executed #']}}}",
    "a name from elsewhere": 'else: "a\\ntouch executed #"\nhydra: {launcher: {partition: "${else}"}}',
}
"""For launchers with keys that could become code."""


@pytest.mark.parametrize("name", OF_LAUNCHERS)
def test_nothing_for_a_launcher_is_executed(commands, witness, name) -> None:
    launcher = "ray_tasks" if "ray:" in OF_LAUNCHERS[name] else "slurm"
    pytest.importorskip(f"hydra_plugins.hydra_{LAUNCHERS[launcher]}_launcher")
    Path("conf/experiment/mine.yaml").write_text(
        f"# @package _global_\n{OF_LAUNCHERS[name]}\n", encoding="utf-8"
    )
    line = commands.tiny("-m", f"hydra/launcher={launcher}", "+experiment=mine", "out=o").line
    assert "which is never executed" in line
    assert not witness.exists()
    assert not Path("executed").exists()


@pytest.mark.parametrize("multirun", [(), ("-m",)], ids=["run", "multirun"])
@pytest.mark.parametrize("name", FILES)
def test_an_experiment_of_the_user_executes_nothing(commands, witness, name, multirun) -> None:
    Path("conf/experiment/mine.yaml").write_text(
        f"# @package _global_\n{FILES[name]}\n", encoding="utf-8"
    )
    line = commands.tiny(*multirun, "+experiment=mine", "out=o").line
    assert not Path("executed").exists()
    assert "executed" in line or "configuration: " in line, line
    assert not witness.exists()
    assert not Path("o").exists()


@pytest.mark.parametrize("multirun", [(), ("-m",)], ids=["run", "multirun"])
@pytest.mark.parametrize(
    "group", ["launcher", "sweeper", "callbacks", "job_logging", "hydra_logging"]
)
def test_a_group_of_hydras_from_the_user_executes_nothing(
    commands, witness, group, multirun
) -> None:
    folder = Path("conf/hydra") / group
    folder.mkdir(parents=True)
    inside = "version: 1\nroot: {handlers: [x]}\nhandlers: {x: {(): evil_module.Thing}}"
    text = {"launcher": TARGET, "sweeper": TARGET, "callbacks": f"mine: {{{TARGET}}}"}.get(
        group, inside
    )
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    done = commands.tiny(
        *multirun, f"{'+' if group == 'callbacks' else ''}hydra/{group}=mine", "out=o"
    )
    assert "convtl: " in done.line or done.code == 2
    assert not witness.exists()
    assert not Path("o").exists()


WORDS = [
    "hydra.sweeper.params={++hydra.job_logging.handlers.x.class: evil_module.Thing}",
    "+hydra.callbacks.mine._target_=evil_module.Thing",
    "++hydra.callbacks.mine={_target_: evil_module.Thing}",
    "hydra.launcher._target_=evil_module.Thing",
    "hydra.sweeper._target_=evil_module.Thing",
    "+hydra.launcher.part._target_=evil_module.Thing",
    "++hydra.job_logging.handlers={x: {(): evil_module.Thing}}",
    "++hydra.job_logging.handlers.x.class=evil_module.Thing",
    "hydra.searchpath=[pkg://evil_package]",
    "++hydra.searchpath=[pkg://evil_package]",
    "+mine._target_=evil_module.Thing",
    "domains.mine._target_=evil_module.Thing",
    "--config-dir=conf",
    "--experimental-rerun=evil.pickle",
    "--config-path=pkg://evil_package",
]


@pytest.mark.parametrize("multirun", [(), ("-m",)], ids=["run", "multirun"])
@pytest.mark.parametrize("word", WORDS)
def test_a_command_line_executes_nothing(commands, witness, word, multirun) -> None:
    assert commands.tiny(*multirun, word, "out=o").line
    assert not witness.exists()
    assert not Path("o").exists()


def test_a_file_that_only_one_point_takes_is_looked_at_too(commands, witness) -> None:
    Path("conf/experiment/good.yaml").write_text("# @package _global_\nseed: 1\n")
    Path("conf/experiment/mine.yaml").write_text(f"# @package _global_\n{FILES['a callback']}\n")
    assert "never executed" in commands.tiny("-m", "+experiment=good,mine", "out=o").line
    assert not witness.exists()


@pytest.mark.parametrize("name", LAUNCHERS)
def test_names_and_numbers_for_a_launcher_are_taken_from_a_file(commands, name) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{LAUNCHERS[name]}_launcher")
    given = {
        "slurm": ("partition", "mem_gb"),
        "submitit": ("mem_gb",),
        "processes": ("n_jobs",),
    }.get(name, ("ray",))
    lines = {
        "partition": "partition: gpu-a100",
        "mem_gb": "mem_gb: 16",
        "n_jobs": "n_jobs: 4",
        "ray": "ray: {init: {num_cpus: 2}}",
    }
    inside = ", ".join(lines[key] for key in given)
    Path("conf/experiment/mine.yaml").write_text(
        f"# @package _global_\nhydra: {{launcher: {{{inside}}}}}\n"
    )
    assert compose([f"hydra/launcher={name}", "+experiment=mine", "depth=2"])["depth"] == 2
    assert compose([f"hydra/launcher={name}", "depth=2"])["depth"] == 2


def test_a_launcher_of_the_users_own_is_taken(commands) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    Path("conf/hydra/launcher").mkdir(parents=True)
    Path("conf/hydra/launcher/mine.yaml").write_text(
        "defaults: [submitit_slurm]\npartition: gpu\ntimeout_min: 30\n"
    )
    assert compose(["hydra/launcher=mine", "depth=2"])["depth"] == 2


def test_lines_of_a_shell_that_somebody_types_are_taken() -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = ["hydra/launcher=slurm", "hydra.launcher.setup=[module load cuda]", "depth=2"]
    assert compose(words)["depth"] == 2


def test_hydras_own_launchers_and_words_are_taken() -> None:
    words = ["hydra/launcher=basic", "hydra.sweep.subdir=x", "depth=1,2"]
    assert [
        compose(point)["depth"] for point in ([*words[:2], "depth=1"], [*words[:2], "depth=2"])
    ] == [1, 2]
    assert len(points(words)) == 2
