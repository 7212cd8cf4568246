"""Faces held out for the test: another look of the same letters, and nothing else changed."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from convtl import keys
from convtl.cli import compose
from convtl.config.domains import PerClass, TypedScriptConfig
from convtl.config.parsing import parse
from convtl.data.domains import eligible_classes, identity, load_domain
from convtl.data.typed_script import all_faces, letters_of

EVERY = TypedScriptConfig(
    script="cyrillic", letters="БГДЖ", per_class=PerClass(train=8, validation=4, test=8)
)
HELD_OUT = dataclasses.replace(
    EVERY,
    faces=("DejaVu Sans", "DejaVu Sans Oblique"),
    test_faces=("DejaVu Sans Bold", "DejaVu Sans Bold Oblique"),
)

# Trials done before there were faces held out, noise and shifts keep their identities by these.
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
    """Font files belong to them: another matplotlib may change those of the scripts, and then only those."""
    domains = parse(compose([])).domains
    assert {name: keys.digest(identity(domains[name])) for name in DIGESTS} == DIGESTS


def test_images_are_those_of_the_same_faces_elsewhere(tmp_path: Path) -> None:
    every, held_out = (
        load_domain("every", EVERY, tmp_path),
        load_domain("held out", HELD_OUT, tmp_path),
    )
    assert held_out.digest != every.digest
    assert held_out.class_names == every.class_names
    for split, faces in (
        ("train", HELD_OUT.faces),
        ("validation", HELD_OUT.faces),
        ("test", HELD_OUT.test_faces),
    ):
        ours, theirs = held_out.split(split), every.split(split)
        names = {all_faces(HELD_OUT)[number] for number in ours.strata}
        assert names == set(faces or ())
        for label in range(4):
            for face in faces or ():
                mine = (ours.labels == label) & (ours.strata == all_faces(HELD_OUT).index(face))
                other = (theirs.labels == label) & (theirs.strata == EVERY.faces.index(face))
                np.testing.assert_array_equal(
                    ours.images[mine][: other.sum()], theirs.images[other]
                )


def test_without_them_nothing_changes(tmp_path: Path) -> None:
    same = dataclasses.replace(EVERY, test_faces=EVERY.faces)
    assert "test_faces" not in identity(EVERY)
    assert identity(same) != identity(EVERY)
    ours, theirs = (load_domain("d", content, tmp_path).split("test") for content in (same, EVERY))
    np.testing.assert_array_equal(ours.images, theirs.images)
    np.testing.assert_array_equal(ours.strata, theirs.strata)


def test_the_shipped_font_shift_has_the_letters_of_cyrillic() -> None:
    domains = parse(compose([])).domains
    shifted, plain = domains["cyrillic_font_shift"], domains["cyrillic"]
    assert isinstance(shifted, TypedScriptConfig)
    assert isinstance(plain, TypedScriptConfig)
    assert letters_of(shifted) == letters_of(plain)
    assert not set(shifted.faces) & set(shifted.test_faces or ())


@pytest.mark.parametrize("target", ["cyrillic", "armenian"])
def test_latin_in_other_faces_has_enough_letters_and_no_face_of_a_target(
    target: str, tmp_path: Path
) -> None:
    domains = parse(compose([])).domains
    source, aimed = (load_domain(name, domains[name], tmp_path) for name in ("latin_stix", target))
    assert isinstance(source.config, TypedScriptConfig)
    assert isinstance(aimed.config, TypedScriptConfig)
    assert not set(source.config.faces) & set(aimed.config.faces)
    assert len(eligible_classes(source, aimed)) >= 24
