"""A small study run by launchers and clusters, in processes of their own, and the table that it must end in."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import tiny

ROOT = Path(__file__).parent.parent
STUDY = (
    *tiny.WORDS,
    "source=[random,scratch]",
    "n_per_class=[2,4]",
    "replicates=2",
    "lr=[1e-3,1e-2]",
    "lr_extend=0",
)
"""8 trials in two programs."""

BROKEN = """
import convtl.training.loop as loop

def broken(self, *given):
    raise RuntimeError("device lost")

loop.Trainer.train = broken
"""
"""A `sitecustomize` with which every trial fails."""

KILLED = """
import os, pathlib, signal
import convtl.study.store as store

append = store.RowStore.append

def killed(self, row):
    append(self, row)
    mark = pathlib.Path(os.environ["MARK"])
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)

store.RowStore.append = killed
"""
"""One with which the first process that has written a row is killed, as nothing can be that is asked to end."""

TOLD = """
import os, pathlib
import convtl.training.loop as loop

train = loop.Trainer.train

def told(self, *given):
    pathlib.Path(os.environ["MARK"] + str(os.getpid())).touch()
    return train(self, *given)

loop.Trainer.train = told
"""
"""One with which every process that trains says so."""

HELD = """
import os, time
import convtl.training.loop as loop
from convtl.runtime import stopping

train, calls = loop.Trainer.train, []

def held(self, *given):
    calls.append(1)
    end = time.monotonic() + 200 * (len(calls) > 1 and os.environ.get("SLURM_RESTART_COUNT", "0") == "0")
    while time.monotonic() < end and not stopping.requested():
        time.sleep(0.1)
    return train(self, *given)

loop.Trainer.train = held
"""
"""One with which a job trains one batch and then waits, unless SLURM has started it again."""


def changed(folder: Path, how: str) -> dict[str, str]:
    """Variables with which processes started from `folder` are changed."""
    path = folder / "path"
    path.mkdir()
    (path / "sitecustomize.py").write_text(how)
    return {"first_on_path": str(path), "MARK": str(folder / "mark")}


def start(folder: Path, *words: str, **variables: str) -> "subprocess.Popen[str]":
    """`python -m convtl.run WORDS` in a folder."""
    path = os.pathsep.join(filter(None, (variables.pop("first_on_path", ""), str(ROOT))))
    return subprocess.Popen(
        [sys.executable, "-m", "convtl.run", *words],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, **variables},
    )


def run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """As `start`, to its end."""
    process = start(folder, *words, **variables)
    try:
        out, err = process.communicate(timeout=280)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def table(out: Path) -> list[dict[str, str]]:
    """results.csv without the time that trials took, and the commit, which changes where somebody works."""
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        return [{**line, "seconds": "", "commit": ""} for line in csv.DictReader(file)]


def final_rows(out: Path) -> list[str]:
    """Ids of the trials of all rows that are final, as often as they are there."""
    import json

    lines = [
        line for path in (out / "rows").glob("*.jsonl") for line in path.read_text().splitlines()
    ]
    return [row["trial"] for row in map(json.loads, lines) if row["status"] in ("done", "diverged")]
