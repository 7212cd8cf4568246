"""Two processes on every run, on this machine's loopback."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import launched
import pytest
import tiny

from convtl.errors import UserError
from convtl.runtime.backend import any_process, broadcast_from_primary, is_distributed, is_primary
from convtl.storage import checkpoint
from convtl.storage.cache import default_root
from convtl.study.measurements import read_similarity
from convtl.study.store import RowStore

STUDY = (
    "source=[latin,scratch]",
    "depth=[1,5]",
    "updates=12",
    "steps_per_call=4",
    "lr=1e-2",
    "runs_per_device=1",
    "cache_prefix=false",
)
LONG = (
    "source=random",
    "depth=5",
    "lr=1e-2",
    "updates=100000",
    "steps_per_call=4",
    "runs_per_device=1",
    "checkpoint_minutes=0",
)
WITHIN = 90.0
"""Seconds within which JAX ends the process that is left."""


def test_alone_this_process_decides() -> None:
    assert not is_distributed()
    assert is_primary()
    assert broadcast_from_primary(lambda: {"any": ("thing",)}) == {"any": ("thing",)}
    assert [any_process(flag) for flag in (True, False)] == [True, False]


class Pair:
    """Both processes of a study, and what they say."""

    def __init__(self, out: Path, *words: str, changed: str = "") -> None:
        """Process 1 may be changed by a folder with a `sitecustomize`."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.out = out
        self._said = [out.with_name(f"{out.name}-{port}-{index}") for index in range(2)]
        self.processes = [self._start(index, port, words, changed) for index in range(2)]

    def _start(
        self, index: int, port: int, words: tuple[str, ...], changed: str
    ) -> subprocess.Popen[bytes]:
        where = f"distributed={{coordinator: '127.0.0.1:{port}',processes: 2,process: {index}}}"
        around = (
            f"cache={default_root()}",
            f"out={self.out}",
            "devices={count: 1,split: batch}",
            where,
        )
        path = os.pathsep.join(filter(None, (changed if index else "", str(launched.ROOT))))
        with self._said[index].open("wb") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "convtl.run", *tiny.WORDS, *around, *words],
                stderr=said,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )

    def said(self, index: int) -> list[str]:
        return self._said[index].read_text().splitlines()

    def wait(self, seconds: float) -> list[int]:
        until = time.monotonic() + seconds
        return [process.wait(max(0.1, until - time.monotonic())) for process in self.processes]

    def until(self, done: Callable[[], Any]) -> None:
        end = time.monotonic() + 180
        while not done():
            assert time.monotonic() < end, self.said(0) + self.said(1)
            time.sleep(0.2)

    def until_kept(self) -> int:
        """Waits until a run has a checkpoint; returns after which update."""
        for _ in range(900):
            for path in (self.out / "checkpoints").glob("*/metadata.json"):
                try:
                    return len(checkpoint.load(path.parent)[0]["runs"]["0"]["losses"])
                except (UserError, OSError, KeyError):  # it is being replaced, or holds no run
                    pass
            time.sleep(0.2)
        raise AssertionError(self.said(0) + self.said(1))

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Any]:
    pairs: list[Pair] = []

    def start(name: str, *words: str, **how: Any) -> Pair:
        pairs.append(Pair(tmp_path / name, *words, **how))
        return pairs[-1]

    yield start
    for one in pairs:
        one.end()


def _rows(out: Path) -> dict[str, Mapping[str, Any]]:
    return {name: tiny.untimed(row) for name, row in RowStore(out).read().items()}


