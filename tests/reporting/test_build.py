"""What of a folder's rows a report shows, and what it says of them."""

import csv
import shutil
from pathlib import Path

import pytest
import tiny
from synthetic_rows import row

from convtl import report, run
from convtl.analysis.arms import blocks, frame
from convtl.analysis.record import newest_record
from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.reporting import caveats
from convtl.reporting.build import _resized, _source_nets, _sources
from convtl.reporting.comparable import comparable
from convtl.study.grid import apply_limits
from convtl.study.rows import commit, short
from convtl.study.store import RowStore

CLAIM = "claims=[{statement: a late thought,source: latin,n_low: 2,n_high: 4}]"


def study(out: Path, *words: str) -> str:
    """Runs a tiny study; returns its report."""
    assert run.main([*tiny.WORDS, *words, f"out={out}"]) == 0
    return (out / "report.md").read_text()


def blocks_of(out: Path) -> list:
    record = newest_record(out)
    rows, _ = comparable(RowStore(out).read(), apply_limits(parse(record["config"])), record)
    return blocks(frame(rows))


def table(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "results.csv").read_text().splitlines()))


@pytest.mark.parametrize(
    "axis", ["axes={pretrain.updates:[4,6]}", "axes={domains.latin.jitter.noise:[0.2,0.4]}"]
)
def test_scratch_is_compared_with_every_value_of_an_axis_that_does_not_concern_it(
    tmp_path, axis
) -> None:
    study(tmp_path, "source=[latin,scratch]", axis)
    assert len(table(tmp_path)) == 3
    found = blocks_of(tmp_path)
    assert len(found) == 2
    assert all(len(block.scratch) == 1 and len(block.gain("latin", 2, 1)) == 1 for block in found)


def test_scratch_of_an_earlier_protocol_serves_a_recipe_that_does_not_concern_it(tmp_path) -> None:
    study(tmp_path, "source=[latin,scratch]")
    study(tmp_path, "source=[latin,scratch]", "pretrain.updates=5")
    (block,) = blocks_of(tmp_path)
    assert len(block.scratch) == 1


def test_depths_that_were_augmented_are_told_from_those_that_were_not(tmp_path) -> None:
    said = study(tmp_path, "source=random", "depth=[1,5]", "augment={flip: true}")
    assert {(row["depth"], row["augmented"]) for row in table(tmp_path)} == {
        ("1", "False"),
        ("5", "True"),
    }
    assert "Images were augmented at depth 5 and not at depth 1, where features are cached" in said
    everywhere = study(
        tmp_path, "source=random", "depth=[1,5]", "augment={flip: true}", "cache_prefix=false"
    )
    assert "Images were augmented" not in everywhere


def test_sources_are_those_of_the_trials() -> None:
    config = parse(compose(["source=latin"]))
    rows = [{"source": name} for name in ("scratch", "imagenet_efficientnet_lite0", "latin")]
    assert _sources(config, rows) == ["latin", "scratch", "imagenet_efficientnet_lite0"]
    assert _source_nets(config, _sources(config, rows)) == (
        "imagenet_efficientnet_lite0: imported, the same for each replicate; 900 updates, 300 images a class, rate "
        "0.003; new for each replicate"
    )
    assert _sources(config, rows[:1]) == ["scratch"]
    assert _source_nets(config, ["scratch", "random"]) is None


def test_pictures_that_are_not_cut_as_the_net_was_made_for_are_named() -> None:
    words = ["source=latin", "target=mine", "model=efficientnet_lite0"]
    folder = "+domains.mine={kind: image_folder, path: x, size: 224, grey: false"
    sources = ["imagenet_efficientnet_lite0", "scratch"]
    (said,) = _resized(parse(compose([*words, folder + "}"])), sources)
    assert said == (
        "mine is resized with crop 1, bilinear, and imagenet_efficientnet_lite0 was made for crop 0.875, bicubic: "
        "that may cost accuracy"
    )
    as_made = parse(compose([*words, folder + ", crop: 0.875, interpolation: bicubic}"]))
    assert _resized(as_made, sources) == []
    assert _resized(as_made, ["scratch"]) == []


def test_a_claim_that_came_after_results_is_not_called_declared(tmp_path) -> None:
    first = study(tmp_path / "after", "depth=[1,5]", "n_per_class=[2,4]")
    assert "No claim was declared before the results" in first
    late = study(tmp_path / "after", "depth=[1,5]", "n_per_class=[2,4]", CLAIM)
    assert "Added when results were there already: “a late thought”" in late
    assert "declared before" not in late
    early = study(tmp_path / "before", "depth=[1,5]", "n_per_class=[2,4]", CLAIM)
    assert "One claim was declared before the results" in early


def test_nets_can_be_asked_for_when_the_trials_are_done(tmp_path) -> None:
    study(tmp_path, "n_per_class=[2,4]")
    before = table(tmp_path)
    study(tmp_path, "n_per_class=[2,4]", "save=best")
    assert len(list((tmp_path / "nets").iterdir())) == 2
    assert table(tmp_path) == before
    assert tiny.row_lines(tmp_path) == 2


def test_a_report_needs_no_data(tmp_path, monkeypatch) -> None:
    from PIL import Image

    pictures = tmp_path / "pictures"
    for label in ("a", "b"):
        (pictures / label).mkdir(parents=True)
        for index in range(30):
            Image.new("L", (16, 16), 4 * index + 100 * (label == "b")).save(
                pictures / label / f"{index}.png"
            )
    words = [
        "source=scratch",
        "target=mine",
        "domains.mine.kind=image_folder",
        f"domains.mine.path={pictures}",
    ]
    study(
        tmp_path / "out",
        *words,
        "domains.mine.size=16",
        "test_per_class=3",
        "validation_per_class=2",
    )
    shutil.rmtree(pictures)
    (tmp_path / "out" / "report.md").unlink()
    monkeypatch.chdir("/")
    assert report.main([f"out={tmp_path / 'out'}"]) == 0
    assert "mine" in (tmp_path / "out" / "report.md").read_text()


def test_a_smoke_report_says_that_its_numbers_mean_nothing(tmp_path) -> None:
    assert "its numbers mean nothing" in study(tmp_path, "limits.suffix=-smoke").splitlines()[0]


@pytest.mark.parametrize(("far", "told"), [(0.31, True), (0.91, False)])
def test_sources_that_were_not_learned_equally_well_are_told(far, told) -> None:
    reached = {"latin": 0.93, "textures": far}
    rows = [row(source, 2, depth, 0, 0.0) for source in reached for depth in (1, 5)]
    data = frame(one | {"source_accuracy": reached[one["source"]]} for one in rows)
    _, cannot = caveats.limits(data, blocks(data), [], {})
    assert ("latin 93%, textures 31%" in " ".join(cannot)) == told


def test_a_study_of_claims_is_called_so_and_says_what_made_it(tmp_path) -> None:
    text = study(tmp_path, "study=mine", "scorecard=[similarity]", "measure=distances")
    assert text.splitlines()[0] == "# mine: claims and verdicts"
    (row,) = table(tmp_path)
    assert row["mmd2"]
    assert not row["leep"]
    made_by = row["commit"]
    assert made_by == (commit() or "")
    if made_by:
        assert f"The rows were made by commit {short(made_by)} (1 row)." in text
