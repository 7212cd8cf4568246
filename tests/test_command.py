"""The `convtl` command."""

from importlib import import_module

import pytest
from commands import Commands

from convtl import __main__
from convtl.__main__ import COMMANDS


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
