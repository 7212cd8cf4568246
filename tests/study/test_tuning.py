"""Confirmatory rates: chosen on other targets, frozen, and part of what a trial is."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
from commands import Commands

from convtl import conduct
from convtl.study.grid import Trial, distinct, expand
from convtl.study.materials import TargetData
from convtl.study.store import Row
from convtl.study.tuning import choose_rate, frozen, tuning_points

TARGETS = "[cyrillic,armenian]"
WORDS = (
    *tiny.MORE,
    "source=[latin,scratch]",
    f"target={TARGETS}",
    "depth=[1,5]",
    "replicates=2",
    "lr=[1e-3,1e-2]",
    f"tuning={{targets: {TARGETS}, replicates: 2}}",
)
RATES = (1e-3, 1e-2)


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return tiny.content(*WORDS)


def tuned(best: Callable[[Trial], float], trials: list[Trial]) -> dict[str, Row]:
    """Rows of tuning trials of which each does best at a rate of its own."""
    return {
        trial.id: {
            "status": "done",
            "n_val": 12,
            "scores": [[rate, 0.5 if rate == best(trial) else 0.25, 1.0] for rate in RATES],
        }
        for trial in trials
    }


def chosen(content: Mapping[str, Any], best: Callable[[Trial], float]) -> list[Trial]:
    points, stage = expand(content)[1], tuning_points(content)
    return frozen(points, stage, tuned(best, stage))


def rate_of(trial: Trial) -> float:
    (rate,) = trial.settings.lr
    return rate


# --- the rule ---------------------------------------------------------------------------------------


def scored(**scores: tuple[float | None, float | None]) -> Row:
    """A row of `r3=(accuracy, loss)`: what 10^-3 had on validation."""
    return {
        "n_val": 100,
        "scores": [[10.0 ** -int(name[1:]), *pair] for name, pair in scores.items()],
    }


@pytest.mark.parametrize(
    ("rows", "rate", "compared", "edge"),
    [
        ([scored(r3=(0.5, 1.0), r2=(0.6, 1.0), r1=(0.4, 1.0))], 1e-2, 3, False),
        ([scored(r3=(0.5, 1.0), r2=(0.6, 1.0))], 1e-2, 2, True),
        ([scored(r3=(0.5, 1.0))], 1e-3, 1, False),
        # equal accuracy: the lower loss; equal loss too: the lower rate
        ([scored(r3=(0.5, 1.0), r2=(0.5, 0.9), r1=(0.5, 1.0))], 1e-2, 3, False),
        ([scored(r3=(0.4, 1.0), r2=(0.5, 1.0), r1=(0.5, 1.0))], 1e-2, 3, False),
        # logits are averaged: .99 and .5 beat .8 and .8, which beat .9 and .6
        (
            [scored(r3=(0.8, 1.0), r2=(0.99, 1.0)), scored(r3=(0.8, 1.0), r2=(0.5, 1.0))],
            1e-2,
            2,
            True,
        ),
        (
            [scored(r3=(0.8, 1.0), r2=(0.9, 1.0)), scored(r3=(0.8, 1.0), r2=(0.6, 1.0))],
            1e-3,
            2,
            True,
        ),
        # a rate that one of them has not tried, or that diverged in one, is out
        (
            [scored(r3=(0.5, 1.0), r2=(0.9, 0.1)), scored(r3=(0.5, 1.0), r4=(0.9, 0.1))],
            1e-3,
            1,
            False,
        ),
        (
            [scored(r3=(0.5, 1.0), r2=(0.9, 0.1)), scored(r3=(0.5, 1.0), r2=(None, None))],
            1e-3,
            1,
            False,
        ),
        # nothing to compare: the lowest rate of the grid
        ([scored(r3=(0.5, 1.0)), scored(r2=(0.5, 1.0))], 1e-3, 0, True),
        ([scored(r3=(None, None), r2=(None, None))], 1e-3, 0, True),
    ],
)
def test_which_rate_is_chosen(rows, rate, compared, edge) -> None:
    found, facts = choose_rate(rows, (1e-2, 1e-3))
    assert found == pytest.approx(rate)
    assert facts == {"n_rates": compared, "lr_at_edge": edge}


# --- two stages -------------------------------------------------------------------------------------


def test_the_first_stage_is_on_replicates_that_serve_nothing_else(content) -> None:
    points, stage = expand(content)[1], tuning_points(content)
    assert {trial.replicate for trial in stage} == {1000, 1001}
    assert {trial.replicate for trial in points} == {0, 1}
    assert {trial.target for trial in stage} == {"cyrillic", "armenian"}
    assert len(stage) == 2 * 2 * 3  # targets, replicates, latin at two depths and scratch
    assert all(trial.settings.tuning is None and trial.settings.lr == RATES for trial in stage)
    assert not {trial.id for trial in stage} & {trial.id for trial in points}


def test_a_study_that_validates_for_itself_has_one_stage() -> None:
    content = tiny.content()
    assert tuning_points(content) == []
    points = expand(content)[1]
    assert frozen(points, [], {}) == points


def test_rates_come_from_the_other_target_alone(content) -> None:
    found = chosen(content, lambda trial: 1e-2 if trial.target == "cyrillic" else 1e-3)
    assert len(found) == 12
    assert {(trial.target, rate_of(trial)) for trial in found} == {
        ("cyrillic", 1e-3),
        ("armenian", 1e-2),
    }

    def other(trial: Trial) -> float:
        """What a target's own tuning rows say is turned round."""
        return 1e-3

    again = {t.id for t in chosen(content, other) if t.target == "cyrillic"}
    assert again == {t.id for t in found if t.target == "cyrillic"}


