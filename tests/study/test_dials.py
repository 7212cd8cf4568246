"""Every dial that shifts a target is checked against measured distance: the further it is turned, the farther."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from convtl.config.domains import Jitter, NoiseConfig, PerClass, TypedScriptConfig
from convtl.config.training import ShiftConfig
from convtl.data.domains import Domain, load_domain
from convtl.data.shift import permute_labels, shifted
from convtl.keys import generator
from convtl.storage.cache import default_root
from convtl.study.measurements.similarity import data_distances

COUNTS = PerClass(train=80, validation=4, test=4)
LETTERS = TypedScriptConfig(
    script="cyrillic", letters="БГДЖИЛФЮ", per_class=COUNTS, jitter=Jitter(noise=0.1, rotation=5.0)
)
HALF = 40


def _domain(name: str, config: TypedScriptConfig | NoiseConfig) -> Domain:
    return load_domain(name, config, Path(default_root()))


def _halves(domain: Domain) -> tuple[np.ndarray, np.ndarray]:
    """Disjoint images of every class: what stays as it is, and what is shifted."""
    labels = domain.split("train").labels
    order = np.stack([np.flatnonzero(labels == label) for label in np.unique(labels)])
    draw = generator(
        0, "order"
    )  # measures take the first images of a class: they must not go by class
    return order[:, :HALF].ravel(), draw.permutation(order[:, HALF:].ravel())


def _distance(shift: ShiftConfig, kind: str = "mmd2") -> float:
    domain = _domain("letters", LETTERS)
    split = domain.split("train")
    still, moved = _halves(domain)
    noise = _domain("noise", NoiseConfig(per_class=COUNTS)).split("train") if shift.blend else None
    pixels = shifted(split, moved, shift, noise, (0, "test"))
    labels = permute_labels(split.labels[moved], shift.permuted_labels, generator(0, "test"))
    return data_distances(split.images[still], split.labels[still], pixels, labels)[kind]


@pytest.mark.parametrize(
    ("key", "amounts", "kind"),
    [
        # up to half a right angle: upright and level strokes, turned by 90 degrees, are level and upright again
        ("rotation", (0.0, 15.0, 30.0, 45.0), "mmd2"),
        ("noise", (0.0, 0.1, 0.3, 0.6), "mmd2"),
        ("blur", (0.0, 1.0, 2.0, 4.0), "mmd2"),
        ("blend", (0.0, 0.25, 0.5, 0.75), "mmd2"),
        ("inversion", (False, True), "mmd2"),
        # the images stay what they are: only a distance that knows labels sees it
        ("permuted_labels", (0.0, 0.3, 0.6, 1.0), "otdd"),
    ],
)
def test_a_dial_turned_further_is_measured_as_farther(
    key: str, amounts: tuple[float, ...], kind: str
) -> None:
    distances = [_distance(replace(ShiftConfig(), **{key: amount}), kind) for amount in amounts]
    assert all(nearer < farther for nearer, farther in pairwise(distances)), distances


def test_labels_alone_move_no_distance_between_images() -> None:
    assert abs(_distance(ShiftConfig(permuted_labels=1.0)) - _distance(ShiftConfig())) < 0.01
