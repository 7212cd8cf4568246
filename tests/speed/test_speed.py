"""`+experiment=speed`: what is compared, how it is told, and when the command fails."""

import csv
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from convtl import report
from convtl.cli import compose
from convtl.conduct import run_study
from convtl.errors import UserError
from convtl.parsing import parse
from convtl.speed import run as speed_run
from convtl.speed.compilations import Compilations
from convtl.speed.context import NEEDS_TORCH
from convtl.speed.lenet_runs import LeNetRuns
from convtl.speed.result import Result, difference, not_measured
from convtl.speed.table import lines
from convtl.speed.timing import Ratio, interleaved, ratio
from convtl.training.loop import Trainer
from convtl.training.runs import Run

WORDS = [
    "+experiment=speed",
    "debug=smoke",
    "speed.updates=4",
    "lanes=1",
    "chunk=4",
    "batch_size=4",
]


# --- times and figures ------------------------------------------------------------------------------


def test_sides_take_turns_after_a_call_that_is_not_timed() -> None:
    called: list[str] = []
    taken = interleaved({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 3)
    assert called == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert [len(times) for times in taken.values()] == [3, 3]


def test_a_ratio_is_that_of_each_round() -> None:
    taken = {"ours": [1.0, 2.0, 4.0], "theirs": [3.0, 4.0, 4.0]}
    assert ratio(taken, "ours", "theirs") == Ratio(2.0, 1.0, 3.0)
    assert ratio(taken, "ours", "theirs", 4) == Ratio(8.0, 4.0, 12.0)


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "met"),
        ({"goal": 2.1}, "missed"),
        ({"sense": "at most"}, "missed"),
        ({"sense": "at most", "goal": 2.0}, "met"),
        ({"goal": None}, "–"),
        ({"ratio": None}, "not measured"),
        ({"wrong": "losses differ"}, "WRONG"),
    ],
)
def test_verdicts(changed: dict[str, object], verdict: str) -> None:
    result = replace(Result("name", "what", ratio=Ratio(2.0, 1.0, 3.0), goal=1.5), **changed)
    assert result.verdict == verdict
    assert verdict in lines([result])


def test_what_is_not_measured_says_why() -> None:
    assert "no PyTorch here" in lines([not_measured("name", "what", "no PyTorch here", 2.0)])


def test_sides_differ_by_more_than_a_share() -> None:
    assert difference(1.0005, 1.0, 1e-3, "loss") is None
    assert difference(1.01, 1.0, 1e-3, "loss") == "loss: 1.01 here, 1 there"
    assert difference(float("nan"), 1.0, 1e-3, "loss") is not None


# --- compilations -----------------------------------------------------------------------------------


