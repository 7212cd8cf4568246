"""Scripts under experiments/ run from a checkout and write what they print."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"experiments/{script}/run.py", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_scale_runs_every_command_on_made_up_rows(tmp_path: Path) -> None:
    done = run("scale", "rows=400", "writers=5", f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    lines = {line["what"]: line for line in table(tmp_path / "scale.csv")}
    assert int(lines["rows"]["figure"]) > int(lines["trials"]["figure"]) > 300
    assert lines["convtl.report, seconds"]["goal"] == "at most 120: met"


@pytest.mark.slow
def test_speed_measures_and_writes_its_page(tmp_path: Path) -> None:
    done = run("speed", "measure=lenet,start", "debug=smoke", f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    lines = {line["name"]: line for line in table(tmp_path / "speed.csv")}
    assert 0 < float(lines["help"]["median"]) < float(lines["first trial"]["median"])
    verdict = lines["lenet alone"][
        "verdict"
    ]  # PyTorch may be missing; where it is not, losses agree
    assert verdict in ("met", "missed", "not measured")
    page = (tmp_path / "README.md").read_text()
    assert "until its first row" in page
    assert str(tmp_path) not in page


@pytest.mark.slow
@pytest.mark.parametrize("script", ["calibration", "scale", "speed"])
def test_wrong_word_is_one_line(script: str) -> None:
    done = run(script, "where=x")
    assert done.returncode == 2
    assert "accepted" in done.stderr
    assert done.stderr.count("\n") == 1