def test_every_arm_has_a_rate_of_its_own(content) -> None:
    found = chosen(
        content, lambda trial: 1e-2 if (trial.source, trial.depth) == ("latin", 1) else 1e-3
    )
    assert {(trial.source, trial.depth, rate_of(trial)) for trial in found} == {
        ("latin", 1, 1e-2),
        ("latin", 5, 1e-3),
        ("scratch", 5, 1e-3),
    }


def test_without_another_target_its_own_other_replicates_serve() -> None:
    content = tiny.content(*WORDS, "target=cyrillic", "tuning={targets: cyrillic}")
    assert {trial.target for trial in tuning_points(content)} == {"cyrillic"}
    assert {rate_of(trial) for trial in chosen(content, lambda trial: 1e-2)} == {1e-2}


def test_a_frozen_rate_is_part_of_what_a_trial_is(content) -> None:
    low, high, again = (
        {trial.id for trial in chosen(content, lambda trial, best=best: best)}
        for best in (1e-3, 1e-2, 1e-3)
    )
    assert low == again
    assert not low & high
    assert not low & {trial.id for trial in expand(content)[1]}


def test_the_ends_of_a_dial_are_their_rungs_at_the_frozen_rate_too() -> None:
    blocks = "blocks={dial: {source: mixture,similarity: [0,1]},rungs: {source: [noise,own]}}"
    content = tiny.content(*WORDS, blocks, "depth=1", "replicates=1")
    found = chosen(content, lambda trial: 1e-2)
    by_place = {(t.source, t.similarity, t.target): t.id for t in found}
    for target in ("cyrillic", "armenian"):
        assert by_place["mixture", 0.0, target] == by_place["noise", None, target]
        assert by_place["mixture", 1.0, target] == by_place["own", None, target]
    assert len(distinct(found)) == 4


@pytest.mark.parametrize(
    "words",
    [["target=cyrillic"], ["source=scratch"], ["replicate=1"], ["depth=5", "n_per_class=2"]],
)
def test_a_slice_has_the_ids_of_the_whole_study(content, words) -> None:
    def best(trial: Trial) -> float:
        return 1e-2 if (trial.target, trial.depth) == ("armenian", 5) else 1e-3

    whole = {trial.id: rate_of(trial) for trial in chosen(content, best)}
    part = {trial.id: rate_of(trial) for trial in chosen(tiny.content(*WORDS, *words), best)}
    assert part.items() <= whole.items()
    assert 0 < len(part) < len(whole)


@pytest.mark.parametrize(
    "row", [None, {"status": "failed"}, {"status": "interrupted", "reason": "stopped"}]
)
def test_a_trial_without_all_its_tuning_rows_is_left_out(content, row) -> None:
    points, stage = expand(content)[1], tuning_points(content)
    rows = tuned(lambda trial: 1e-3, stage)
    gone = next(t for t in stage if (t.target, t.source, t.depth) == ("armenian", "latin", 5))
    rows = {name: own for name, own in rows.items() if name != gone.id} | (
        {gone.id: row} if row else {}
    )
    left = {(t.target, t.source, t.depth) for t in frozen(points, stage, rows)}
    everything = {(t.target, t.source, t.depth) for t in points}
    assert everything - left == {("cyrillic", "latin", 5)}


