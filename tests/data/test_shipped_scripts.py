"""Domains of conf/ that divide a script: by shape, and into pairs of letters."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from convtl import keys
from convtl.cli import compose
from convtl.config.domains import TypedScriptConfig
from convtl.config.parsing import parse
from convtl.data import glyphs
from convtl.data.domains import eligible_classes, identity, load_domain
from convtl.data.typed_script import letters_of

DOMAINS = parse(compose([])).domains
SHAPES = ("cyrillic_round", "cyrillic_straight")


def script(name: str) -> TypedScriptConfig:
    content = DOMAINS[name]
    assert isinstance(content, TypedScriptConfig)
    return content


@pytest.mark.parametrize(
    ("name", "least"), [("cyrillic_round", 12), ("cyrillic_straight", 12), ("letter_pairs", 28)]
)
def test_every_letter_that_is_named_is_a_class(name: str, least: int) -> None:
    """None is dropped as a look-alike of another."""
    content = script(name)
    assert letters_of(content) == tuple(content.letters or "")
    assert len(letters_of(content)) >= least
    assert set(letters_of(content)) <= set(letters_of(script("cyrillic")))


def test_round_and_straight_letters_share_nothing_and_all_can_be_the_others_source(
    tmp_path: Path,
) -> None:
    round_, straight = (load_domain(name, DOMAINS[name], tmp_path) for name in SHAPES)
    assert not set(round_.class_names) & set(straight.class_names)
    for source, target in itertools.permutations((round_, straight)):
        assert len(eligible_classes(source, target)) == len(source.class_names)


def test_round_letters_are_rounder() -> None:
    """Share of the outline that runs in none of a letter's four main directions."""

    def curved(letter: str) -> float:
        down, across = np.gradient(glyphs.reference(letter, "DejaVu Sans", 28))
        angle = (np.rad2deg(np.arctan2(down, across)) + 2.5) % 180
        shares = np.histogram(angle, bins=36, range=(0, 180), weights=np.hypot(down, across))[0]
        return float(1 - np.sort(shares)[-4:].sum() / shares.sum())

    round_, straight = ([curved(letter) for letter in letters_of(script(name))] for name in SHAPES)
    assert min(round_) > 0.25 > 0.2 > max(straight)


def test_letters_of_pairs_can_be_told_apart() -> None:
    content = script("letter_pairs")
    letters = letters_of(content)
    alike = glyphs.similarity(letters, letters, content.faces)
    np.fill_diagonal(alike, 0)
    assert alike.max() < 0.9
    assert (content.per_class.train, content.per_class.validation, content.per_class.test) == (
        10000,
        100,
        500,
    )


DIGESTS = {
    "armenian": "e788e55cb6455ce7",
    "canadian_syllabics": "063e798be9bc7706",
    "cyrillic": "dc7f0e0da37de3ac",
    "digits": "f82ef2401f19b556",
    "georgian": "1530e5529e47deae",
    "greek": "3f185e3e371ee122",
    "hebrew": "59c80f746767efe5",
    "lao": "cc5813278be49305",
    "latin": "f2590b47f4050465",
    "lisu": "fe20f41a4b0d4c49",
    "old_italic": "1fef1c7765b08674",
    "photographs": "ca7d4d821531db19",
    "textures": "a58a26bcf73bdc0a",
}


def test_domains_keep_their_digests() -> None:
    """Draws of classes and images are named by them. Another matplotlib may change its fonts, and those of scripts."""
    assert {name: keys.digest(identity(DOMAINS[name])) for name in DIGESTS} == DIGESTS


@pytest.mark.parametrize("target", ["cyrillic", "armenian"])
def test_latin_in_other_faces_has_enough_letters_and_no_face_of_a_target(
    target: str, tmp_path: Path
) -> None:
    source, aimed = (load_domain(name, DOMAINS[name], tmp_path) for name in ("latin_stix", target))
    assert isinstance(source.config, TypedScriptConfig)
    assert isinstance(aimed.config, TypedScriptConfig)
    assert not set(source.config.faces) & set(aimed.config.faces)
    assert len(eligible_classes(source, aimed)) >= 24
