"""What a report and a console say of how deep to fine-tune, and what more pictures would bring."""

import csv
import itertools
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from synthetic_rows import study

from convtl import predict, report, run
from convtl.analysis.advised import advise
from convtl.analysis.arms import blocks, frame
from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.config.schema import Config
from convtl.reporting import advice
from convtl.reporting.document import results_of, write_report

TRUTH = {
    ("far", n): (gain, gain - 0.1, gain - 0.1)
    for n, gain in ((5, -0.5), (10, 0.1), (20, 0.6), (40, 1.0))
}


@pytest.fixture(scope="module")
def config() -> Config:
    return parse(compose(["advice=true", "path=/home/me/my pictures"]))


def given(rows, config: Config, out: Path) -> tuple[str, str]:
    """Section and console lines."""
    found = advise(blocks(frame(rows)))
    return "\n".join(advice.section(found, config, out)), advice.console(found, config, out)


def tabled(text: str, after: str) -> list[str]:
    """Rows of the table that follows a line."""
    lines = text[text.index(after) :].splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("| ---"))
    return list(itertools.takewhile(lambda line: line.startswith("| "), lines[start + 1 :]))


def test_the_depth_the_outlook_and_the_net(config, tmp_path) -> None:
    rows = study(4, truth=TRUTH, noise=0.02)
    (found,) = advise(blocks(frame(rows)))
    best, (twice, _) = found.best.trial, found.curve.forecasts
    (tmp_path / "nets" / f"far_to_mine_{best}").mkdir(parents=True)
    text, lines = given(rows, config, tmp_path)

    assert "**Train only the last layer (out)** of `far`, and leave the others as they are" in text
    assert "480 labelled pictures that this study has at most (40 a class)" in text
    assert "1,200 pictures" in text
    assert "240 validation pictures: they need labels too" in text
    measured, fewer = (
        tabled(text, after) for after in ("with 480 pictures:", "With fewer pictures:")
    )
    assert [line.split(" | ")[:3] for line in measured] == [
        ["| only the last layer (out) (**advised**)", "850", "least"],
        ["| the last 2 layers (fc4 and above)", "11,014", "17 times"],
        ["| the last 3 layers (fc3 and above)", "59,134", "72 times"],
    ]
    assert [line.split(" | ")[0] for line in fewer] == ["| 20", "| 10", "| 5"]

    law = r"\*\*With only the last layer \(out\) trained and if the law goes on, twice as many \(960\)"
    said = re.search(law + r" should give (\S+)% \[(\S+),.(\S+)\]; four times as many", text)
    expected = (twice.accuracy, twice.interval.low, twice.interval.high)
    assert [float(number) for number in said.groups()] == pytest.approx(
        [100 * share for share in expected], abs=0.06
    )
    assert "fitted to all 4 sizes, 60 to 480 pictures, in each of 4 replicates" in text
    assert "Back-test: fitted without the largest size, it expected" in text
    assert (tmp_path / "figures" / "more_pictures.png").stat().st_size > 5000
    assert "](figures/more_pictures.png)" in text

    command = shlex.join(
        [
            "python",
            "-m",
            "convtl.predict",
            f"net={tmp_path}/nets/far_to_mine_{best}",
            "images=/home/me/my pictures",
        ]
    )
    assert f"```bash\n{command}\n```" in text
    first, *_, last = lines.splitlines()
    assert first.startswith("advice: with 480 pictures, train only the last layer (out) of far: ")
    assert last == f"use it: {command}"
    assert len(lines.splitlines()) in (3, 4)


HALF = {("far", n): (z[0], z[0] + 0.15, z[0] - 0.05) for (_, n), z in TRUTH.items()}
"""Depth 2 better by less than the tolerance, depth 3 about as good as the head."""


def on_grid(points: set[tuple[int, int]], **more: Any) -> list[dict[str, Any]]:
    """(n, depth) of TRUTH with little noise."""
    return [
        row
        for row in study(3, truth=HALF, noise=0.005, **more)
        if (row["n_per_class"], row["depth"]) in points
    ]


HEADS = {(5, 1), (10, 1), (20, 1), (40, 1)}


def test_a_settled_gain_below_the_tolerance_is_advised_with_its_cost(config, tmp_path) -> None:
    text, lines = given(on_grid(HEADS | {(40, 2), (40, 3)}), config, tmp_path)
    assert "**Train the last 2 layers (fc4 and above)** of `far`" in text
    head, advised, third = tabled(text, "with 480 pictures:")
    assert re.search(r"\| 850 \| least \| .* \| −\d\.\d \[−\d\.\d,.−\d\.\d\] \|$", head)
    assert "11,014 | 17 times" in advised
    assert advised.endswith("| – |")
    assert "59,134 | 72 times" in third
    assert "settled to be better than only the last layer: +" in text
    assert "The answer below names only the last layer" in text
    assert "Nothing deeper than the last 3 layers was tried." in text
    assert "`'depth=[2,3,all]' n_per_class=40`" in text
    first, instead, *_ = lines.splitlines()
    assert "train the last 2 layers (fc4 and above) of far" in first
    assert re.match(r"instead: −\d.* points with only the last layer \(out\); ", instead)


def test_the_curve_of_another_depth_is_called_so_and_a_lower_bound(config, tmp_path) -> None:
    text, lines = given(on_grid(HEADS | {(40, 2)}), config, tmp_path)
    assert "**With only the last layer (out) trained and if the law goes on, twice as many" in text
    assert (
        "The advised depth, the last 2 layers, was measured with too few numbers of pictures"
        in text
    )
    assert "as long as it stays better this is a lower bound for it" in text
    assert "more pictures: with only the last layer (out) trained and if the law goes on" in lines
    own, _ = given(on_grid(HEADS | {(10, 2), (20, 2), (40, 2)}), config, tmp_path)
    assert (
        "**With the last 2 layers (fc4 and above) trained and if the law goes on, twice as many"
        in own
    )
    assert "lower bound" not in own