@pytest.mark.slow
def test_two_processes_leave_the_rows_of_one(pair, tmp_path) -> None:
    both = pair("both", *STUDY)
    assert both.wait(300) == [0, 0], both.said(0) + both.said(1)
    assert len(list((both.out / "rows").iterdir())) == 1  # only process 0 writes
    assert (both.out / "report.html").is_file()
    assert both.said(1) == []
    command = [
        sys.executable,
        "-m",
        "convtl.run",
        *tiny.WORDS,
        *STUDY,
        "devices={count: 2,split: batch}",
    ]
    alone = tmp_path / "alone"
    subprocess.run(
        [*command, f"out={alone}", f"cache={default_root()}"], check=True, capture_output=True
    )
    one, two = _rows(alone), _rows(both.out)
    assert one.keys() == two.keys()
    assert len(one) == 3
    for name, row in one.items():
        # Source nets are the same: whoever trains them first leaves them in the cache.
        assert two[name]["subset_digest"] == row["subset_digest"]
        assert two[name]["test_nll"] == pytest.approx(row["test_nll"], rel=1e-3)
        assert two[name]["frozen_ok"]


@pytest.mark.slow
def test_a_finished_study_is_measured_with_all_processes(pair, tmp_path) -> None:
    """Source nets that no trial loads any more are loaded by all processes, or none."""
    words = (*STUDY, "depth=1", "lr=1e-2", "source=latin", "domains.cyrillic.per_class.train=24")
    for measure in ("[]", "distances"):
        both = pair("o", *words, f"measure={measure}")
        assert both.wait(300) == [0, 0], both.said(0) + both.said(1)
    (measures,) = read_similarity(tmp_path / "o").measures.values()
    assert {"mmd2", "logme"} <= measures.keys()


@pytest.mark.parametrize(
    ("lost", "by"),
    [
        pytest.param(0, signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param(1, signal.SIGKILL, marks=pytest.mark.long),
        pytest.param(1, signal.SIGSTOP, marks=pytest.mark.long),
    ],
)
def test_a_lost_process_ends_the_other_and_a_restart_goes_on(pair, lost: int, by: int) -> None:
    first = pair("o", *LONG)
    first.until_kept()
    first.processes[lost].send_signal(by)
    assert first.processes[1 - lost].wait(WITHIN) != 0, first.said(1 - lost)
    first.end()
    before = first.until_kept()
    again = pair("o", *LONG)
    time.sleep(1)
    while again.until_kept() <= before:
        running = [process.poll() is None for process in again.processes]
        assert all(running), again.said(0) + again.said(1)
        time.sleep(0.5)


@pytest.mark.slow
def test_a_signal_to_one_stops_both_and_they_go_on_to_the_same_rows(pair) -> None:
    words = (*LONG[:3], "updates=120", "steps_per_call=4", "runs_per_device=1")
    whole = pair("whole", *words)
    assert whole.wait(300) == [0, 0], whole.said(0) + whole.said(1)
    broken = pair("broken", *words, "checkpoint_minutes=0")
    broken.until_kept()
    broken.processes[1].terminate()
    assert broken.wait(60) == [75, 75], broken.said(0) + broken.said(1)
    assert (
        broken.said(0)[-1]
        == "convtl: stopped by SIGTERM; the same command goes on where it stopped"
    )
    assert broken.until_kept() < 120
    again = pair("broken", *words)
    assert again.wait(300) == [0, 0], again.said(0) + again.said(1)
    assert _rows(broken.out) == _rows(whole.out)


@pytest.mark.slow
def test_an_error_of_one_ends_both(pair, tmp_path) -> None:
    changed = launched.changed(tmp_path, launched.BROKEN)["first_on_path"]
    both = pair("o", *LONG, changed=changed)
    assert both.processes[1].wait(120) == 1
    assert "RuntimeError: device lost" in both.said(1)
    assert both.processes[0].wait(WITHIN) != 0, both.said(0)


@pytest.mark.slow
def test_a_refusal_of_the_primary_ends_both(pair, tmp_path) -> None:
    (tmp_path / "o").write_text("in the way")
    both = pair("o", *LONG)
    assert both.processes[0].wait(120) == 2, both.said(0)
    assert both.said(0)[-1].startswith("convtl: out: "), both.said(0)
    assert both.processes[1].wait(WITHIN) != 0, both.said(1)
