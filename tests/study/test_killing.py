"""The bar: whatever is killed whenever, the table is that of one process that nobody disturbed."""

import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import killing
import pytest
import tiny

from convtl.analysis.record import newest_record
from convtl.storage.cache import Cache, default_root
from convtl.study.nets import load_net

WORDS = (
    "source=[latin,scratch]",
    "depth=[1,3,5]",
    "n_per_class=[2,4]",
    "replicates=8",
    "save=best",
)
TRIALS = (3 + 1) * 2 * 8
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def table(out: Path) -> list[dict[str, str]]:
    """results.csv, but for what a clock or a commit says."""
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "commit")}
        for line in lines
    ]


def hidden(folder: Path) -> list[str]:
    """Names of what is or may be half written, but for Orbax's own files."""
    return [str(path) for path in folder.rglob(".*") if path.name not in (".zarray", ".locks")]


@pytest.mark.parametrize(
    "kills", [pytest.param(40, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.long)]
)
def test_eight_processes_killed_many_times_leave_the_table_of_one(tmp_path, kills) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    command = [sys.executable, killing.__file__, str(out), str(cache), "8", str(kills), "0", *WORDS]
    done = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    rows = [there for there, _ in found["killed"]]
    assert len(rows) == kills
    for part in (rows.count(0), rows.count(TRIALS), sum(0 < there < TRIALS for there in rows)):
        assert part >= kills // 20, f"kills did not fall into every part of the work: {rows}"
    unbroken = out.with_name("out.unbroken")
    assert len(table(unbroken)) == TRIALS
    assert table(out) == table(unbroken)
    assert tiny.row_lines(out) == TRIALS, "a trial was done twice"

    assert {path.name for path in out.iterdir()} == {path.name for path in unbroken.iterdir()}
    assert hidden(out) == []
    assert len(list((out / "nets").iterdir())) == TRIALS
    for net in (out / "nets").iterdir():
        load_net(net)
    assert len(newest_record(out)["points"]) == TRIALS
    assert (out / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert {path.name for path in (out / "figures").iterdir()} == {
        path.name for path in (unbroken / "figures").iterdir()
    }

    said: list[str] = []
    entries = [entry for entry in Cache(cache).entries() if entry[0] == "sources"]
    assert len(entries) == 8
    assert all(Cache(cache, said.append).get(*entry) for entry in entries)
    assert said == []


@pytest.mark.slow
def test_fresh_processes_killed_at_random_moments_leave_the_table_of_one(tmp_path) -> None:
    """The same with commands as users type them, from the interpreter's start on."""
    words = [
        *tiny.WORDS,
        "source=[latin,scratch]",
        "depth=[1,5]",
        "n_per_class=[2,4]",
        f"cache={default_root()}",
    ]
    command = [sys.executable, "-m", "convtl.run", *words]
    moments = random.Random(0)

    def start(out: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, f"out={out}"],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    began = time.monotonic()
    _, errors = (alone := start(tmp_path / "unbroken")).communicate()
    assert alone.returncode == 0, errors
    whole = time.monotonic() - began
    both = [start(tmp_path / "out") for _ in range(2)]
    for _ in range(3):
        time.sleep(moments.uniform(0, whole / 2))
        place = moments.randrange(2)
        both[place].kill()
        both[place].communicate()
        both[place] = start(tmp_path / "out")
    for process in both:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    assert table(tmp_path / "out") == table(tmp_path / "unbroken")
    assert tiny.row_lines(tmp_path / "out") == len(table(tmp_path / "out")) == 6
    assert hidden(tmp_path / "out") == []
