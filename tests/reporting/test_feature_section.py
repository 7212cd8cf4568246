"""The section on feature maps and movement says what rows and files hold, and nothing where they hold nothing."""

import re
import shutil

import numpy as np
import pytest
import tiny
from PIL import Image
from synthetic_rows import row

from convtl import report, run
from convtl.reporting import figures
from convtl.reporting.feature_maps import section
from convtl.study import targets

UNITS = ("conv1", "conv2", "fc3", "fc4", "out")
HEADING = "## What each unit computes, and how far it moves"


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made but not rendered: for tests of words."""

    def save(figure, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (1, 1)).save(path)
        return path

    monkeypatch.setattr(figures, "save", save)


def moved(source: str, depth: int, replicate: int, steps: tuple[float, ...], **other):
    trained = UNITS[-depth:]
    pairs = {unit: [step, 1 - step / 2] for unit, step in zip(UNITS, (*steps, np.nan), strict=True)}
    pairs["out"] = [None, None]
    pairs |= {unit: [0.0, 1.0] for unit in UNITS if unit not in trained}
    content = {"moved": pairs, "trained_units": "+".join(trained)} | other
    return row(source, 10, depth, replicate, 0.5 + 0.1 * replicate) | content


def study(replicates: int = 6):
    rows = []
    for replicate in range(replicates):
        extra = 0.01 * replicate
        for depth in (1, 3, 5):
            rows.append(moved("latin", depth, replicate, (0.1 + extra, 0.1, 0.3, 0.1)))
            rows.append(moved("noise", depth, replicate, (0.2 + extra, 0.9, 0.3, 0.4)))
        rows.append(moved("scratch", 5, replicate, (1.0, 1.0, 1.0, 1.6)))
    return rows


def words(tmp_path, rows, **scope) -> str:
    return "\n".join(section(tmp_path, rows, {"sources": ["latin", "noise", "scratch"], **scope}))


def test_the_findings_are_those_of_the_rows(tmp_path) -> None:
    text = words(tmp_path, study())
    assert text.startswith(HEADING)
    assert (
        "those of fc3 from latin (0.30), conv2 from noise (0.90) and fc4 of scratch (1.60)" in text
    )
    assert "lowest CKA) are those of fc3 from latin (0.85), conv2 from noise (0.55)" in text
    assert "Weights of frozen units did not move in any of 24 trials." in text
    assert "have no measure" not in text
    assert "(level 96.9% for 6)" in text
    deep = next(line for line in text.splitlines() if line.startswith("| 5 (conv1, all) | noise "))
    assert re.search(r"\| 0\.46 \[0\.4\d,\s0\.4\d\] \| \+0\.30 \[\+0\.30,\s\+0\.30\] \|", deep)
    assert deep.endswith("| 0.90 · 0.55 | 0.30 · 0.85 | 0.40 · 0.80 | – · – |")
    assert (tmp_path / "figures" / "movement.png").stat().st_size > 5_000
    assert "No feature maps were kept" in text


def test_findings_turn_with_the_rows(tmp_path, undrawn) -> None:
    rows = [moved("latin", 5, replicate, (0.5, 0.1, 0.2, 0.3)) for replicate in range(2)]
    text = words(tmp_path, rows)
    assert "those of conv1 from latin (0.50)" in text
    assert "from noise" not in text


def test_one_replicate_has_no_intervals(tmp_path, undrawn) -> None:
    text = words(tmp_path, study(1))
    assert "of one replicate" in text
    assert "[" not in next(line for line in text.splitlines() if line.startswith("| 5 "))


def test_a_frozen_unit_that_moved_is_told(tmp_path, undrawn) -> None:
    rows = study(2)
    frozen = next(one for one in rows if one["depth"] == 1)
    frozen["moved"]["conv1"] = [1e-6, 1.0]
    assert "frozen units moved: these trials cannot be trusted" in words(tmp_path, rows)


def test_rows_without_movement_are_told(tmp_path, undrawn) -> None:
    rows = study(2)
    for one in rows[:3]:
        del one["moved"]
    lacking = "**3 of 14 finished trials have no measure of movement**"
    assert lacking in words(tmp_path, rows, movement="of every unit")
    assert lacking not in words(tmp_path, rows), "a block of the study asked for it"
    bare = [{key: value for key, value in one.items() if key != "moved"} for one in rows]
    assert section(tmp_path, bare, {}) == []
    asked = words(tmp_path, bare, movement="of every unit")
    assert "**14 of 14 finished trials have no measure of movement**" in asked


def test_every_setting_has_its_figure(tmp_path, undrawn) -> None:
    rows = study(2) + [one | {"updates": 1200, "trial": f"{one['trial']}-long"} for one in study(2)]
    text = words(tmp_path, rows)
    assert "### 300 updates" in text
    assert "### 1200 updates" in text
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "movement.png",
        "movement_2.png",
    }


def test_a_report_of_a_run_is_rebuilt_with_its_pictures_without_data(tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    asked = [*tiny.WORDS, "source=[latin,scratch]", f"out={out}"]
    assert run.main([*asked, "depth=1"]) == 0
    assert HEADING not in (out / "report.md").read_text()
    assert run.main([*asked, "depth=[1,5]", "measure=movement", "replicates=2"]) == 0
    first = (out / "report.md").read_text()
    shutil.rmtree(out / "figures")
    (out / "report.md").unlink()

    def no_data(*args):
        raise AssertionError("a report asked for data")

    monkeypatch.setattr(targets, "load_domain", no_data)
    assert report.main([f"out={out}"]) == 0
    again = (out / "report.md").read_text()
    assert section_of(again) == section_of(first)
    assert "have no measure of movement" not in again, (
        "rows from before it was asked for are made again"
    )
    assert "Not pictured" not in again
    drawn = {path.name for path in (out / "figures").iterdir()}
    assert {
        "movement.png",
        "feature_kernels.png",
        "feature_maps_conv1.png",
        "feature_maps_conv2.png",
        "feature_classes.png",
    } <= drawn
    assert (out / "report.html").read_text().count("data:image/png") == len(drawn)


def section_of(text: str) -> str:
    return text[text.index(HEADING) : text.index("## Methods")]
