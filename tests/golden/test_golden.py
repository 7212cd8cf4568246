"""The smoke study gives the numbers that are kept here, as far as machines agree on them.

`finetune_depth.csv` was made with the versions in `VERSIONS`; other ones of Matplotlib draw other letters.
"""

import csv
import math
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from compare import COORDINATES, NUMBERS, read

VERSIONS = {"jax": "0.12.0.1", "numpy": "2.5.5", "matplotlib": "3.11.2"}
CLOSE = {"test_nll": 1e-4, "test_ece": 2e-3, "source_accuracy": 5e-3}
"""Largest difference; of accuracies, one image. The calibration error bins confidences: one image may change bins."""
IMAGES = {"val_accuracy": "n_val", "test_accuracy": "n_test"}


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the columns in which two trials differ by more than machines do."""
    names = []
    for name, value in before.items():
        most = 1.01 / int(before[IMAGES[name]]) if name in IMAGES else CLOSE.get(name)
        if most is None or not value or not after[name]:
            same = value == after[name]
        else:
            same = math.isclose(float(value), float(after[name]), rel_tol=0, abs_tol=most)
        if not same:
            names.append(f"{name}: {value}, now {after[name]}")
    return names


@pytest.mark.slow
def test_the_smoke_study_gives_the_numbers_that_are_kept(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "convtl.run", "+experiment=finetune_depth", "debug=smoke"]
    folders = [f"out={tmp_path / 'out'}", f"cache={tmp_path / 'cache'}"]
    subprocess.run([*command, *folders], check=True, capture_output=True)
    kept = read(Path(__file__).with_name("finetune_depth.csv"))
    table = read(tmp_path / "out" / "results.csv")
    assert set(table) == set(kept)
    installed = {name: version(name) for name in VERSIONS}
    for place, trials in kept.items():
        for one, other in zip(trials, table[place], strict=True):
            pair = (dict(zip(NUMBERS, numbers, strict=True)) for numbers in (one, other))
            names = differences(*pair)
            assert not names, (dict(zip(COORDINATES, place, strict=False)), names, installed)


def test_what_counts_as_a_difference() -> None:
    with Path(__file__).with_name("finetune_depth.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    trial = {name: row[name] for name in NUMBERS}
    image = 1 / int(trial["n_test"])
    for name, change, differs in (
        ("test_accuracy", image, False),
        ("test_accuracy", 2 * image, True),
        ("test_nll", 9e-5, False),
        ("test_nll", 2e-4, True),
        ("lr", 1e-5, True),
        ("n_train", 1, True),
    ):
        other = trial | {name: repr(float(trial[name]) + change)}
        assert bool(differences(trial, other)) == differs, (name, change)


def test_replacements_of_deleted_tests_are_there() -> None:
    root = Path(__file__).parents[2]
    files = {p.relative_to(root).as_posix(): p.read_text() for p in root.glob("tests/**/*.py")}
    everything, named = "".join(files.values()), r"(tests/[\w/]+\.py)(?:::(\w+))?|\b(test_\w+)"
    for line in Path(__file__).with_name("DELETED").read_text().splitlines()[1:]:
        _, replacement = line.split(" | ")
        for path, name, alone in re.findall(named, replacement):
            text = files.get(path, "") if path else everything
            assert f"def {name or alone}" + "(" * bool(name or alone) in text, (path, name, alone)
