"""`-m` and workers: many jobs on one `out`, and afterwards the table, record and report of the unsplit study."""

import csv
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest
import tiny
import yaml
from commands import Commands
from hydra.core.config_store import ConfigStore

from convtl.cli import compose, read
from convtl.conduct import whole_of
from convtl.config.parsing import parse
from convtl.runtime.stopping import Stopped
from convtl.study.grid import expand


@pytest.fixture
def commands(monkeypatch, capfd, tmp_path) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(monkeypatch, capfd)


STUDY = ("source=[random,scratch]", "depth=[1,5]", "lr=1e-2")


def table(out: str) -> list[dict[str, str]]:
    with (Path(out) / "results.csv").open(newline="", encoding="utf-8") as file:
        return [{**line, "seconds": ""} for line in csv.DictReader(file)]


def records(out: str) -> list[dict]:
    """What was recorded of the study, but for the folder."""
    records = [
        yaml.safe_load(path.read_text()) for path in sorted(Path(out, "configs").glob("*.yaml"))
    ]
    return [
        record
        | {
            "config": {**record["config"], "out": None},
            "points": Path(out, "configs", record["points"]).read_text(),
        }
        for record in records
    ]


# --- the study that a sweep's points are parts of ---------------------------------------------------


@pytest.mark.parametrize(
    ("words", "merged"),
    [
        ("target=cyrillic,greek", {"target": ["cyrillic", "greek"]}),
        ("target=cyrillic,greek depth=[1,2],3", {"depth": [1, 2, 3]}),
        ("depth=1,2 worker=0,1 hydra/launcher=basic", {"depth": [1, 2], "worker": None}),
        ("depth=1", {"depth": 1}),
        ("norm_mode=train,frozen", {"axes": {"norm_mode": ["train", "frozen"]}}),
        (
            "optim.clip=1.0,2.0 axes={norm_mode:[train,frozen]}",
            {"axes": {"norm_mode": ["train", "frozen"], "optim.clip": [1.0, 2.0]}},
        ),
        ("augment=null,{flip:true}", {"axes": {"augment": [None, {"flip": True}]}}),
        ("source=own,latin:shuffled", {"source": ["own", "latin:shuffled"]}),
        ("+experiment=finetune_depth replicate=0,[1,2]", {"replicate": [0, 1, 2]}),
        ("seed=0,1", None),
        ("optim=adam,sgd", {"axes": {"optim.kind": ["adam", "sgd"]}}),
        ("+experiment=finetune_depth,layer_transfer", None),
        ("replicates=1,2", None),
    ],
)
def test_points_of_a_sweep_are_parts_of_one_study_where_there_is_one(words, merged) -> None:
    studies = [content | {"worker": None} for content in read(["-m", *words.split()]).contents]
    distinct = list({repr(study): study for study in studies}.values())
    whole = whole_of(distinct, [trial for study in distinct for trial in expand(parse(study))[1]])
    assert (whole is None) == (merged is None)
    assert merged is None or merged.items() <= whole.items()


def test_the_recorded_command_is_that_of_the_whole_study() -> None:
    words = ["depth=1,2", "worker=0,1", "hydra/launcher=basic"]
    assert read(["-m", *words]).command == "python -m convtl.run -m depth=1,2"
    assert read(["out=a b", "worker=1"]).command == "python -m convtl.run 'out=a b'"


# --- wrong input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("worker=0,1", "worker: got '0,1'; accepted: one value or a list, such as"),
        ("-m worker=0,x", "worker: got 'x'; accepted: a whole number"),
        ("shards=2", "shards: unknown key. It is now -m worker=0,1,..."),
        (
            "-m hydra/launcher=slrm",
            "hydra/launcher: unknown name 'slrm'; known: basic, processes, ray_tasks, slurm, "
            "submitit. Did you mean slurm?",
        ),
        (
            "hydra/launcher=processes",
            "hydra/launcher: got 'processes'; accepted: -m with ",
        ),
        ("-m hydra/launcher=processes hydra.launcher.nosuch=1", "configuration: "),
        (
            "-m hydra.verbose=true",
            "hydra.verbose: got 'true'; accepted: -m with hydra/launcher=NAME",
        ),
    ],
)
def test_wrong_workers_and_launchers_are_one_line(commands, tmp_path, words, line) -> None:
    if "processes" in words:
        pytest.importorskip(
            "hydra_plugins.hydra_joblib_launcher", reason="extra `joblib` is not installed"
        )
    assert commands.tiny(*STUDY, "out=o", *words.split()).line.startswith(line)
    assert not list(tmp_path.rglob("*.jsonl")), "something was run"