def test_an_arm_that_diverged_at_every_rate_gets_the_lowest(content) -> None:
    points, stage = expand(content)[1], tuning_points(content)
    rows = {
        trial.id: {
            "status": "diverged",
            "n_val": 12,
            "scores": [[rate, None, None] for rate in RATES],
        }
        for trial in stage
    }
    found = frozen(points, stage, rows)
    assert len(found) == len(points)
    assert {rate_of(trial) for trial in found} == {1e-3}
    assert all(trial.tuned == {"n_rates": 0, "lr_at_edge": True} for trial in found)


# --- from end to end --------------------------------------------------------------------------------


@pytest.fixture
def commands(monkeypatch, capfd, tmp_path) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(monkeypatch, capfd).without_reports()


def test_a_run_that_is_stopped_between_its_stages_goes_on(commands, monkeypatch) -> None:
    train, calls = conduct._train, []

    def stopped(trials: Any, *given: Any) -> Any:
        calls.append(len(trials))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(trials, *given)

    words = (*WORDS, "out=o")
    with monkeypatch.context() as patch:
        patch.setattr(conduct, "_train", stopped)
        assert commands.tiny(*words).code == 130
    assert calls == [12, 12]
    first = tiny.table(Path("o"))
    assert len(first) == 12
    assert {row["replicate"] for row in first.values()} == {1000, 1001}
    assert {row["val_regime"] for row in first.values()} == {"oracle"}

    done = commands.tiny(*words)
    assert done.code == 0, done.err
    assert "12 trials run, 12 were there" in done.out
    rows = tiny.table(Path("o"))
    assert first.items() <= rows.items()
    study = [row for row in rows.values() if row["replicate"] < 1000]
    assert len(study) == 12
    for row in study:
        assert (row["status"], row["val_regime"]) == ("done", "other_target")
        assert len(row["scores"]) == 1, "one run, at the frozen rate"
        others = [
            own
            for own in first.values()
            if own["target"] != row["target"]
            and (own["source"], own["depth"]) == (row["source"], row["depth"])
        ]
        rate, facts = choose_rate(others, RATES)
        assert (row["lr"], row["n_rates"], row["lr_at_edge"]) == (
            rate,
            facts["n_rates"],
            facts["lr_at_edge"],
        )
    again = commands.tiny(*words)
    assert "0 trials run, 24 were there" in again.out
    assert tiny.table(Path("o")) == rows


def test_a_dry_run_tells_both_stages(commands) -> None:
    done = commands.tiny(*WORDS, "out=o", "dry_run=true")
    assert done.code == 0, done.err
    assert "12 trials: 0 done, 12 to run" in done.out
    assert "then 12 trials at the rates that 12 tuning trials choose" in done.out


CONFIRMATORY = (*WORDS, "depth=1", "replicates=1", f"tuning={{targets: {TARGETS}, replicates: 1}}")
ORACLE = (*CONFIRMATORY, "tuning=null")


@pytest.mark.parametrize("words", [ORACLE, CONFIRMATORY], ids=["oracle", "confirmatory"])
def test_poisoned_test_labels_change_no_choice(commands, monkeypatch, words) -> None:
    """Whoever chose anything by test images would choose otherwise."""
    assert commands.tiny(*words, "out=honest").code == 0
    read = TargetData._held_out

    def poisoned(self: TargetData, split: str) -> Any:
        images, labels = read(self, split)
        return (images, (labels + 1) % 4) if split == "test" else (images, labels)

    monkeypatch.setattr(TargetData, "_held_out", poisoned)
    assert commands.tiny(*words, "out=poisoned").code == 0
    honest, other = tiny.table(Path("honest")), tiny.table(Path("poisoned"))
    assert honest.keys() == other.keys()
    tested = {"test_accuracy", "test_nll", "test_ece"}
    for name, row in honest.items():
        assert row["status"] == "done"
        assert {key: value for key, value in row.items() if key not in tested} == {
            key: value for key, value in other[name].items() if key not in tested
        }
        assert row["test_nll"] != other[name]["test_nll"]
