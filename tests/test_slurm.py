"""On a real SLURM of one node: job arrays end in the table of the unsplit study, whatever is killed on the way."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import launched
import pytest

pytestmark = pytest.mark.slurm

_README = (launched.ROOT / "sweeps/README.md").read_text(encoding="utf-8")


def _running() -> bool:
    if shutil.which("sinfo") is None:
        return False
    asked = subprocess.run(["sinfo", "-h"], capture_output=True, text=True, timeout=20, check=False)
    return asked.returncode == 0 and bool(asked.stdout.strip())


@pytest.fixture(autouse=True)
def _slurm(tmp_path) -> Iterator[None]:
    if not _running():
        pytest.skip("no SLURM is running here; as root, .ci/slurm start starts one")
    yield
    for job in queue(tmp_path):
        subprocess.run(["scancel", job], check=False, timeout=20)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """The study, run by one process."""
    folder = tmp_path_factory.mktemp("plain")
    done = launched.run(folder, *launched.STUDY, "out=o")
    assert done.returncode == 0, done.stderr
    return folder / "o"


def queue(folder: Path) -> set[str]:
    """Jobs from a folder that wait or run; a task of an array is ARRAY_TASK."""
    asked = subprocess.run(
        ["squeue", "-h", "-r", "-o", "%i %Z"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    found = (line.split(" ", 1) for line in asked.stdout.splitlines())
    return {job for job, place in found if Path(place) == folder}


def restarts(job: str) -> list[int]:
    """How often a job, or each task of an array, was started again; a while after their end, too."""
    shown = subprocess.run(
        ["scontrol", "show", "job", job], capture_output=True, text=True, timeout=20, check=True
    )
    return [int(number) for number in re.findall(r"\bRestarts=(\d+)", shown.stdout)]


def until(done, what: str, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"no {what} after {seconds} s"
        time.sleep(0.5)


def ends_as(plain: Path, out: Path) -> None:
    assert launched.table(out) == launched.table(plain)
    assert len(launched.final_rows(out)) == 8, "something was done twice"
    assert (out / "report.html").exists()


def test_an_array_by_submitit_is_the_unsplit_study(plain, tmp_path) -> None:
    pytest.importorskip(
        "hydra_plugins.hydra_submitit_launcher", reason="extra `submitit` is not installed"
    )
    words = ("worker=0,1,2,3", "hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1")
    done = launched.run(tmp_path, "-m", *launched.STUDY, "out=o", *words)
    assert done.returncode == 0, done.stderr
    ends_as(plain, tmp_path / "o")


def test_a_killed_and_a_preempted_job_of_submitits_go_on(plain, tmp_path) -> None:
    """One job is killed as by a lack of memory, the other gets the signal that comes before the time limit."""
    pytest.importorskip(
        "hydra_plugins.hydra_submitit_launcher", reason="extra `submitit` is not installed"
    )
    words = ("worker=0,1", "hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1")
    out = tmp_path / "o"
    given = launched.changed(tmp_path, launched.HELD)
    parent = launched.start(tmp_path, "-m", *launched.STUDY, "out=o", *words, **given)
    try:
        until(lambda: len(list(out.glob("rows/*.jsonl"))) == 2, "row of each job")
        first, second = sorted(queue(tmp_path))
        subprocess.run(["scancel", "--signal=KILL", f"{first}.0"], check=True, timeout=20)
        subprocess.run(["scancel", "--signal=USR2", f"{second}.0"], check=True, timeout=20)
        _, said = parent.communicate(timeout=280)
    finally:
        parent.kill()
    assert parent.returncode == 0, said
    ends_as(plain, out)
    assert restarts(first) + restarts(second) == [1, 1]


def test_the_readmes_array_goes_on_where_jobs_were_killed_or_asked_to_stop(plain, tmp_path) -> None:
    (script,) = re.findall(r"^```sh\n(#!/bin/bash\n.*?)^```", _README, re.MULTILINE | re.DOTALL)
    given = launched.changed(tmp_path, launched.HELD)
    study = " ".join(f"'{word}'" for word in (*launched.STUDY, "out=o"))
    script = script.replace("+experiment=finetune_depth", study).replace(
        "srun python", f"srun {sys.executable}"
    )
    variables = f"export PYTHONPATH='{given['first_on_path']}:{launched.ROOT}'\n"
    (tmp_path / "array.sh").write_text(script.replace("srun", f"{variables}srun", 1))
    sent = subprocess.run(
        ["sbatch", "--parsable", "array.sh"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    until(
        lambda: len(list(tmp_path.glob("o/rows/*.jsonl"))) == 4,
        f"row of each job of array {sent.stdout}",
    )
    for job, signal in zip(sorted(queue(tmp_path)), ("KILL", "TERM", "KILL", "TERM"), strict=True):
        subprocess.run(["scancel", f"--signal={signal}", f"{job}.0"], check=True, timeout=20)
    until(lambda: not queue(tmp_path), "end of the array")
    ends_as(plain, tmp_path / "o")
    assert restarts(sent.stdout.strip()) == [1, 1, 1, 1]


def test_the_tasks_of_a_step_find_each_other(tmp_path) -> None:
    """`distributed=auto`: two processes train every run together."""
    words = (*launched.STUDY, "out=o", "devices={count: 1,split: batch}", "distributed=auto")
    step = [
        "srun",
        "--ntasks=2",
        "--cpus-per-task=1",
        "--time=5",
        sys.executable,
        "-m",
        "convtl.run",
        *words,
    ]
    environment = {**os.environ, "PYTHONPATH": str(launched.ROOT)}
    done = subprocess.run(
        step, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert len(launched.final_rows(tmp_path / "o")) == 8
    assert len(list((tmp_path / "o" / "rows").iterdir())) == 1, "one process writes"
    (record,) = (tmp_path / "o" / "configs").glob("*.yaml")
    assert "each batch over all of them" in record.read_text()