def test_runs_that_differ_in_numbers_only_compile_nothing() -> None:
    """Rates, seeds, weights and images are values: after the first runs of a kind nothing is left to compile."""
    runs = LeNetRuns(parse(compose(WORDS)), depth=2, cached=True, batch_size=4, updates=4, lanes=1)
    with Compilations() as first:
        runs.train()
    assert first.number > 0
    trainer = Trainer(runs.recipe)
    own = {name: runs.variables[name] for name in runs.recipe.network.names[runs.recipe.start :]}

    def losses(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        variables = jax.tree.map(
            lambda leaf: leaf + rng.normal(0, 0.01, leaf.shape).astype(leaf.dtype), own
        )
        shape = (4, 4, *runs.recipe.network.shape_before(runs.recipe.start))
        inputs, labels = (
            rng.normal(size=shape).astype(np.float32),
            rng.integers(0, 4, (4, 4), np.int32),
        )
        lane = Run(
            variables,
            1e-3 * (1 + seed),
            lambda begin, stop: (inputs[begin:stop], labels[begin:stop]),
            seed,
        )
        return trainer.train([lane])[0].losses

    before = losses(0)
    with Compilations() as second:
        after = [losses(seed) for seed in (1, 2, 3)]
    assert second.number == 0
    assert not any(np.array_equal(before, other) for other in after)


def test_the_first_lanes_rates_are_those_of_its_schedule() -> None:
    runs = LeNetRuns(parse(compose(WORDS)), batch_size=4, updates=10, lanes=1)
    assert len(runs.rates()) == 10
    assert max(runs.rates()) == pytest.approx(1e-3)
    head = LeNetRuns(parse(compose(WORDS)), depth=1, cached=True, batch_size=4, updates=10, lanes=1)
    assert 100 * head.flops < runs.flops


# --- the command ------------------------------------------------------------------------------------


@pytest.mark.long
def test_without_pytorch_the_rest_is_measured(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(speed_run, "_no_torch", lambda: NEEDS_TORCH)
    content = compose([*WORDS, f"out={tmp_path}"])
    assert run_study(content, "python -m convtl.run +experiment=speed") == 0
    with (tmp_path / "speed.csv").open(newline="") as file:
        table = {row["name"]: row for row in csv.DictReader(file)}
    unmeasured = {name for name, row in table.items() if row["verdict"] == "not measured"}
    depths = {f"depth {depth}{how}" for depth in (1, 2, 3, 4) for how in ("", " cached")}
    measured = {*depths, "head", "growth", "study cores", "decoding", "help", "first trial"}
    assert set(table) - unmeasured == measured
    assert all(float(table[name]["median"]) > 0 for name in measured)
    report = (tmp_path / "report.md").read_text()
    assert "pip install 'convtl[torch]'" in report
    assert "GFLOP/s" in report
    assert "head" in capsys.readouterr().out


def test_figures_are_published_as_they_are(tmp_path: Path, monkeypatch) -> None:
    slow = Result("slow", "what", ratio=Ratio(0.1, 0.1, 0.1), goal=2.0)
    monkeypatch.setattr(speed_run, "MEASURES", {"heads": lambda context: [slow]})
    content = compose([*WORDS, "speed.measure=heads", f"out={tmp_path / 'out'}"])
    assert run_study(content, f"python -m convtl.run +experiment=speed out={tmp_path / 'out'}") == 0
    with pytest.raises(UserError, match="accepted with publish=DIR"):
        report._main([f"out={tmp_path / 'out'}"])
    assert report._main([f"out={tmp_path / 'out'}", f"publish={tmp_path / 'kept'}"]) == 0
    assert "0.10x" in (tmp_path / "kept/README.md").read_text()
    assert str(tmp_path) not in (tmp_path / "kept/README.md").read_text()
    assert (tmp_path / "kept/speed.csv").read_bytes() == (tmp_path / "out/speed.csv").read_bytes()


@pytest.mark.parametrize(("wrong", "code"), [(None, 0), ("losses differ", 1)])
def test_only_a_wrong_result_fails_the_command(tmp_path: Path, monkeypatch, wrong, code) -> None:
    slow = Result("slow", "what", ratio=Ratio(0.1, 0.1, 0.1), goal=2.0, wrong=wrong)
    monkeypatch.setattr(speed_run, "MEASURES", {"heads": lambda context: [slow]})
    content = compose([*WORDS, "speed.measure=heads", f"out={tmp_path}"])
    assert run_study(content, "python -m convtl.run +experiment=speed") == code


@pytest.mark.foreign
@pytest.mark.filterwarnings("default")
def test_both_sides_compute_the_same(tmp_path: Path) -> None:
    """Losses of LeNet-5 and of real nets, features, and accuracies of a study; nothing here is about speed."""
    content = compose(
        [
            "+experiment=speed",
            "debug=smoke",
            "speed.measure=[lenet,nets,study]",
            "speed.images=32",
            f"out={tmp_path}",
        ]
    )
    assert run_study(content, "python -m convtl.run +experiment=speed") == 0
    verdicts = {
        row["name"]: row["verdict"] for row in csv.DictReader((tmp_path / "speed.csv").open())
    }
    assert len(verdicts) == 8
    assert not {"WRONG", "not measured"} & set(verdicts.values())
