"""Whatever a config names is not executed."""

import sys
from pathlib import Path

import pytest
from commands import Commands

EVIL = """
import pathlib
pathlib.Path({witness!r}).touch()

class Thing:
    def __init__(self, *given, **named):
        pass
"""
TARGET = "_target_: evil_module.Thing"
FILES = {
    "a callback": f"hydra: {{callbacks: {{mine: {{{TARGET}}}}}}}",
    "a callback from elsewhere": f"else: {{{TARGET}}}\nhydra: {{callbacks: {{mine: '${{else}}'}}}}",
    "a callback out of text": f"hydra: {{callbacks: {{mine: '${{oc.decode:\"{{{TARGET}}}\"}}'}}}}",
    "a launcher": f"hydra: {{launcher: {{{TARGET}}}}}",
    "a launcher's list": f"hydra: {{launcher: {{part: [{{{TARGET}}}]}}}}",
    "a launcher of Hydra's": "hydra: {launcher: {_target_: hydra._internal.utils.os.system}}",
    "a factory of logging": "hydra: {job_logging: {handlers: {x: {(): evil_module.Thing}}}}",
    "variables of jobs": "hydra: {job: {env_set: {PATH: .}}}",
    "a name of jobs": 'hydra: {job: {name: "x\\ntouch executed #"}}',
    "words of a sweep": "hydra: {sweeper: {params: {'++hydra.callbacks.x': evil_module.Thing}}}",
    "lines for a shell": "hydra: {launcher: {setup: ['touch executed']}}",
    "a launcher in its defaults": "defaults:\n  - override /hydra/launcher: submitit\n",
    "a domain": f"domains: {{mine: {{{TARGET}}}}}",
    "a search path": "hydra: {searchpath: ['pkg://evil_module']}",
}
WORDS = [
    "+hydra.callbacks.mine._target_=evil_module.Thing",
    "hydra.launcher._target_=evil_module.Thing",
    "hydra.sweeper._target_=evil_module.Thing",
    "+hydra.launcher.part._target_=evil_module.Thing",
    "++hydra.searchpath=[pkg://evil_module]",
    "+mine._target_=evil_module.Thing",
    "domains.mine._target_=evil_module.Thing",
    "--config-dir=conf",
    "--experimental-rerun=evil.pickle",
]
MULTIRUN = pytest.mark.parametrize("multirun", [(), ("-m",)], ids=["run", "multirun"])


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
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(str(work))  # as `python -m` does
    monkeypatch.delitem(sys.modules, "evil_module", raising=False)
    return Commands(monkeypatch, capfd)


def _write(text: str, name: str = "experiment/mine") -> None:
    path = Path("conf") / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# @package _global_\n{text}\n", encoding="utf-8")


@MULTIRUN
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_user_executes_nothing(commands, witness, name, multirun) -> None:
    _write(FILES[name])
    assert commands.tiny(*multirun, "+experiment=mine", "out=o").line
    assert not witness.exists()
    assert not Path("executed").exists()
    assert not Path("o").exists()


@MULTIRUN
@pytest.mark.parametrize("word", WORDS)
def test_a_command_line_executes_nothing(commands, witness, word, multirun) -> None:
    assert commands.tiny(*multirun, word, "out=o").line
    assert not witness.exists()
    assert not Path("o").exists()


@pytest.mark.parametrize("group", ["sweeper", "callbacks", "job_logging", "launcher"])
def test_groups_of_hydras_are_not_taken_from_the_user(commands, witness, group) -> None:
    _write(TARGET, f"hydra/{group}/mine")
    assert commands.tiny("-m", f"++hydra/{group}=mine", "out=o").line
    assert not witness.exists()


@pytest.mark.filterwarnings("ignore::UserWarning")  # Hydra's, of a file by a plugin's name
def test_a_plugins_default_is_not_taken_from_the_user(commands, witness) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    _write(TARGET, "hydra/launcher/joblib")
    words = ("-m", "hydra/launcher=processes", "hydra.launcher.nosuch=1", "out=o")
    assert commands.tiny(*words).line.startswith("configuration: ")
    assert not witness.exists()


def test_a_file_that_only_one_point_takes_is_checked_too(commands, witness) -> None:
    _write("seed: 1", "experiment/good")
    _write(FILES["a callback"])
    assert "sets hydra" in commands.tiny("-m", "+experiment=good,mine", "out=o").line
    assert not witness.exists()
