"""Two processes on every run, on this machine's loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import launched
import pytest
import tiny

from convtl.runtime import processes
from convtl.runtime.processes import agreed, anyone, leading, several
from convtl.storage.cache import default_root
from convtl.study.store import RowStore

STUDY = (
    "source=[latin,scratch]",
    "depth=[1,5]",
    "updates=12",
    "chunk=4",
    "lr=1e-2",
    "lanes=1",
    "cache_prefix=false",
)
LONG = (
    "source=random",
    "depth=5",
    "lr=1e-2",
    "updates=100000",
    "chunk=4",
    "lanes=1",
    "checkpoint_minutes=0",
)
WITHIN = 60.0
"""Seconds within which who is left ends."""


def test_alone_this_process_decides() -> None:
    assert not several()
    assert leading()
    assert agreed(lambda: {"any": ("thing",)}) == {"any": ("thing",)}
    assert [anyone(here) for here in (True, False)] == [True, False]


def test_words_of_an_earlier_start_do_not_count(tmp_path, monkeypatch) -> None:
    """Else a process that dies before its first word would pass for one that refuses, as it did the last time."""
    monkeypatch.setattr(processes, "_start", "first")
    processes._say(tmp_path, "ended 2")
    assert processes._heard(tmp_path, 0) == "ended 2"
    monkeypatch.setattr(processes, "_start", "second")
    assert processes._heard(tmp_path, 0) == ""
    processes._say(tmp_path, "77 1")
    assert processes._heard(tmp_path, 0) == "77 1"


class Pair:
    """Both processes of a study, and what they say."""

    def __init__(
        self, out: Path, *words: str, started: Sequence[int] = (0, 1), changed: str = ""
    ) -> None:
        """Process 1 may be changed by a folder with a `sitecustomize`."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.out = out
        self._said = [out.with_name(f"{out.name}-{port}-{index}") for index in range(2)]
        self.processes = [self._start(index, port, words, changed) for index in started]

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
                    return int(json.loads(path.read_text())["metadata"]["runs"][0][1])
                except (OSError, ValueError):  # it is being replaced
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


@pytest.mark.parametrize(
    "gone", [pytest.param(0, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.long)]
)
def test_a_dead_peer_ends_the_other_and_a_restart_goes_on(pair, gone: int) -> None:
    first = pair("o", *LONG)
    first.until_kept()
    first.processes[gone].kill()
    began = time.monotonic()
    assert first.processes[1 - gone].wait(WITHIN) == 75, first.said(1 - gone)
    assert time.monotonic() - began < WITHIN
    last = first.said(1 - gone)[-1]
    assert last.startswith(
        (
            "convtl: distributed: another of the 2 processes is gone (",
            "convtl: distributed: process 0",
        )
    )
    assert last.endswith("again, they go on from what was kept last")
    assert not [line for line in first.said(1 - gone) if "Traceback" in line]
    kept = first.until_kept()
    again = pair("o", *LONG)
    time.sleep(1)
    while again.until_kept() <= kept:
        assert all(process.poll() is None for process in again.processes), again.said(
            0
        ) + again.said(1)
        time.sleep(0.5)


@pytest.mark.slow
def test_a_silent_peer_ends_the_other(pair) -> None:
    both = pair("o", *LONG)
    both.until_kept()
    os.kill(both.processes[1].pid, signal.SIGSTOP)
    assert both.processes[0].wait(WITHIN) == 75, both.said(0)
    assert "process 1 of 2 has been silent for 30 s; start all 2 again" in both.said(0)[-1]


@pytest.mark.slow
def test_a_signal_to_one_stops_both_and_they_go_on_to_the_same_rows(pair) -> None:
    words = (*LONG[:3], "updates=120", "chunk=4", "lanes=1")
    whole = pair("whole", *words)
    assert whole.wait(300) == [0, 0], whole.said(0) + whole.said(1)
    broken = pair("broken", *words, "checkpoint_minutes=0")
    broken.until_kept()
    broken.processes[1].terminate()
    assert broken.wait(60) == [75, 75], broken.said(0) + broken.said(1)
    assert (
        broken.said(0)[-1]
        == "convtl: stopped by SIGTERM; the same commands go on where they stopped"
    )
    assert broken.until_kept() < 120
    again = pair("broken", *words)
    assert again.wait(300) == [0, 0], again.said(0) + again.said(1)
    assert _rows(broken.out) == _rows(whole.out)


@pytest.mark.long
def test_a_peer_that_dies_in_the_only_chunk_or_in_a_source_net_is_missed_too(
    pair, tmp_path
) -> None:
    cache = tmp_path / "cache"
    words = (
        "pretrain.updates=100000",
        "chunk=4",
        "lanes=1",
        "checkpoint_minutes=0",
        f"cache={cache}",
    )
    both = pair("source", *words)
    both.until(lambda: list((cache / "checkpoints").glob("*/metadata.json")))
    both.processes[1].kill()
    assert both.processes[0].wait(WITHIN) == 75, both.said(0)
    assert "another of the 2 processes is gone" in both.said(0)[-1]
    both = pair("chunk", *LONG[:3], "updates=20000", "chunk=20000", "lanes=1")
    both.until(lambda: any("depth 5" in line for line in both.said(0)))
    time.sleep(8)  # it compiles, and trains
    assert both.processes[0].poll() is None
    both.processes[1].kill()
    assert both.processes[0].wait(WITHIN) == 75, both.said(0)
    assert {row["status"] for row in RowStore(both.out).read().values()} == {"interrupted"}


@pytest.mark.slow
def test_an_error_of_one_ends_both_and_each_says_its_reason(pair, tmp_path) -> None:
    changed = launched.changed(tmp_path, launched.BROKEN)["first_on_path"]
    both = pair("o", *LONG, changed=changed)
    assert both.processes[1].wait(120) == 1
    assert "RuntimeError: device lost" in both.said(1)
    assert both.processes[0].wait(WITHIN) == 75, both.said(0)
    assert "another of the 2 processes is gone" in both.said(0)[-1]


@pytest.mark.slow
def test_who_is_left_alone_at_the_start_says_so(pair, tmp_path) -> None:
    early = "import convtl.runtime.processes as processes\nprocesses._JOIN_SECONDS = 5\n"
    alone = pair(
        "o", *LONG, started=[1], changed=launched.changed(tmp_path, early)["first_on_path"]
    )
    assert alone.processes[0].wait(60) == 75
    line = "convtl: distributed: the processes did not come together within 5 s (coordinator 127.0.0.1:"
    assert alone.said(1)[-1].startswith(line), alone.said(1)
