"""Every sweep file is one that an agent can run: a command as agents give it, legal points, a metric that we log."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml

from convtl import run
from convtl.cli import compose, typed_keys
from convtl.config.parsing import parse
from convtl.entry import options
from convtl.study.grid import Trial, expand, refuse_hidden

FILES = sorted((Path(__file__).parent.parent / "sweeps").glob("*.yaml"))
LOGGED = ("study/mean_val_accuracy",)


def sweep_of(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def values_of(spec: dict[str, Any]) -> list[Any]:
    """All values of a parameter; of a range its ends."""
    return spec["values"] if "values" in spec else [spec["min"], spec["max"]]


def points_of(sweep: dict[str, Any]) -> list[dict[str, Any]]:
    """The first and the last one."""
    return [
        {name: values_of(spec)[end] for name, spec in sweep["parameters"].items()}
        for end in (0, -1)
    ]


def lists_of(sweep: dict[str, Any]) -> dict[str, str]:
    """All points at once, each axis as one list."""
    return {
        name: str(values_of(spec)).replace("'", "") for name, spec in sweep["parameters"].items()
    }


def words_of(sweep: dict[str, Any], point: dict[str, Any]) -> list[str]:
    """What an agent puts on the command line, after the program."""
    words: list[str] = []
    for part in sweep["command"][4:]:
        given = [f"{name}={value}" for name, value in point.items()]
        words += given if part == "${args_no_hyphens}" else [part]
    return words


def trials_of(words: list[str]) -> list[Trial]:
    content = compose(words)
    refuse_hidden(typed_keys(words), content)
    return expand(parse(content))[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_points_of_a_sweep_are_studies(path: Path) -> None:
    sweep = sweep_of(path)
    assert sweep["program"] == "convtl.run"
    assert (
        sweep["project"] == compose([])["tracking"]["project"]
    )  # where `wandb agent` looks for the sweep
    assert sweep["command"][:4] == ["${env}", "${interpreter}", "-m", "${program}"]
    assert {"tracking.mode=online", "${args_no_hyphens}"} <= set(sweep["command"])
    assert sweep["metric"]["name"] in LOGGED
    for point in points_of(sweep):
        assert trials_of(words_of(sweep, point)), point


def test_a_search_draws_no_value_that_is_refused() -> None:
    (path,) = [path for path in FILES if path.stem == "my_target"]
    sweep = sweep_of(path)
    drawn = {(trial.regime, trial.depth) for trial in trials_of(words_of(sweep, lists_of(sweep)))}
    assert len(drawn) == 5 * len(sweep["parameters"]["regime"]["values"])


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("finetune_depth", None),
        ("principle1_similarity", "dial"),
        ("principle2_data_size", "sizes"),
        ("principle3_dissimilar", "sources"),
        ("rule_of_thumb", "cases"),
    ],
)
def test_the_points_of_a_grid_are_trials_of_its_study(name: str, part: str | None) -> None:
    """So the study takes them over, and its report is that of one process."""
    (path,) = [path for path in FILES if path.stem == name]
    sweep = sweep_of(path)
    together = {trial.id for trial in trials_of(words_of(sweep, lists_of(sweep)))}
    content = compose([f"+experiment={name}"])
    content["blocks"] = None if part is None else {part: content["blocks"][part]}
    assert {trial.id for trial in expand(parse(content))[1]} == together


def test_the_first_point_of_a_sweep_runs(tmp_path: Path) -> None:
    """Those of the other files are run by a real agent (tests/test_agents.py)."""
    (path,) = [path for path in FILES if path.stem == "finetune_depth"]
    sweep = sweep_of(path)
    asked = words_of(sweep, points_of(sweep)[0])
    given = {word.split("=")[0] for word in asked} - {"updates"}
    small = [word for word in tiny.WORDS if word.split("=")[0] not in given]
    assert run.main([*asked, *small, "tracking.mode=offline", f"out={tmp_path}"]) == 0
    assert (tmp_path / "report.html").exists()
    assert list((tmp_path / "wandb").glob("*/run-*.wandb"))


def test_there_is_a_sweep_for_every_principle_and_one_that_searches() -> None:
    principles = {
        name for name in options("experiment") if name.startswith("principle") and name[9].isdigit()
    }
    assert len(principles) == 3
    assert principles | {"finetune_depth", "my_target"} <= {path.stem for path in FILES}
    methods = [sweep_of(path)["method"] for path in FILES]
    assert set(methods) == {"grid", "bayes"}
