"""The section on gradients, from made-up tables: what it says follows from the numbers."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from convtl.analysis.statistics import estimate
from convtl.reporting.gradient_plots import gradient_profile
from convtl.reporting.gradients import reading, section
from convtl.training.probes import COLUMNS

UNITS = ("conv1", "conv2", "fc3", "fc4", "fc5")
REPLICATES = 8
LOST = {"sigmoid": 0.6, "tanh": 0.02}
"""Decades a unit."""


def rows():
    rng = np.random.default_rng(0)
    for replicate in range(REPLICATES):
        for activation, lost in LOST.items():
            for initialiser in ("lecun_normal", "he_normal"):
                for update in (0, 10):
                    head = (
                        "profile",
                        "plain",
                        activation,
                        initialiser,
                        5,
                        "sgd",
                        replicate,
                        update,
                    )
                    for place in range(1, 6):
                        value = -lost * (5 - place) + rng.normal(scale=0.01) * (place < 5)
                        yield (*head, f"fc{place}", place, "relative_gradient", value)
                head = ("profile", "lenet5", activation, initialiser, None, "sgd", replicate, 0)
                for place, unit in enumerate(UNITS, start=1):
                    yield (*head, unit, place, "weight_gradient", -place)
                    if place < 5:
                        yield (*head, unit, place, "relative_gradient", -lost * (4 - place))
            accuracy = 0.08 if activation == "sigmoid" else 0.8
            head = (
                "convergence",
                "lenet5",
                activation,
                "lecun_normal",
                None,
                "sgd",
                replicate,
                600,
            )
            yield (*head, None, None, "test_accuracy", accuracy)
            yield (*head, None, None, "chance", 1 / 12)
            for place, unit in enumerate(UNITS, start=1):
                yield (*head, unit, place, "arrival", 10.0 * 2**place * rng.uniform(0.9, 1.1))
        head = ("freezing", "lenet5", "tanh", "lecun_normal", None, "sgd", replicate)
        yield (*head, 300, None, None, "test_logit", 2.0)
        for place, unit in enumerate(UNITS, start=1):
            yield (*head, 0, unit, place, "test_logit", 2.0 - place)


@pytest.fixture(scope="module")
def frame():
    return pd.DataFrame(
        [dict(zip(COLUMNS, row, strict=True)) for row in rows()], columns=list(COLUMNS)
    )


def test_the_section_says_what_the_numbers_say(frame, tmp_path):
    lines = "\n".join(section(tmp_path, frame)).splitlines()
    [sigmoid] = [line for line in lines if line.startswith("| sigmoid | lecun_normal | **")]
    assert "**+0.60 (+2.4)**" in sigmoid
    [tanh] = [
        line
        for line in lines
        if line.startswith("| tanh | lecun_normal | ") and line.count("(") == 2
    ]
    assert "**" not in tanh
    tests = {
        line.split(" | ")[1]: line.split(" | ")[-1].rstrip(" |")
        for line in lines
        if line.startswith("| C")
    }
    assert tests["gradients vanish towards the input in plain sigmoid chains"] == "for"
    assert tests["gradients vanish towards the input in plain tanh chains"] == "practically null"
    assert tests["early layers are the slowest to train (tanh, sgd)"] == "against"
    assert tests["early layers are the slowest to train (sigmoid, sgd)"] == "not decidable"


def test_every_picture_is_there(frame, tmp_path):
    text = "\n".join(section(tmp_path, frame))
    names = ["gradient_profile", "convergence_order", "freezing_cost"]
    assert [name in text for name in names] == [True] * 3
    for name in names:
        with Image.open(tmp_path / "figures" / f"{name}.png") as image:
            image.load()


@pytest.mark.parametrize("probe", ["profile", "convergence", "freezing"])
def test_a_part_of_the_probes_is_enough(probe, frame, tmp_path):
    assert len("\n".join(section(tmp_path, frame[frame["probe"] == probe]))) > 200


def test_the_profile_is_drawn_by_distance_from_the_last_hidden_unit(frame):
    axes = gradient_profile(frame).axes
    assert [axis.get_title() for axis in axes[:2]] == ["sigmoid, update 0", "tanh, update 0"]
    line = axes[0].lines[0]
    assert list(line.get_xdata()) == [4, 3, 2, 1, 0]
    assert line.get_ydata() == pytest.approx([-2.4, -1.8, -1.2, -0.6, 0], abs=0.05)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5, 0.6, 0.7, 0.5, 0.6, 0.7, 0.6, 0.5], "for"),
        ([-0.5, -0.6, -0.7, -0.5, -0.6, -0.7, -0.6, -0.5], "against"),
        ([0.1, -0.1, 0.05, 0.1, -0.1, 0.0, 0.1, 0.1], "practically null"),
        ([2.0, -1.0, 0.6, 0.9, -2.0, 3.0, 0.1, 1.0], "inconclusive"),
    ],
)
def test_readings(values, expected):
    assert reading(estimate(values), pd.Series(values), 0.25) == expected
