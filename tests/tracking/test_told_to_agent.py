"""What ends before a study is tracked ends the run of W&B for which an agent has started the process."""

from pathlib import Path
from typing import Any

import pytest

from convtl import tracking
from convtl.errors import UserError
from convtl.runtime.stopping import Stopped
from convtl.tracking import told_to_agent
from convtl.tracking.tracker import Silence

CONTENT = {"tracking": {"mode": "online"}, "study": "mine", "out": None}


class Told(Silence):
    """Keeps how a run has ended."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, str]] = []

    def fail(self, reason: str) -> None:
        self.ends.append(("failed", reason))

    def preempted(self, reason: str) -> None:
        self.ends.append(("preempted", reason))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """An agent's process, and the run that it is for."""
    told = Told()

    def opened(*given: Any) -> Told:
        monkeypatch.setattr(tracking, "_opened", tracking._opened + 1)
        return told

    monkeypatch.setattr(tracking, "open_tracker", opened)
    monkeypatch.setenv("WANDB_RUN_ID", "run0")
    return told


def do(what: BaseException, content: dict[str, Any] = CONTENT) -> None:
    with told_to_agent(content, Path), told_to_agent(content, Path):
        raise what


@pytest.mark.parametrize(
    ("what", "end"),
    [
        (UserError("depth: got 9"), ("failed", "depth: got 9")),
        (Stopped(15), ("preempted", "stopped from outside")),
    ],
)
def test_the_end_is_told_once(told: Told, what: BaseException, end: tuple[str, str]) -> None:
    with pytest.raises(type(what)):
        do(what)
    assert told.ends == [end]


def test_nobody_is_told_without_an_agent(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_RUN_ID")
    with pytest.raises(Stopped):
        do(Stopped(15))
    assert told.ends == []


def test_whoever_has_begun_a_run_ends_it(told: Told) -> None:
    def begun() -> None:
        with told_to_agent(CONTENT, Path):
            tracking.open_tracker()  # type: ignore[call-arg]
            raise Stopped(15)

    with pytest.raises(Stopped):
        begun()
    assert told.ends == []
