"""The `convtl` command, and completion."""

import subprocess
import sys
from importlib import import_module

import pytest
from commands import Commands

from convtl import __main__
from convtl.__main__ import COMMANDS, completions


@pytest.fixture
def commands(monkeypatch, capfd) -> Commands:
    return Commands(monkeypatch, capfd)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(commands, name) -> None:
    done = commands(import_module(f"convtl.{name}").main, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"usage: python -m convtl.{name} ")


def test_another_word_is_one_line(commands) -> None:
    assert commands(__main__._other, "runn").line.startswith("convtl: unknown name 'runn'; known: ")
    assert commands(__main__._other, "--help").out.startswith("usage: convtl run|")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("convtl re", ["report "]),
        ("convtl run +exp", ["+experiment="]),
        ("convtl run +experiment=finetune_d", ["finetune_depth"]),
        ("convtl run model=resnet5", ["resnet50", "resnet50_gn", "resnet56"]),
        ("convtl run depth=3 regime=lp", ["lp_ft"]),
        ("convtl run checkp", ["checkpoint_minutes="]),
        ("convtl run nosuch=", []),
        ("convtl run xyz", []),
    ],
)
def test_completions(line, words) -> None:
    assert completions(line) == words


def test_bash_completes() -> None:
    script = (
        f'convtl() {{ \'{sys.executable}\' -m convtl "$@"; }}; eval "$(convtl completion)"\n'
        "COMP_LINE='convtl run model=vgg11'; COMP_POINT=${#COMP_LINE}; _convtl; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "vgg11 vgg11_bn\n"
