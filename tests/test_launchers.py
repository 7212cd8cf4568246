"""Every launcher really runs a study by several workers, and says how it went; SLURM is in `test_slurm`."""

import json
import time
from pathlib import Path

import launched
import psutil
import pytest

from convtl.storage import checkpoint

pytestmark = pytest.mark.slow
LONG = pytest.mark.long

ENDLESS = (
    "updates=1000000",
    "steps_per_call=10",
    "runs_per_device=1",
    "lr=1e-2",
    "source=random",
    "n_per_class=2",
)
"""Two trials of hours; nothing is kept of them unless a signal asks for it."""

LAUNCHERS = [("processes", "joblib"), ("submitit", "submitit"), ("ray_tasks", "ray")]


def needs(extra: str) -> None:
    pytest.importorskip(
        f"hydra_plugins.hydra_{extra}_launcher", reason=f"extra `{extra}` is not installed"
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """The study, run by one process."""
    folder = tmp_path_factory.mktemp("plain")
    done = launched.run(folder, *launched.STUDY, "out=o")
    assert done.returncode == 0, done.stderr
    return folder / "o"


@pytest.mark.parametrize(("launcher", "extra"), LAUNCHERS)
def test_a_launchers_jobs_end_in_the_unsplit_study(plain, tmp_path, launcher, extra) -> None:
    needs(extra)
    done = launched.run(
        tmp_path, "-m", *launched.STUDY, "out=o", "worker=0,1", f"hydra/launcher={launcher}"
    )
    assert done.returncode == 0, done.stderr
    assert launched.table(tmp_path / "o") == launched.table(plain)
    assert len(launched.final_rows(tmp_path / "o")) == 8, "something was done twice"
    assert "8 trials are there" in done.stdout
    assert (tmp_path / "o" / "report.html").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["o"], "Hydra left something"
    left = {path.name for path in (tmp_path / "o").iterdir()} - {
        path.name for path in plain.iterdir()
    }
    assert left == {"launch"}


@pytest.mark.parametrize(
    ("launcher", "extra", "how", "words", "code", "line"),
    [
        pytest.param(
            "submitit",
            "submitit",
            launched.BROKEN,
            (),
            1,
            "4 trials failed: RuntimeError: device lost",
            marks=LONG,
        ),
        pytest.param(
            "processes",
            "joblib",
            "",
            ("save=maybe",),
            2,
            "save: got ",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "ray_tasks",
            "ray",
            "",
            ("save=maybe",),
            2,
            "save: got ",
            marks=pytest.mark.long,
        ),
    ],
)
def test_how_jobs_end_is_told_where_they_were_launched(
    tmp_path, launcher, extra, how, words, code, line
) -> None:
    needs(extra)
    study = (
        "-m",
        *launched.STUDY,
        "source=random",
        "out=o",
        "worker=0,1",
        f"hydra/launcher={launcher}",
        *words,
    )
    done = launched.run(tmp_path, *study, **launched.changed(tmp_path, how))
    assert done.returncode == code, done.stderr
    (told,) = [said for said in done.stderr.splitlines() if said.startswith("convtl: ")]
    assert told.removeprefix("convtl: ").startswith(line)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("launcher", "extra"), [LAUNCHERS[1], pytest.param(*LAUNCHERS[2], marks=LONG)]
)
def test_a_job_that_is_killed_is_started_again_or_told(plain, tmp_path, launcher, extra) -> None:
    needs(extra)
    given = launched.changed(tmp_path, launched.KILLED)
    words = ("-m", *launched.STUDY, "out=o", "worker=0,1", f"hydra/launcher={launcher}")
    done = launched.run(tmp_path, *words, **given)
    assert (tmp_path / "mark").exists()
    if launcher != "ray_tasks":  # Ray starts a task that died again
        assert done.returncode == 1
        assert "convtl: hydra/launcher: " in done.stderr
        assert "Traceback" not in done.stderr
        done = launched.run(tmp_path, *words, **given)
    assert done.returncode == 0, done.stderr
    assert launched.table(tmp_path / "o") == launched.table(plain)
    assert len(launched.final_rows(tmp_path / "o")) == 8, "something was done twice"


def test_a_signal_has_the_jobs_of_this_machine_keep_their_runs_and_end(tmp_path) -> None:
    needs("joblib")
    given = launched.changed(tmp_path, launched.TOLD)
    words = ("-m", *launched.STUDY, *ENDLESS, "out=o", "worker=0,1", "hydra/launcher=processes")
    sweep = launched.start(tmp_path, *words, **given)
    try:
        jobs = _until_two_train(tmp_path)
        sweep.terminate()
        said = sweep.communicate(timeout=60)[1]
    finally:
        sweep.kill()
        sweep.communicate()
    assert sweep.returncode == 75, said
    assert "convtl: stopped by SIGTERM; the same command goes on where it stopped" in said
    assert "Traceback" not in said
    assert not any(psutil.pid_exists(job) for job in jobs)
    kept = [
        checkpoint.load(path.parent)[0]["runs"]["0"]
        for path in (tmp_path / "o" / "checkpoints").glob("*/metadata.json")
    ]
    assert len(kept) == 2
    assert all(len(one["losses"]) for one in kept)
    lines = [
        line
        for path in (tmp_path / "o" / "rows").iterdir()
        for line in path.read_text().splitlines()
    ]
    assert [json.loads(line)["status"] for line in lines] == ["interrupted"] * 2


def _until_two_train(folder: Path) -> list[int]:
    """Processes of the jobs, some updates after the last of them has begun."""
    end = time.monotonic() + 120
    while len(found := list(folder.glob("mark*"))) < 2:
        assert time.monotonic() < end
        time.sleep(0.1)
    time.sleep(5)
    return [int(path.name.removeprefix("mark")) for path in found]
