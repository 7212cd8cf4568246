"""Every dial that shifts a target is checked against measured distance: the further it is turned, the farther."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from convtl.config.domains import Jitter, PerClass, TypedScriptConfig
from convtl.config.training import ShiftConfig
from convtl.data.domains import Domain, load_domain
from convtl.data.shift import shifted
from convtl.keys import generator
from convtl.storage.cache import default_root
from convtl.study.measurements import data_distance

COUNTS = PerClass(train=80, validation=4, test=4)
LETTERS = TypedScriptConfig(
    script="cyrillic", per_class=COUNTS, jitter=Jitter(noise=0.1, rotation=5.0)
)
HALF = 40


def _halves(domain: Domain) -> tuple[np.ndarray, np.ndarray]:
    """Disjoint images of every class: what stays as it is, and what is shifted."""
    labels = domain.splits(0, 0)["train"].labels
    order = np.stack([np.flatnonzero(labels == label) for label in np.unique(labels)])
    draw = generator(
        0, "order"
    )  # measures take the first images of a class: they must not go by class
    return order[:, :HALF].ravel(), draw.permutation(order[:, HALF:].ravel())


def _distance(shift: ShiftConfig) -> float:
    domain = load_domain("letters", LETTERS, Path(default_root()))
    split = domain.splits(0, 0)["train"]
    still, moved = _halves(domain)
    pixels = shifted(split, moved, shift, (0, "test"))
    labels = split.labels
    return data_distance(split.images[still], labels[still], pixels, labels[moved])


@pytest.mark.parametrize(
    ("key", "amounts"),
    [
        # up to half a right angle: upright and level strokes, turned by 90 degrees, are level and upright again
        ("rotation", (0.0, 15.0, 30.0, 45.0)),
        ("noise", (0.0, 0.1, 0.3, 0.6)),
        ("blur", (0.0, 1.0, 2.0, 4.0)),
        ("inversion", (False, True)),
    ],
)
def test_a_dial_turned_further_is_measured_as_farther(key: str, amounts: tuple[float, ...]) -> None:
    distances = [_distance(replace(ShiftConfig(), **{key: amount})) for amount in amounts]
    assert all(nearer < farther for nearer, farther in pairwise(distances)), distances
