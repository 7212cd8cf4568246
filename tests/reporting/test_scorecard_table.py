"""The scorecard on paper: every part's own numbers, the schedule that was run, the rule in words, main targets."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from principle_rows import MAIN, cells, row, study

from convtl.analysis.arms import frame
from convtl.analysis.scorecard import Score
from convtl.analysis.scorecard import scorecard as judged
from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.reporting import build, principles, scorecard
from convtl.study.store import RowStore


def scores(name: str, truth, **other) -> dict[str, Score]:
    return {
        one.name: one
        for one in judged([name], frame(study(name, score=truth, **other)), targets=MAIN)
    }


def estimand(score: Score) -> str:
    line = next(line for line in scorecard.table([score]).splitlines() if line.startswith("| 1\\."))
    return line.strip("| ").split(" | ")[2].replace("\N{NO-BREAK SPACE}", " ")


def printed(found: list[Score], monkeypatch) -> str:
    """What a terminal shows, with rows in one line each."""
    monkeypatch.setattr(scorecard, "_wrapped", lambda row, wide: [" | ".join(row)])
    return scorecard.plain(found)


# --- parts ----------------------------------------------------------------------------------------------


def far_is_worthless(need):
    return {"latin": 1.0}.get(need.source, 0.0)


def test_each_of_a_few_parts_has_its_own_numbers(monkeypatch):
    score = scores("dissimilarity", far_is_worthless)["dissimilarity.strong.textures"]
    said = estimand(score)
    found = re.fullmatch(
        r"G\(textures\).*: gain from textures: \**(\S?0\.\d\d)\** \[\S+, \S+; 96\.9%\]; "
        r"gain from latin: \**(\+\d\.\d\d)\** \[\S+, \S+; 96\.9%\]",
        said,
    )
    assert found, said
    assert abs(float(found[1].replace("\N{MINUS SIGN}", "-"))) < 0.1
    assert float(found[2]) == pytest.approx(1.0, abs=0.1)
    bold = re.search(r"(gain from \w+): \*\*", said)[1]
    assert bold == next(part.part.name for part in score.parts if part.values == score.values)
    assert said.count("**") == 2
    assert f"] ({bold}) | " in printed([score], monkeypatch)


def test_of_many_parts_the_deciding_one_and_the_range_of_the_others():
    score = scores("dissimilarity", far_is_worthless)["dissimilarity.strong.textures"]
    more = [
        replace(part, part=replace(part.part, name=name), effect=effect, values=(effect,) * 6)
        for part, name, effect in zip(score.parts, ("third", "fourth"), (-0.25, 3.5), strict=True)
    ]
    score = replace(score, parts=(*score.parts, *more))
    said = estimand(score)
    assert said.count("; 96.9%]") == said.count("gain from") == 1
    assert said.endswith("; the other 3 parts from \N{MINUS SIGN}0.25 to +3.50")


def test_one_number_is_equal_to_its_formula():
    score = scores("dissimilarity", far_is_worthless)["dissimilarity.weak"]
    assert re.match(r"G\(latin\) - G\(noise\), .* = \*\*\+1\.\d\d\*\* \[.*%\]$", estimand(score))


# --- words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("updates", "text"), [(300, "short schedule only"), (1200, "long schedule only")]
)
def test_a_single_schedule_is_said_beside_the_verdict(updates, text, monkeypatch):
    needed = [need for need in cells("dissimilarity") if need.updates == updates]
    score = scores("dissimilarity", far_is_worthless, needed=needed, replicates=12)[
        "dissimilarity.weak"
    ]
    assert f"**supported** ({text})" in scorecard.table([score])
    assert f"| supported ({text})" in printed([score], monkeypatch)


def test_the_rule_says_what_its_words_mean():
    text = scorecard.rule(list(scores("dissimilarity", far_is_worthless).values()))
    order = [
        text.index(f"*{word}*")
        for word in ("practically null", "supported", "contradicted", "inconclusive")
    ]
    assert order == sorted(order)
    for word in (
        "*weak*",
        "*strong*",
        "*not tested*",
        "Holm's adjustment makes",
        "0.2 logit is about 5 points",
    ):
        assert word in text
    near_half = 100 * (1 / (1 + np.exp(-0.2)) - 0.5)
    near_ninety = 100 * (1 / (1 + np.exp(-0.2 - np.log(9))) - 0.9)
    assert (round(near_half), round(near_ninety)) == (5, 2)


# --- main targets ---------------------------------------------------------------------------------------


def report(out: Path, rows, targets) -> str:
    principles.write_report(
        rows,
        out,
        title="t",
        question="q",
        names=["dissimilarity"],
        targets=targets,
        scope={},
        samples=None,
        left_out=(),
        probes=None,
        uncached=lambda units: {},
    )
    return (out / "report.md").read_text(encoding="utf-8")


def test_targets_of_other_blocks_are_not_averaged_with_the_study_s_own(tmp_path, monkeypatch):
    monkeypatch.setattr(principles, "_figures", lambda *given: [])
    monkeypatch.setattr(principles.feature_maps, "section", lambda *given: [])
    needed = [need for need in cells("dissimilarity") if not need.target]
    made = study(score=lambda need: 0.6 * (need.source == "latin"), needed=needed, noise=0.01)
    made += [row(need, "photographs", r, 0.0) for need in needed for r in range(6)]
    text = report(tmp_path, made, MAIN)
    [line] = [
        line
        for line in text.splitlines()
        if re.match(r"\| \d+\\\. What latin gives is reuse", line)
    ]
    assert re.search(r"= \*\*\+0\.(59|60|61)\*\* \[", line), line
    assert f"| 6; {', '.join(MAIN)} |" in line
    assert [title for title in re.findall(r"^### (.*)", text, re.M) if "target" in title] == [
        "target photographs"
    ]
    assert text.count("**Table 2.**") == 2


def test_the_main_targets_are_those_of_the_config(tmp_path, monkeypatch):
    given = {}

    def write(rows, out, **words):
        given.update(words)
        return out / "report.html", ""

    monkeypatch.setattr(build, "write_scorecard", write)
    monkeypatch.setattr(build, "facts", lambda *all_of_it: {})
    config = parse(compose(["scorecard=[similarity]", "target=[armenian,cyrillic]"]))
    build.build(RowStore(tmp_path), config, {"points": [], "config": {}})
    assert tuple(given["targets"]) == config.target == ("armenian", "cyrillic")
