"""Measured similarity, beside the rows."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from commands import Commands

from convtl.config.parsing import parse
from convtl.storage.cache import Cache, default_root
from convtl.study.draws import TargetData
from convtl.study.grid import expand
from convtl.study.materials import Materials
from convtl.study.measurements import (
    FILE,
    PER_CLASS,
    measure_similarity,
    read_similarity,
)

WORDS = (
    "source=[latin,latin:shuffled,scratch]",
    "n_per_class=[2,4]",
    "lr=1e-2",
    "domains.cyrillic.per_class.train=24",
    "measure=distances",
    "out=o",
)


@pytest.fixture
def commands(monkeypatch, capfd, tmp_path) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(monkeypatch, capfd).without_reports()


def lines() -> list[dict[str, str]]:
    with Path("o/results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_measures_are_taken_once_and_are_columns_of_the_table(commands) -> None:
    assert commands.tiny(*WORDS).code == 0
    file = Path("o") / FILE
    written = file.read_bytes()
    assert len(read_similarity(Path("o")).measures) == 2, (
        "of each source and target draw, none for scratch"
    )
    by_source: dict[str, set[tuple[str, ...]]] = {}
    for line in lines():
        measures = tuple(line[key] for key in ("mmd2", "logme", "knn", "linear_probe"))
        by_source.setdefault(line["source"], set()).add(measures)
    assert {source: len(found) for source, found in by_source.items()} == dict.fromkeys(
        by_source, 1
    )
    ((latin,), (control,), (scratch,)) = (
        by_source[name] for name in ("latin", "latin:shuffled", "scratch")
    )
    assert all(map(str.__len__, latin))
    assert not control[0], "a control has the images of its source"
    assert all(control[1:])
    assert not any(scratch)

    assert commands.tiny(*WORDS).code == 0
    assert file.read_bytes() == written

    file.write_bytes(written[:-40])
    before = lines()
    assert commands.tiny(*WORDS).code == 0
    assert len(read_similarity(Path("o")).measures) == 2
    assert lines() == before


def test_another_protocol_is_measured_anew(commands) -> None:
    words = (*WORDS, "source=latin", "n_per_class=2")
    assert commands.tiny(*words).code == 0
    assert commands.tiny(*words, "seed=1").code == 0
    assert len(read_similarity(Path("o")).measures) == 2
    assert len({line["mmd2"] for line in lines()}) == 2


def rows_with_distance() -> int:
    return sum(line["mmd2"] != "" for line in lines())


def test_rows_that_another_expansion_wrote_have_their_measures(commands) -> None:
    words = (*WORDS, "source=latin", "n_per_class=2")
    assert commands.tiny(*words, "measure=[]").code == 0
    # the same trial, of which `config` is another digest as a key became an axis
    assert commands.tiny(*words, "axes={batch_size: [4]}").code == 0
    assert (len(lines()), rows_with_distance()) == (1, 1)


def test_measures_of_earlier_commits_get_their_trials_without_a_new_measurement(commands) -> None:
    words = (*WORDS, "source=latin")
    assert commands.tiny(*words).code == 0
    file, before = Path("o") / FILE, read_similarity(Path("o"))
    earlier = {place: {**taken, "mmd2": 7.0} for place, taken in before.measures.items()}
    file.write_text(json.dumps(earlier))
    assert commands.tiny(*words).code == 0
    assert read_similarity(Path("o")) == (before.trials, earlier)
    assert {float(line["mmd2"]) for line in lines()} == {7.0}


def test_another_study_in_the_folder_keeps_its_trials_measures(commands) -> None:
    words = (*WORDS, "source=latin", "n_per_class=2")
    for target in ("cyrillic", "armenian"):
        assert commands.tiny(*tiny.MORE, *words, f"target={target}").code == 0
    assert (len(lines()), rows_with_distance()) == (2, 2)


def measured(monkeypatch, out: Path, *words: str) -> tuple[list[int], Materials, list[Any]]:
    """Positions of target images that were looked at."""
    trials = expand(parse(tiny.content(*WORDS, *words)))[1]
    materials = Materials(Cache(default_root()), lambda what: None)
    materials.prepare(trials)
    seen: list[int] = []
    pixels = TargetData.pixels

    def noted(self: TargetData, split: str, chosen: np.ndarray) -> np.ndarray:
        assert split == "train"
        seen.extend(chosen.tolist())
        return pixels(self, split, chosen)

    monkeypatch.setattr(TargetData, "pixels", noted)
    measure_similarity(trials, materials, out, lambda what: None)
    return seen, materials, trials


def test_target_images_that_are_looked_at_are_in_no_trial(tmp_path, monkeypatch) -> None:
    seen, materials, trials = measured(monkeypatch, tmp_path)
    assert len(set(seen)) == 4 * PER_CLASS
    for trial in trials:
        assert not np.isin(
            seen, materials.target_data(trial).draw.train[:, : trial.n_per_class]
        ).any()


def test_where_every_image_is_in_use_only_distances_are_measured(tmp_path, monkeypatch) -> None:
    _, materials, trials = measured(monkeypatch, tmp_path, "n_per_class=[2,5]")
    assert {tuple(found) for found in read_similarity(tmp_path).measures.values()} == {
        ("mmd2",),
        (),
    }, "none for a control"
    written = (tmp_path / FILE).read_bytes()
    measure_similarity(trials, materials, tmp_path, lambda what: None)
    assert (tmp_path / FILE).read_bytes() == written, "what cannot be measured is not tried again"


def test_a_net_of_the_very_images_has_no_distance_to_them(tmp_path, monkeypatch) -> None:
    seen, _, _ = measured(monkeypatch, tmp_path, "source=self", "n_per_class=5")
    assert seen == []
    assert list(read_similarity(tmp_path).measures.values()) == [{}]


def test_nets_of_the_very_classes_are_not_measured_on_their_own_images(
    tmp_path, monkeypatch
) -> None:
    seen, _, _ = measured(monkeypatch, tmp_path, "source=same_classes", "n_per_class=2")
    assert seen == []
    assert list(read_similarity(tmp_path).measures.values()) == [{}]


def test_each_size_of_self_is_a_net_of_its_own(tmp_path, monkeypatch) -> None:
    measured(monkeypatch, tmp_path, "source=self")
    found = list(read_similarity(tmp_path).measures.values())
    assert len(found) == 2
    assert found[0]["logme"] != found[1]["logme"]
