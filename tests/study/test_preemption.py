"""A study that is stopped in the middle of a run goes on there, and its rows are those of an unbroken one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

from convtl.runtime.stopping import Stopped, on_signals
from convtl.storage.cache import Cache, default_root
from convtl.storage.checkpoint import digests
from convtl.study.materials import Materials
from convtl.training import pretrain
from convtl.training.checkpoints import CHECKPOINTS
from convtl.training.loop import Trainer
from convtl.training.pretrain import ensure_sources

STUDY = (
    "updates=6",
    "steps_per_call=2",
    "depth=5",
    "source=random",
    "replicates=2",
    "lr_extend=0",
    "optim.ema=0.9",
    "augment={crop: [0.5,1.0],flip: true,colour: 0.2,mixup: 0.2}",
)
"""Two trials at three rates, four lanes wide: of two batches, the second holds what is left of the second trial.

Each is trained in three chunks of updates.
"""

Happens = Callable[[int], None]


class Killed(BaseException):
    """Nothing in the package handles it, as nothing handles SIGKILL."""


@pytest.fixture
def at_batches(monkeypatch: pytest.MonkeyPatch) -> Callable[[Happens], list[int]]:
    """Has something happen before a chunk of updates, counted over all batches; returns where chunks began."""

    def install(happens: Happens) -> list[int]:
        asked: list[int] = []
        original = Trainer._inputs

        def watched(self: Trainer, runs: Any, phase: Any, first: int, stop: int) -> Any:
            asked.append(first)
            happens(len(asked))
            return original(self, runs, phase, first, stop)

        monkeypatch.setattr(Trainer, "_inputs", watched)
        return asked

    return install


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("unbroken")
    tiny.run(out, tiny.trials(*STUDY))
    return tiny.table(out)


def _rows(out: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in (out / "rows").glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]


def _term(at: int) -> Happens:
    return lambda count: os.kill(os.getpid(), signal.SIGTERM) if count == at else None


@pytest.mark.parametrize(
    "at", [pytest.param(at, marks=pytest.mark.slow) if at > 2 else at for at in (2, 3, 5)]
)
def test_after_a_signal_runs_go_on_where_they_were(tmp_path, at_batches, unbroken, at: int) -> None:
    """In the first batch, at its end, in the second."""
    asked = at_batches(_term(at))
    with pytest.raises(Stopped), on_signals():
        tiny.run(tmp_path, tiny.trials(*STUDY))
    assert len(asked) == at  # it ends with the chunk in which the signal came
    left = [row for row in _rows(tmp_path) if row["status"] == "interrupted"]
    assert {row["reason"] for row in left} == {"stopped from outside (SIGTERM)"}
    assert any((tmp_path / CHECKPOINTS).iterdir())
    assert tiny.run(tmp_path, tiny.trials(*STUDY)).ran == 2 - (len(unbroken) - len(left))
    assert tiny.table(tmp_path) == unbroken
    assert len(asked) == 6  # nothing was trained twice
    assert not (tmp_path / CHECKPOINTS).exists()


def test_after_a_kill_runs_go_on_from_what_was_kept_last(tmp_path, at_batches, unbroken) -> None:
    def kill(count: int) -> None:
        if count in (2, 6):
            raise Killed

    asked = at_batches(kill)
    words = (*STUDY, "checkpoint_minutes=0")
    for _ in range(2):
        with pytest.raises(Killed):
            tiny.run(tmp_path, tiny.trials(*words))
    tiny.run(tmp_path, tiny.trials(*words))
    assert tiny.table(tmp_path) == unbroken
    assert asked.count(0) == 2  # both batches began once
    assert not (tmp_path / CHECKPOINTS).exists()


WITHIN = (*STUDY, "validation=within", "n_per_class=3", "replicates=1")
WITHIN = (*WITHIN, "lr=[1e-3,3e-3]", "lr_extend=1")
"""One trial: two batches of folds, one of those of a further rate, and the run on all labels."""


@pytest.fixture(scope="module")
def unbroken_within(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("within")
    tiny.run(out, tiny.trials(*WITHIN))
    return tiny.table(out)


@pytest.mark.slow
@pytest.mark.parametrize("at", [(5, 12), (2, 9)])
def test_cross_validation_goes_on_where_it_was(
    tmp_path, at_batches, unbroken_within, at: tuple[int, ...]
) -> None:
    """Killed among the last folds and in the run on all labels; among the first, and those of a further rate."""

    def kill(count: int) -> None:
        if count in at:
            raise Killed

    asked = at_batches(kill)
    words = (*WITHIN, "checkpoint_minutes=0")
    for _ in at:
        with pytest.raises(Killed):
            tiny.run(tmp_path, tiny.trials(*words))
    tiny.run(tmp_path, tiny.trials(*words))
    assert tiny.table(tmp_path) == unbroken_within
    assert len(asked) == 4 * 3 + len(at)  # only the chunks that were broken are begun twice


def test_without_a_checkpoint_runs_begin_anew(tmp_path, at_batches, unbroken) -> None:
    def kill(count: int) -> None:
        if count == 2:
            raise Killed

    asked = at_batches(kill)
    with pytest.raises(Killed):
        tiny.run(tmp_path, tiny.trials(*STUDY))
    tiny.run(tmp_path, tiny.trials(*STUDY))
    assert tiny.table(tmp_path) == unbroken
    assert asked.count(0) == 3


def test_a_damaged_checkpoint_is_told_and_not_used(tmp_path, at_batches, unbroken) -> None:
    at_batches(_term(2))
    with pytest.raises(Stopped), on_signals():
        tiny.run(tmp_path, tiny.trials(*STUDY))
    for path in (tmp_path / CHECKPOINTS).glob("*/metadata.json"):
        path.write_text(path.read_text().replace("0.", "1.", 1))
    witness = tiny.Witness()
    tiny.run(tmp_path, tiny.trials(*STUDY), witness)
    assert tiny.table(tmp_path) == unbroken
    assert len([line for line in witness.said if line.endswith("is damaged; it is not used")]) == 2


def test_a_checkpoint_that_cannot_be_written_ends_nothing(tmp_path, unbroken) -> None:
    (tmp_path / CHECKPOINTS).write_text("in the way")
    witness = tiny.Witness()
    tiny.run(tmp_path, tiny.trials(*STUDY, "checkpoint_minutes=0"), witness)
    assert tiny.table(tmp_path) == unbroken
    assert any(
        "cannot be written" in line and "work goes on without it" in line for line in witness.said
    )


def test_source_nets_go_on_as_well(tmp_path, at_batches, monkeypatch) -> None:
    trials = tiny.trials("steps_per_call=2", "pretrain.updates=8")
    materials = Materials(Cache(default_root()), lambda what: None)
    requests = [materials.request(trial) for trial in trials]
    expected = ensure_sources(requests, Cache(tmp_path / "unbroken"))
    asked = at_batches(_term(2))
    cache = Cache(tmp_path / "cache")

    def checkpoints() -> Any:
        return pretrain.Checkpoints(
            tmp_path / "cache" / CHECKPOINTS, None, lambda line: pytest.fail(line)
        )

    with pytest.raises(Stopped), on_signals():
        ensure_sources(requests, cache, checkpoints=checkpoints())
    assert asked == [0, 2]
    found = ensure_sources(requests, cache, checkpoints=checkpoints())
    assert asked == [0, 2, 4, 6]
    assert {name: net.metadata for name, net in found.items()} == {
        name: net.metadata for name, net in expected.items()
    }
    (one,), (other,) = found.values(), expected.values()
    assert digests(one.variables) == digests(other.variables)


def test_whoever_follows_sees_every_tenth(tmp_path) -> None:
    witness = tiny.Witness(follows=True)
    tiny.run(tmp_path, tiny.trials(*STUDY), witness)
    seen = [(points[0].update, len(points)) for points in witness.curves]
    assert seen == [(update, runs) for runs in (4, 2) for update in (2, 4)]
    ids = {row["trial"] for row in witness.rows}
    for points in witness.curves:
        assert all(
            0 <= point.val_accuracy <= 1 and point.loss > 0 and point.updates == 6
            for point in points
        )
        assert {point.trial for point in points} <= ids


@pytest.mark.slow
def test_a_real_net_with_statistics_goes_on_bit_for_bit(tmp_path, at_batches) -> None:
    """Batch normalisation that moves, augmentation, an average, clipping; in phases (head first)."""
    words = (
        "model=resnet20",
        "updates=8",
        "steps_per_call=2",
        "depth=all",
        "source=random",
        "lr=1e-2",
        "regime=lp_ft",
        "optim.ema=0.9",
        "optim.clip=1.0",
        "runs_per_device=1",
        "augment={crop: [0.5,1.0],flip: true,colour: 0.2}",
    )
    tiny.run(tmp_path / "unbroken", tiny.trials(*words))
    asked = at_batches(
        lambda count: os.kill(os.getpid(), signal.SIGTERM) if count in (1, 3) else None
    )
    for _ in range(2):
        with pytest.raises(Stopped), on_signals():
            tiny.run(tmp_path / "o", tiny.trials(*words))
    tiny.run(tmp_path / "o", tiny.trials(*words))
    assert tiny.table(tmp_path / "o") == tiny.table(tmp_path / "unbroken")
    assert len(asked) == len(set(asked))


@pytest.mark.slow
def test_a_scheduler_that_stops_the_command_is_told_to_try_again(tmp_path) -> None:
    """A real process, stopped by SIGTERM as soon as it trains."""
    words = [
        "updates=4000",
        "steps_per_call=2",
        "source=random",
        "depth=5",
        "lr=1e-2",
        f"out={tmp_path / 'o'}",
    ]
    command = [sys.executable, "-m", "convtl.run", *tiny.WORDS, *words, f"cache={default_root()}"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if "lenet5, depth 5" in line:
                time.sleep(2)
                process.send_signal(signal.SIGTERM)
        code = process.wait()
    assert code == 75, told
    assert told[-1] == "convtl: stopped by SIGTERM; the same command goes on where it stopped\n"
    assert [row["status"] for row in _rows(tmp_path / "o")] == ["interrupted"]
