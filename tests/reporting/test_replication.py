"""A study beside the same study under another seed."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from commands import Commands
from principle_rows import MAIN, study

from convtl.analysis.arms import frame
from convtl.analysis.scorecard import Score, scorecard
from convtl.reporting.replication import Second, changes, pairs, section, sentence, table
from convtl.reporting.scorecard import table as scorecard_table

NAMES = ("similarity", "dissimilarity")


@pytest.fixture(scope="module")
def scores() -> list[Score]:
    return scorecard(NAMES, frame(study(*NAMES, replicates=12)), targets=MAIN)


def changed(scores: list[Score], name: str, **other: object) -> list[Score]:
    return [replace(score, **other) if score.name == name else score for score in scores]  # type: ignore[arg-type]


def test_a_study_replicates_itself(scores) -> None:
    found = pairs(scores, scores)
    assert {pair.first.name for pair in found} == {
        score.name
        for score in scores
        if (score.claim.primary or score.reading == "strong") and not math.isnan(score.p)
    }
    assert all(pair.kept for pair in found if pair.asked)
    assert any(pair.asked for pair in found)
    assert [scores[pair.number - 1] for pair in found] == [pair.first for pair in found]


def kept(scores: list[Score], second: list[Score], name: str) -> bool:
    return next(pair.kept for pair in pairs(scores, second) if pair.first.name == name)


def test_another_sign_or_a_large_p_is_no_replication(scores) -> None:
    (first, *_) = (score for score in scores if score.name == "similarity.weak")
    assert kept(scores, changed(scores, first.name, p=0.05), first.name)
    assert not kept(scores, changed(scores, first.name, p=0.051), first.name)
    assert not kept(scores, changed(scores, first.name, effect=-first.effect), first.name)
    assert not kept(
        scores, changed(scores, first.name, p=math.nan, outcome="not tested"), first.name
    )


def test_the_sign_of_several_parts_is_whether_they_speak_for_the_claim(scores) -> None:
    score = next(
        pair.first for pair in pairs(scores, scores) if pair.first.claim.test == "all_parts"
    )
    flipped = tuple(replace(part, p=part.p_contrary, p_contrary=part.p) for part in score.parts)
    assert kept(scores, changed(scores, score.name, effect=-score.effect), score.name)
    assert not kept(scores, changed(scores, score.name, parts=flipped), score.name)


def test_only_clear_results_are_asked(scores) -> None:
    first = changed(scores, "similarity.weak", p_adjusted=0.01)
    (pair,) = (pair for pair in pairs(first, scores) if pair.first.name == "similarity.weak")
    assert not pair.asked
    assert table([pair], 0, 4).splitlines()[-1].endswith("| – |")


def test_what_was_not_run_again_is_not_counted(scores) -> None:
    second = changed(scores, "similarity.weak", p=math.nan, parts=(), outcome="not enough data")
    found = pairs(scores, second)
    said = sentence(found, 0, 4, {})
    asked = sum(pair.asked for pair in found)
    assert said.startswith(
        f"Of {asked - 1} claims with p < 0.01 (adjusted) under seed 0, {asked - 1} are replicated"
    )
    assert said.endswith("not run again: claim 1.")
    assert "| not run | – |" in table(found, 0, 4)


def test_every_verdict_that_differs_is_named_with_both(scores) -> None:
    asked = next(pair for pair in pairs(scores, scores) if pair.asked)
    secondary = next(
        score for score in scores if score.reading == "secondary" and score.outcome == "supported"
    )
    second = changed(scores, asked.first.name, outcome="practically null")
    second = changed(second, secondary.name, outcome="inconclusive")
    found = changes(scores, second)
    place = scores.index(secondary) + 1
    assert found == {
        asked.number: f"{asked.number} ({asked.first.outcome} → practically null)",
        place: f"{place} (supported → inconclusive)",
    }
    said = sentence(pairs(scores, second), 0, 4, found)
    assert f"replicated with another verdict: claim {found[asked.number]}" in said
    assert said.endswith(f"Of the other claims, the verdict differs on {found[place]}.")
    lost = sentence(pairs(scores, changed(scores, asked.first.name, p=0.5)), 0, 4, {})
    assert f"not replicated: claim {asked.number}" in lost


def test_the_scorecard_shows_the_second_verdict(scores) -> None:
    second = Second(4, tuple(changed(scores, scores[0].name, outcome="inconclusive")))
    lines = scorecard_table(scores, second).splitlines()
    assert "| verdict | seed 4 | agrees with |" in lines[0]
    assert "| **inconclusive** |" in lines[3]
    assert "seed 4" not in scorecard_table(scores)


def test_a_setting_may_have_another_name_if_it_is_the_only_one(scores) -> None:
    elsewhere = [replace(score, setting="config c0de") for score in scores]
    assert all(pair.second is not None for pair in pairs(scores, elsewhere))
    two = [*scores, *elsewhere]
    assert all(
        pair.second is not None and pair.second.setting == pair.first.setting
        for pair in pairs(two, two)
    )


def test_the_section_names_both_seeds_and_what_else_differs(scores) -> None:
    said, shown, _ = section(scores, 0, Second(4, tuple(scores), differs=("updates",)))
    assert said.startswith("**Run again with seed 4.** Of ")
    assert said.endswith("The second run differs in updates too.\n")
    assert (
        "effect, seed 0 | p (adjusted) | effect, seed 4 | p (unadjusted) | verdict, seed 4" in shown
    )
    assert re.search(
        r"^\| 1\\\. .* \| \+\d\.\d\d \| 0\.\d+ \| \+\d\.\d\d \| <0\.001 \| \*\*supported\*\* \| yes \|$",
        shown,
        re.M,
    )
    assert section([], 0, Second(4, ()))[0].startswith("**Run again with seed 4.** Of 0 claims")


# --- the command ----------------------------------------------------------------------------------------

WORDS = ("scorecard=[similarity]", "study=tiny", "lr=1e-2")


@pytest.fixture
def commands(monkeypatch, capfd, tmp_path) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(monkeypatch, capfd)


def test_two_runs_are_set_beside_each_other(commands) -> None:
    for seed in (0, 1):
        assert (
            commands.without_reports().tiny(*WORDS, f"seed={seed}", f"out=my runs/{seed}").code == 0
        )
    done = commands.report("out=my runs/0", "replication=my runs/1", "publish=kept")
    assert done.code == 0
    assert "Run again with seed 1. Of 0 claims" in done.out
    text = Path("kept/README.md").read_text(encoding="utf-8")
    assert (
        text.index("**Table 1.**")
        < text.index("**Run again with seed 1.**")
        < text.index("What this study can say")
    )
    assert "seed=1`; `python -m convtl.report` sets it" in text
    assert "my runs" not in text
    assert str(Path.cwd()) not in text
    assert "under another `seed`" not in text

    def refused(folder: str) -> str:
        return commands.report("out=my runs/0", f"replication={folder}").line.replace(
            f"{Path.cwd()}/", ""
        )

    accepted = "accepted: a folder of study 'tiny' run with another seed than 0"
    assert refused("my runs/0") == f"replication: got 'my runs/0' with seed 0; {accepted}"
    assert refused("nowhere") == f"replication: got 'nowhere', which has no rows; {accepted}"
    assert commands.tiny(*WORDS, "study=other", "seed=2", "out=o").code == 0
    assert refused("o") == f"replication: got 'o' with study 'other'; {accepted}"
    for record in Path("o/configs").glob("*.yaml"):
        record.unlink()
    assert refused("o").startswith("replication: got 'o' (out: no study in 'o'")
    assert commands.tiny("study=tiny", "out=plain", "lr=1e-2").code == 0
    line = commands.report("out=plain", "replication=my runs/1").line
    assert line.endswith("the study in `out` has no claims; accepted: a `scorecard`")
