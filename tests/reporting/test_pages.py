"""report.md and report.html: what they say, and that they need nothing else."""

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from made_rows import made_gradients, made_rows
from made_study import made_out, made_report

from convtl.config.parsing import parse
from convtl.errors import UserError
from convtl.reporting import tables
from convtl.reporting.report import build, html_page, read_replication, render
from convtl.training.probes import TABLE


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return made_report(tmp_path_factory.mktemp("made"))


def part(text: str, heading: str) -> str:
    return text.split(f"## {heading}\n")[1].split("\n## ")[0]


def test_the_answer_is_at_most_five_sentences_and_a_table(report) -> None:
    answer = part(render(report, "report.md.j2"), "Answer")
    bullets = [line for line in answer.splitlines() if line.startswith("- ")]
    assert len(bullets) == 4
    assert bullets[0].startswith("- Pretrained on **latin**, with 2 and 10 labelled images a class")
    assert "train the last layer" in bullets[0]
    assert "| source | n |" in answer


def test_numbers_are_those_of_the_conditions(report) -> None:
    text = render(report, "report.md.j2")
    place = {"source": "latin", "target": "cyrillic", "updates": 300, "n_per_class": 50}
    shares = [
        report.conditions.values("test_accuracy", **place, depth=depth).mean() for depth in (1, 5)
    ]
    gained = f"{100 * (shares[1] - shares[0]):+.1f}".replace("-", "−")
    line = next(line for line in text.splitlines() if line.startswith("| latin | 50 |"))
    assert gained in line
    assert f"{gained} at n=50" in text


LEGEND = '{% from "page_parts.md.j2" import legend with context %}{{ legend() }}'


@pytest.mark.parametrize("targets", ["cyrillic,greek", "greek,cyrillic"])
def test_a_legend_names_the_target_of_its_table(targets: str, tmp_path: Path) -> None:
    report = made_report(tmp_path, None, f"target=[{targets}]")
    (named,) = re.findall(r"; target (\w+)\.", render(report, LEGEND))
    frame = report.conditions.frame
    place = {"source": "latin", "n_per_class": 50, "depth": 5, "updates": 300, "target": named}
    rows = frame[(frame[list(place)] == pd.Series(place)).all(axis=1)]
    fresh = frame[(frame[list(place)] == pd.Series(place | {"source": "scratch"})).all(axis=1)]
    line = next(
        line for line in tables.answer(report).markdown().splitlines() if "| latin | 50 |" in line
    )
    assert f"| {fresh['test_accuracy'].mean():.1%} |" in line
    assert len(rows) == len(fresh) == 6
    assert f"; target: {named}. *Enough*" in render(report, "report.md.j2")


@pytest.mark.parametrize(("replicates", "level"), [(4, "87.5"), (5, "93.8"), (6, "95")])
def test_intervals_have_the_level_that_they_attain(
    replicates: int, level: str, tmp_path: Path
) -> None:
    report = made_report(tmp_path, made_rows(replicates=replicates))
    assert f"Brackets: {level} % intervals over {replicates} replicates" in render(report, LEGEND)
    assert f"Brackets: {level}% intervals over {replicates}" in render(report, "report.md.j2")
    attained = report.answers[0].lines[0].benefit.logits.interval.level
    assert float(level) == pytest.approx(min(95, 100 * attained), abs=0.06)


def test_marks_of_a_table_are_explained(tmp_path: Path) -> None:
    edge = made_rows(change=lambda row: {"lr_at_edge": row["source"] == "noise"})
    text = render(made_report(tmp_path, edge), "report.md.j2")
    assert "| noise § | 2 |" in text
    assert "| latin | 2 |" in text
    assert re.search(r"^\| latin \| 10 \|.*\(speed\) \|$", text, re.MULTILINE)
    assert " §: of some depth, or of scratch, over a quarter" in text
    assert " *(speed)*: training from scratch is not known to have levelled off" in text


def test_nothing_is_called_no_difference(report) -> None:
    text = render(report, "report.md.j2").lower()
    assert "no difference" not in text
    assert "no settled" not in text


def test_verdicts_carry_effect_p_and_history(report) -> None:
    text = render(report, "report.md.j2")
    line = next(line for line in text.splitlines() if line.startswith("| **deeper** ‡"))
    assert "**supported**" in line
    assert re.search(r"\+0\.\d\d \[\+0\.\d\d", line)
    assert "points)" in line
    assert "before commit 0123abc it was “D(200)”, which gave +1.0. Why: Too dear." in text
    line = "- “The more data, the deeper” (deeper; here: supported)\n  - A paper 2020: the same. "
    assert f"{line}This study agrees with it." in text