def test_blocks_are_undone_where_all_depths_are_to_be_tried(config, tmp_path) -> None:
    blocks = {"head": {"depth": 1, "n_per_class": [5, 10]}, "deeper": {"depth": [2, 3]}}
    text, _ = given(on_grid(HEADS | {(40, 2), (40, 3)}), replace(config, blocks=blocks), tmp_path)
    assert "`blocks=null 'depth=[2,3,all]' n_per_class=40`" in text
    blocks["deeper"]["depth"] = [2, "all"]
    text, _ = given(on_grid(HEADS | {(40, 2), (40, 3)}), replace(config, blocks=blocks), tmp_path)
    assert "| all layers | " in text
    assert "was tried" not in text


def test_printed_intervals_are_within_what_can_be(config, tmp_path) -> None:
    wild = [
        row | {"test_accuracy": 0.95 - 0.6 * row["replicate"]} if row["depth"] == 2 else row
        for row in study(2, truth=HALF)
    ]
    text, lines = given(wild, config, tmp_path)
    printed = [
        float(end.replace("−", "-"))
        for pair in re.findall(r"\[([−+\d.]+),.([−+\d.]+)\]", text + lines)
        for end in pair
    ]
    assert len(printed) > 10
    assert max(map(abs, printed)) == 100


def test_unequal_classes_are_mentioned(config, tmp_path) -> None:
    rows = on_grid(HEADS)
    assert "always answering the largest" not in given(rows, config, tmp_path)[0]
    assert (
        "always answering the largest"
        in given(rows, replace(config, class_balance="at_most"), tmp_path)[0]
    )


def test_what_cannot_be_said_is_said_so(config, tmp_path) -> None:
    rows = [row for row in study(1, truth=TRUTH) if row["n_per_class"] > 10]
    text, lines = given(rows, config, tmp_path)
    why = "What more pictures would bring cannot be said: a curve needs accuracies with at least 3 numbers of images"
    assert why in text
    assert why in lines
    assert "With one replicate nothing is known of noise" in text
    assert "No tuned net was kept; the same command with `save=best` keeps them." in text
    assert (tmp_path / "figures" / "more_pictures.png").exists()
    nothing, line = given([], config, tmp_path)
    assert "Nothing can be advised yet" in nothing
    assert line.startswith("advice: none yet")


def test_several_sources_are_told_apart(config, tmp_path) -> None:
    truth = TRUTH | {("near", n): tuple(z + 0.5 for z in zs) for (_, n), zs in TRUTH.items()}
    truth |= {("scratch", n): (zs[0] - 1,) for (_, n), zs in TRUTH.items()}
    text, lines = given(study(3, truth=truth), replace(config, class_balance="at_most"), tmp_path)
    assert "## How deep to fine-tune: from far\n" in text
    assert "## What more pictures would bring: from near\n" in text
    assert "(up to 40 a class)" in text
    assert "of near: " in lines.splitlines()[0]
    assert len(list((tmp_path / "figures").glob("more_pictures*.png"))) == 2


def test_the_section_opens_the_report(config, tmp_path) -> None:
    rows = [row for row in study(3, truth=TRUTH) if row["n_per_class"] < 40]
    empty = {"scope": {}, "samples": None, "left_out": ()}
    opening = advice.section(advise(blocks(frame(rows))), config, tmp_path)
    page = write_report(
        results_of(rows, (), {}),
        tmp_path,
        title="mine",
        question="how deep?",
        opening=opening,
        **empty,
    ).read_text()
    assert (
        page.index("How deep to fine-tune</h2>")
        < page.index("The tuned net</h2>")
        < page.index("Answer</h2>")
    )
    assert "more_pictures.png" not in page  # it is in the page


def test_a_run_ends_with_advice_and_its_command_runs(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        *tiny.WORDS,
        "n_per_class=[2,4,8]",
        "replicates=2",
        "advice=true",
        "save=best",
        "out=my out",
    ]
    assert run.main(words) == 0
    said = capsys.readouterr().out
    lines = said[said.index("advice: ") :].splitlines()
    assert lines[0].startswith("advice: with 32 pictures, train ")
    (command,) = [line.removeprefix("use it: ") for line in lines if line.startswith("use it: ")]
    _, _, module, net, images = shlex.split(command)
    assert (module, images) == ("convtl.predict", "images=PICTURES")
    depth = re.search(r"_depth(\d)_n8_replicate(\d)_", net)
    table = list(csv.DictReader((tmp_path / "my out" / "results.csv").read_text().splitlines()))
    alike = {
        row["replicate"]: float(row["val_accuracy"])
        for row in table
        if (row["depth"], row["n_per_class"]) == (depth[1], "8")
    }
    assert alike[depth[2]] == max(alike.values())

    from PIL import Image

    Image.new("L", (40, 30), 200).save("PICTURES", "PNG")
    assert predict.main([net, images]) == 0
    assert str(tmp_path / "PICTURES") in capsys.readouterr().out
    assert report.main(["out=my out"]) == 0
    assert command in capsys.readouterr().out


def test_advice_is_no_part_of_a_trial() -> None:
    plain, advised = tiny.trials(), tiny.trials("advice=true")
    assert [trial.id for trial in plain] == [trial.id for trial in advised]
    assert [trial.config for trial in plain] == [trial.config for trial in advised]
