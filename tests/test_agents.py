"""`wandb sweep` and `wandb agent` as they are installed, against a W&B server on this machine."""

import contextlib
import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from wandb_server import ENTITY, PROJECT, Run, Server, serving

from convtl.storage.cache import default_root

SWEEPS = Path(__file__).parent.parent / "sweeps"
KEY = "fedcba9876543210fedcba9876543210fedcba98"
LONG = ("replicates=4", "updates=8000", "runs_per_device=1", "steps_per_call=200")
"""a study that takes some seconds a trial"""
METRIC = "study/mean_val_accuracy"


class Place:
    """An empty folder somewhere, with the environment of somebody who has logged in at the server."""

    def __init__(self, root: Path, server: Server) -> None:
        self.server, self.out = server, root / "out"
        self.folder = root / "some where"
        self.folder.mkdir()
        (root / "home").mkdir()
        (root / "home" / ".netrc").write_text(
            f"machine {server.url[7:]} login user password {KEY}\n"
        )
        (root / "home" / ".netrc").chmod(0o600)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        self.environment = kept | {
            "HOME": str(root / "home"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "WANDB_BASE_URL": server.url,
            "WANDB_API_KEY": KEY,
        }
        self.said = ""
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            words,
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """After a failure: nothing goes on."""
        self.server.closing = True
        for process in self._started:
            if process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=30)
                process.kill()
                process.communicate()

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Exit code and what was said."""
        said, _ = process.communicate(timeout=300)
        self.said += said
        return process.returncode, said

    def run(self, *words: str) -> str:
        code, said = self.end(self.start(*words))
        assert code == 0, said
        return said

    def sweep(
        self,
        parameters: dict[str, list[Any]] | None,
        *words: str,
        path: Path = SWEEPS / "finetune_depth.yaml",
    ) -> list[str]:
        """Hands in a sweep made small, of other parameters if any are given; returns what starts an agent."""
        sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
        if parameters is not None:
            sweep["parameters"] = {name: {"values": values} for name, values in parameters.items()}
        given = {word.split("=")[0] for word in (*sweep["parameters"], *sweep["command"])}
        small = [*tiny.WORDS, *tiny.MORE, "lr=[1e-2]", "lr_extend=0"]
        small = [word for word in small if word.split("=")[0] not in given]
        sweep["command"][-1:-1] = [*small, f"out={self.out}", *words]
        file = self.folder.parent / "sweep.yaml"
        file.write_text(yaml.safe_dump(sweep), encoding="utf-8")
        said = self.run("wandb", "sweep", str(file))
        (line,) = [line for line in said.splitlines() if "Run sweep agent with" in line]
        agent = line.partition("with: ")[2].split()
        assert agent == ["wandb", "agent", f"{ENTITY}/{PROJECT}/sweep1"]
        return agent

    def wait(self, until: Callable[[], Any], agent: subprocess.Popen[str]) -> None:
        ends = time.monotonic() + 240
        while not until():
            assert agent.poll() is None, self.end(agent)
            assert time.monotonic() < ends
            time.sleep(0.05)

    def secrets(self) -> list[str]:
        """Where the key has gone to, beside the file where it belongs."""
        roots = (self.folder, self.out)
        files = [path for root in roots for path in root.rglob("*") if path.is_file()]
        assert files
        found = [str(path) for path in files if KEY.encode() in path.read_bytes()]
        found += ["said"] * (KEY in self.said)
        return found + ["sent"] * any(KEY.encode() in body for body in self.server.bodies)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with serving() as server:
        found = Place(tmp_path, server)
        with contextlib.closing(found):
            yield found
    assert server.unknown == []


def rows_of(out: Path) -> list[dict[str, str]]:
    """The table, without what says when and by whom a row was made."""
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        return [row | {"seconds": ""} for row in csv.DictReader(file)]


def lines_of(out: Path) -> list[dict[str, Any]]:
    """All rows as they were written."""
    files = (out / "rows").glob("*.jsonl")
    return [
        json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()
    ]


def mean_of(rows: Iterable[dict[str, str]]) -> float:
    own = [float(row["val_accuracy"]) for row in rows]
    return math.fsum(own) / len(own)


def report_of(out: Path) -> list[str]:
    """Its lines, without what they cost and how they were asked for."""
    text = (out / "report.md").read_text(encoding="utf-8")
    left_out = ("| device |", "python -m convtl.run")
    return [line for line in text.splitlines() if not any(part in line for part in left_out)]


def metrics(run: Run) -> list[float]:
    return [step[METRIC] for step in run.history if METRIC in step]


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_agent_runs_a_point_of_every_sweep(place: Place, path: Path) -> None:
    enough = "domains.cyrillic.per_class={train: 60,validation: 4,test: 8}"
    wandb, agent, sweep = place.sweep(None, f"cache={default_root()}", enough, path=path)
    place.run(wandb, agent, "--count", "1", sweep)
    ((name, point),) = place.server.handed.items()
    run, rows = place.server.runs[name], rows_of(place.out)
    assert (run.begun, run.exit_codes, run.sweep) == (1, [0], "sweep1")
    assert {key: run.config[key] for key in point} == point
    assert {row["status"] for row in rows} == {"done"}
    assert metrics(run)[-1] == pytest.approx(mean_of(rows))
    assert place.secrets() == []


@pytest.mark.slow
def test_three_agents_run_each_point_of_a_grid_once_and_their_reports_merge(place: Place) -> None:
    axes = {"source": ["latin", "scratch"], "depth": [1, 2], "n_per_class": [2]}
    agent = place.sweep(axes)
    agents = [place.start(*agent) for _ in range(3)]
    for process in agents:
        code, said = place.end(process)
        assert code == 0, said
    server = place.server
    points = [
        {"source": s, "depth": d, "n_per_class": 2} for s in axes["source"] for d in axes["depth"]
    ]
    assert sorted(server.handed.values(), key=points.index) == points
    assert sorted(server.ended) == sorted(server.handed) == sorted(server.runs)
    rows = rows_of(place.out)
    assert (
        len(rows) == len({row["trial"] for row in rows}) == tiny.row_lines(place.out) == 3
    )  # scratch once
    for name, run in server.runs.items():
        point = server.handed[name]
        assert (run.begun, run.exit_codes, run.sweep, run.group) == (
            1,
            [0],
            "sweep1",
            "finetune_depth",
        ), name
        assert {key: run.config[key] for key in point} == point
        fixed = {
            key: str(value)
            for key, value in point.items()
            if point["source"] != "scratch" or key != "depth"
        }
        own = [row for row in rows if fixed.items() <= row.items()]
        assert metrics(run), name  # also where another agent had run its trials
        assert metrics(run)[-1] == pytest.approx(mean_of(own))
        assert run.summary[METRIC] == metrics(run)[-1]
    assert place.secrets() == []

    words = [
        word for word in server.sweep["command"][4:-1] if not word.startswith(("out=", "tracking."))
    ]
    words += [f"{key}=[{','.join(map(str, values))}]" for key, values in axes.items()]
    merged = place.run(sys.executable, "-m", "convtl.run", *words, f"out={place.out}")
    assert "0 trials run, 3 were there" in merged
    alone = place.out.with_name("alone")
    place.run(sys.executable, "-m", "convtl.run", *words, f"out={alone}")
    assert rows_of(place.out) == rows_of(alone)
    assert report_of(place.out) == report_of(alone)


def _works_of(agent: subprocess.Popen[str]) -> list[int]:
    """The processes that an agent has started for its points."""
    found = Path(f"/proc/{agent.pid}/task").glob("*/children")
    children = [child for path in found for child in path.read_text().split()]
    return [int(c) for c in children if "convtl.run" in Path(f"/proc/{c}/cmdline").read_text()]


@pytest.mark.slow
def test_a_preempted_run_of_an_agent_goes_on_as_the_same_run(place: Place) -> None:
    agent = place.start(*place.sweep({"depth": [5]}, *LONG, "tracking.requeue=true"))
    server = place.server
    place.wait(lambda: lines_of(place.out), agent)  # the first of four
    (work,) = _works_of(agent)
    os.kill(work, signal.SIGTERM)  # as a scheduler does that wants the machine back
    code, said = place.end(agent)
    assert code == 0, said
    run = server.runs["run0"]
    assert server.ended == ["run0", "run0"]
    assert (run.begun, run.exit_codes) == (2, [255, 0])
    assert metrics(run)
    assert [step["_step"] for step in run.history] == list(range(len(run.history)))
    written = [row["status"] for row in lines_of(place.out)]
    assert written.count("done") == len(rows_of(place.out)) == 4
    assert set(written) <= {"done", "interrupted"}
    assert metrics(run)[-1] == pytest.approx(mean_of(rows_of(place.out)))
    assert place.secrets() == []


@pytest.mark.slow
@pytest.mark.parametrize("told", [pytest.param("the run", marks=pytest.mark.long), "its agent"])
def test_a_run_that_wandb_stops_early_is_not_run_again(place: Place, told: str) -> None:
    agent = place.start(*place.sweep({"depth": [5]}, *LONG, "updates=200000"))
    server = place.server
    place.wait(lambda: "run0" in server.runs, agent)
    if told == "the run":
        server.runs["run0"].stopped = True
    else:
        server.to_stop.add("run0")  # it sends SIGTERM
    code, said = place.end(agent)
    assert code == 0, said
    run = server.runs["run0"]
    assert (run.begun, run.exit_codes, run.preempting) == (1, [255], False)
    assert run.summary["failure"] == f"stopped by {'SIGINT' if told == 'the run' else 'SIGTERM'}"


@pytest.mark.slow
def test_a_point_that_is_tracked_offline_can_be_synced(place: Place) -> None:
    agent = place.sweep({"depth": [1]}, "tracking.mode=offline")
    place.run(*agent)
    server = place.server
    assert (list(server.handed), server.runs) == (["run0"], {})
    (folder,) = (place.out / "wandb").glob("offline-run-*")
    place.run("wandb", "sync", str(folder))
    (run,) = server.runs.values()
    assert (run.name, run.sweep, run.exit_codes) == ("run0", "sweep1", [0])
    assert run.config["depth"] == 1
    assert metrics(run)[-1] == pytest.approx(mean_of(rows_of(place.out)))
    assert [b"<html" in body for name, body in server.uploads.items() if "media/html" in name] == [
        True
    ]
    assert place.secrets() == []