def test_a_page_needs_no_other_file_and_runs_no_text_of_a_user(tmp_path: Path) -> None:
    report = made_report(tmp_path, None, "question='<script>alert(1)</script> **x** {{ 7 * 6 }}?'")
    page = html_page(report)
    assert "<script>alert" not in page
    assert "{{ 7 * 6 }}" in page
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    assert page.count("<script>") == 1
    assert page.rstrip().endswith("</html>")
    assert page.count("<details>") == page.count("</details>") > 3


def test_tables_of_a_page_are_whole(report) -> None:
    page = html_page(report)
    assert page.count("<table") == page.count("</table>")
    assert "| ---" not in page
    assert '<td class="verdict supported"' in page


def test_limits_name_what_is_left_out(tmp_path: Path) -> None:
    rows = made_rows(
        change=lambda row: {"status": "failed", "reason": "x"} if row["replicate"] == 5 else {}
    )
    limits = part(render(made_report(tmp_path, rows[:-1]), "report.md.j2"), "Limits")
    assert "trials failed, in no number here" in limits
    assert "2 + 20, 10 + 20 and 50 + 20 a class" in limits


def test_a_page_tells_how_its_rows_were_made(tmp_path: Path) -> None:
    rows = made_rows(
        targets=("cyrillic",),
        change=lambda row: {"frozen_ok": row["depth"] != 2, "commit": "c" * 40},
    )
    report = made_report(tmp_path, rows, "debug=smoke")
    text = render(report, "report.md.j2")
    assert "(cut short to try the way through: its numbers mean nothing)" in text.splitlines()[0]
    moved = sum(row["depth"] == 2 for row in rows)
    assert f"**Frozen weights moved in {moved} trials: these are left out" in text
    assert f"| rows made by | commit cccccccccc ({len(rows)}) |" in text
    assert "| device | 2 x cpu; all trials " in text
    assert "| versions | jax 0.12 |" in text


@pytest.mark.parametrize(
    "rows",
    [[], made_rows(change=lambda row: {"status": "failed"}), made_rows(depths=(5,))],
    ids=["no trials", "no finished trials", "one depth"],
)
def test_studies_without_an_answer_have_pages(rows, tmp_path: Path) -> None:
    made_gradients().to_csv(tmp_path / TABLE, index=False)
    report = made_report(tmp_path, rows)
    assert "# made" in render(report, "report.md.j2")
    assert "# made" in render(report, "report.md.j2", short=True)
    assert "</html>" in html_page(report)


def test_build_writes_everything_and_prints_a_few_lines(tmp_path: Path) -> None:
    record = made_out(
        tmp_path, made_rows(targets=("cyrillic",), schedules=(300,)), "target=cyrillic"
    )
    report = build(tmp_path, parse(record["config"]), record)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"rows", "results.csv", "report.md", "report.html", "figures"}
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == set(report.drawn)
    assert "accuracy_by_depth" in report.drawn
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert all(f"(figures/{name}.png)" in text for name in report.drawn)
    lines = report.lines().splitlines()
    assert len(lines) == 8
    assert lines[-1].startswith("supported: deeper, +")
    assert str(tmp_path) not in text


def test_another_seed_stands_beside_it(tmp_path: Path, report) -> None:
    other = made_report(tmp_path, made_rows(seed=1), "seed=1")
    text = render(replace(report, replication=other), "report.md.j2")
    assert "run again with seed 1" in text
    assert "Of 1 effect, 1 is" in text
    assert "No verdict differs." in text
    assert re.search(
        r"\| \*\*deeper\*\* .*\*\*supported\*\* .* \| \*\*supported\*\* \| \d+ \|", text
    )
    assert re.search(
        r"\| deeper \| effect \| \+0\.\d\d \| \+0\.\d\d \|.*\*\*(replicated|undecided)\*\* \|",
        text,
    )


def test_a_replication_is_the_same_study_under_another_seed(tmp_path: Path, report) -> None:
    with pytest.raises(UserError, match=r"replication: got .*accepted: 'made' with claims"):
        read_replication(tmp_path, report.config)