def test_a_dry_run_of_a_sweep_is_that_of_the_study(commands, tmp_path) -> None:
    for words in (("worker=1",), ("-m", "worker=0,1"), ("-m", "worker=0,1", "depth=1,5")):
        said = commands.tiny(*STUDY, "out=o", "dry_run=true", *words).out
        assert said.count("3 trials: 0 done, 3 to run") == 1
    assert not list(tmp_path.iterdir())


# --- what is left behind ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("worker=0,1,2",), marks=pytest.mark.slow),
        ("depth=1,5",),
        pytest.param(("worker=0,1", "depth=1,5"), marks=pytest.mark.slow),
    ],
)
def test_a_sweep_ends_in_the_unsplit_study(commands, words) -> None:
    commands.without_reports()
    study = [word for word in STUDY if not word.startswith("depth") or "depth=1,5" not in words]
    done = commands.run("-m", *tiny.WORDS[:2], *tiny.WORDS[3:], *study, "out=swept", *words)
    assert done.code == 0, done.err
    assert commands.run(*tiny.WORDS[:2], *tiny.WORDS[3:], *STUDY, "out=plain").code == 0
    assert table("swept") == table("plain")
    (swept,), (plain,) = records("swept"), records("plain")
    assert swept["config"] == plain["config"]
    assert swept["points"] == plain["points"]
    again = read(shlex.split(swept["command"])[3:])
    depths = [depth for content in again.contents for depth in np.atleast_1d(content["depth"])]
    assert depths == [1, 5]
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["plain", "swept"]


@pytest.mark.slow
def test_points_in_a_protocol_key_are_an_axis_of_the_table(commands) -> None:
    words = ("source=random", "lr=1e-2", "out=o")
    done = commands.run("-m", *tiny.WORDS, *words, "validation_per_class=2,3")
    assert done.code == 0, done.err
    assert [line["validation_per_class"] for line in table("o")] == ["2", "3"]
    assert "rows of other studies" not in Path("o/report.md").read_text(encoding="utf-8")


def test_points_that_are_no_one_study_are_studies_of_their_own(commands) -> None:
    commands.without_reports()
    Path("outputs").mkdir()
    Path("outputs/full").write_text("no folder")
    done = commands.run("-m", *tiny.WORDS, "source=random", "lr=1e-2", "study=one,full,two")
    assert done.code == 2, done.err
    (told,) = [line for line in done.err.splitlines() if line.startswith("convtl: ")]
    assert told.startswith("convtl: out: ")
    assert [len(table(f"outputs/{study}")) for study in ("one", "two")] == [1, 1]


# --- launchers, in this process ---------------------------------------------------------------------

LAUNCHED = ("-m", "hydra/launcher=processes", "hydra.launcher.n_jobs=1")


@pytest.mark.parametrize("words", [(), ("-m",), LAUNCHED, (*LAUNCHED, "worker=0,1")])
def test_a_study_without_trials_is_measured(commands, monkeypatch, words) -> None:
    if "hydra/launcher=processes" in words:
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="no extra `joblib`")
    measured = []
    monkeypatch.setattr("convtl.study.study.run_gradients", lambda *given: measured.append(given))
    study = (*tiny.WORDS, "blocks={}", "measure=gradients", "out=o")
    done = commands.without_reports().run(*study, *words)
    assert done.code == 0, done.err
    assert len(measured) == (2 if "worker=0,1" in words else 1)


def test_jobs_that_crash_are_counted_where_they_were_launched(commands, monkeypatch) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="no extra `joblib`")

    def crashing(content, command, part=None) -> int:
        if part:
            raise RuntimeError("lost")
        return 0

    monkeypatch.setattr("convtl.conduct.run_study", crashing)
    done = commands.tiny(*STUDY, "out=o", *LAUNCHED, "worker=0,1")
    assert done.code == 1
    (told,) = [line for line in done.err.splitlines() if line.startswith("convtl: ")]
    assert "hydra/launcher: 2 of 2 jobs ended badly, with exit code 1; their lines are" in told


def test_jobs_in_a_queue_go_on_when_their_parent_is_stopped(commands, monkeypatch) -> None:
    def stopped(*given) -> None:
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr("convtl.conduct.launch", stopped)
    done = commands.tiny("out=o", "-m", "hydra/launcher=slurm")
    assert done.code == 130
    assert "hydra/launcher: jobs in the queue go on; `scancel` ends them\n" in done.err


def test_a_launcher_that_is_not_installed_is_named_with_its_extra(commands, monkeypatch) -> None:
    compose(["hydra/launcher=basic"])  # now Hydra knows what is installed
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    monkeypatch.delitem(launchers, "joblib.yaml", raising=False)
    line = commands.tiny("out=o", *LAUNCHED).line
    assert line == "hydra/launcher: processes is not installed; pip install -e '.[joblib]'"
