"""Every sweep file is one that an agent can run: valid keys, a command as agents give it, a metric we log."""

from pathlib import Path

import pytest
import tiny
import yaml

from convtl import run
from convtl.cli import compose
from convtl.study.grid import expand

FILES = sorted((Path(__file__).parent.parent / "sweeps").glob("*.yaml"))
LOGGED = ("study/mean_val_accuracy", "study/best_val_accuracy", "study/worst_val_accuracy")


def words_of(sweep: dict, pick: int) -> list[str]:
    """What an agent would put on the command line for the first or last value of every parameter."""
    point = {name: spec["values"][pick] for name, spec in sweep["parameters"].items()}
    words: list[str] = []
    for part in sweep["command"]:
        if part == "${args_no_hyphens}":
            words += [f"{name}={value}" for name, value in point.items()]
        elif "=" in part:
            words.append(part)
    return words


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_point_of_a_sweep_is_a_study(path: Path) -> None:
    sweep = yaml.safe_load(path.read_text())
    assert sweep["program"] == "convtl.run"
    assert sweep["command"][:4] == ["${env}", "${interpreter}", "-m", "${program}"]
    assert sweep["metric"]["name"] in LOGGED
    for pick in (0, -1):
        _, trials = expand(compose(words_of(sweep, pick)))
        assert trials


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_first_point_of_a_sweep_runs(path: Path, tmp_path: Path) -> None:
    asked = words_of(yaml.safe_load(path.read_text()), 0)
    small = [
        word for word in tiny.WORDS if word.split("=")[0] not in ("source", "target", "depth", "n_per_class")
    ]
    small += ["domains.noise.size=16", "domains.noise.per_class={train: 16,validation: 4,test: 8}"]
    assert run._main([*asked, *small, "tracking.mode=offline", f"out={tmp_path}"]) == 0
    assert (tmp_path / "report.html").exists()
    assert list((tmp_path / "wandb").glob("*/run-*.wandb"))


def test_there_is_a_sweep() -> None:
    assert FILES
