"""`python -m convtl.scale`: made-up rows are like real ones, and what is measured is told."""

import csv
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from convtl.cli import compose
from convtl.errors import UserError
from convtl.scale import __main__ as scale
from convtl.scale import study
from convtl.scale.measuring import run_measured
from convtl.scale.page import Line, page
from convtl.scale.steps import consolidate, generate, look, plan
from convtl.scale.study import lines_of, words_for
from convtl.study.grid import distinct, expand


def test_made_up_rows_are_of_every_kind() -> None:
    trials = distinct(expand(compose(words_for(4000)))[1])
    rows = [row for _, _, row in lines_of(trials, "c")]
    statuses = Counter(row["status"] for row in rows)
    assert set(statuses) == {"done", "diverged", "interrupted"}
    assert len({row["trial"] for row in rows}) < len(trials) < len(rows)
    done = next(row for row in rows if row["status"] == "done")
    assert 1100 < len(json.dumps(done, ensure_ascii=False)) < 1500


def test_rows_are_consolidated_whoever_wrote_them(tmp_path: Path) -> None:
    planned, made = plan("1000", str(tmp_path)), generate("1000", str(tmp_path), "7")
    table, seen = consolidate(str(tmp_path)), look(str(tmp_path))
    assert made["files"] == 7 == len(list((tmp_path / "rows").iterdir()))
    assert made["rows"] > planned["trials"] >= table["trials"] == seen["finished"]
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == table["trials"]
    assert {line["status"] for line in lines} <= {"done", "diverged"}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("rows=many", "rows: got 'many'"),
        ("writers=0", "writers: got '0'"),
        ("size=3", "accepted: rows="),
        ("rows", "accepted"),
    ],
)
def test_a_wrong_word_is_one_line(word: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        scale._main([word])


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    with pytest.raises(UserError, match="holds something else"):
        scale._main([f"out={tmp_path}"])
    assert (tmp_path / "rows").is_dir()


def test_memory_is_that_of_a_process_and_of_those_that_it_starts() -> None:
    holds = "import time; held = bytearray(150 * 2**20); time.sleep(2)"
    both = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{holds}']); print('said')"
    )
    ended, said, seconds, held = run_measured(
        [sys.executable, "-c", f"held = bytearray(150 * 2**20); {both}"]
    )
    assert (ended, said) == (0, "said\n")
    assert seconds > 2
    assert 0.29 < held < 0.5


def test_a_missed_goal_is_told() -> None:
    text = page(
        [Line("a", "one", "3 s", 3.0, 4), Line("b", "two", "5 s", 5.0, 4), Line("c", "three", "1")],
        "run",
    )
    assert "| one | 3 s | at most 4: met |" in text
    assert "| two | 5 s | at most 4: missed |" in text
    assert "| three | 1 |  |" in text


@pytest.mark.long
def test_many_rows_of_many_settings_are_reported_in_time_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thirtieth of a million: its two minutes and 4 GiB, with what does not grow with rows, on a busy machine."""
    monkeypatch.setattr(study, "_WIDE", 30_000)
    plan("30000", str(tmp_path))
    generate("30000", str(tmp_path), "100")
    command = [sys.executable, "-m", "convtl.report", f"out={tmp_path}"]
    ended, _, seconds, held = run_measured(command)
    assert ended == 0
    assert seconds < 200
    assert held < 1.5
    assert (tmp_path / "report.html").stat().st_size < 20e6


@pytest.mark.long
def test_the_command_measures_and_publishes(tmp_path: Path) -> None:
    out, kept = tmp_path / "out", tmp_path / "kept"
    assert scale._main(["rows=400", "writers=5", f"out={out}", f"publish={kept}"]) == 0
    with (kept / "scale.csv").open(newline="", encoding="utf-8") as file:
        table = {line["name"]: line for line in csv.DictReader(file)}
    assert table["report"]["goal"] == "at most 120: met"
    assert int(table["append 32"]["figure"].replace(",", "")) > 0
    text = (kept / "README.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert all(line["figure"] in text for line in table.values())
