"""Letters are what they claim to be: drawn by the face itself, and no two classes look alike."""

import dataclasses
import unicodedata

import numpy as np
import pytest

from convtl.cli import compose
from convtl.config.domains import TypedScriptConfig
from convtl.config.parsing import parse
from convtl.data import typed_script as glyphs
from convtl.data.typed_script import SCRIPTS, letters_of, unlike_letters
from convtl.errors import UserError

FACES = TypedScriptConfig(script="latin").faces


def _letters(script: str) -> tuple[str, ...]:
    return letters_of(TypedScriptConfig(script=script))


def test_the_last_resort_font_is_no_face() -> None:
    assert "DejaVu Sans Bold Oblique" in glyphs.face_files()
    assert not [path for path in glyphs.face_files().values() if "LastResort" in path.name]


@pytest.mark.parametrize("face", FACES)
def test_no_face_draws_the_same_box_for_two_letters(face: str) -> None:
    """A placeholder would be the same picture again and again."""
    for script in SCRIPTS:
        drawn = {glyphs.shape_vector(letter, face).tobytes() for letter in _letters(script)}
        assert len(drawn) == len(_letters(script)), script
        assert {ord(letter) for letter in _letters(script)} <= glyphs.coverage(face)


def test_a_face_refuses_letters_that_it_does_not_have() -> None:
    with pytest.raises(UserError, match=r"DejaVu Sans Bold.*U\+4E00"):
        glyphs.reference("一", "DejaVu Sans Bold", 28)
    with pytest.raises(UserError, match="no ink"):
        glyphs.reference(" ", "DejaVu Sans", 28)


CLASSES = {
    "latin": 23,
    "cyrillic": 30,
    "greek": 22,
    "armenian": 30,
    "georgian": 25,
    "hebrew": 18,
    "lao": 31,
    "canadian_syllabics": 42,
    "lisu": 32,
    "old_italic": 29,
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_two_classes_of_a_script_look_alike_or_are_forms_of_one_letter(script: str) -> None:
    letters = _letters(script)
    alike = glyphs.similarity(letters, letters, FACES)
    np.fill_diagonal(alike, 0)
    assert len(letters) == CLASSES[script]
    assert alike.max() < 0.8
    plain = [unicodedata.normalize("NFKD", letter)[0].casefold() for letter in letters]
    assert len(set(plain)) == len(plain)


@pytest.mark.parametrize("pair", ["ЖЖ", "Жж", "Чч", "Оо", "оo", "ΓГ", "ΠП", "lI", "Сc"])
def test_look_alikes_are_found_whatever_their_size(pair: str) -> None:
    assert glyphs.similarity([pair[0]], [pair[1]], FACES)[0, 0] >= 0.8


def test_pairs_of_letters_last_for_fifteen_replicates() -> None:
    pairs = parse(compose([])).domains["letter_pairs"]
    assert isinstance(pairs, TypedScriptConfig)
    assert len(letters_of(pairs)) // 2 == 15
    assert dataclasses.asdict(pairs.per_class) == {"train": 10000, "validation": 100, "test": 500}


@pytest.mark.parametrize("target", ["cyrillic", "armenian"])
@pytest.mark.parametrize(
    "source", [script for script in SCRIPTS if script not in ("cyrillic", "armenian")]
)
def test_no_eligible_class_of_a_source_looks_like_any_of_the_target(
    source: str, target: str
) -> None:
    ours, theirs = TypedScriptConfig(script=source), TypedScriptConfig(script=target)
    eligible = unlike_letters(ours, theirs)
    letters = [letters_of(ours)[index] for index in eligible]
    assert len(letters) >= 12
    assert glyphs.similarity(letters, letters_of(theirs), FACES).max() < 0.8


def test_latin_loses_its_homoglyphs_and_keeps_the_rest() -> None:
    latin = letters_of(TypedScriptConfig(script="latin"))
    kept = {latin[index] for index in unlike_letters(TypedScriptConfig(script="latin"), _CYRILLIC)}
    assert not kept & set("aeocpxy")
    assert set("dfgz") <= kept


_CYRILLIC = TypedScriptConfig(script="cyrillic")


def test_fonts_do_not_hide_that_letters_are_alike() -> None:
    other = TypedScriptConfig(script="latin", faces=("STIXGeneral", "STIXGeneral Bold"))
    kept = {letters_of(other)[index] for index in unlike_letters(other, _CYRILLIC)}
    assert "x" in letters_of(other)
    assert not kept & set("aeocpxy")
    mathematical = glyphs.similarity("AZ", "ЖШ", ("cmr10",))  # has no Cyrillic letter
    np.testing.assert_array_equal(mathematical, 0)


def test_a_script_is_no_stranger_to_itself() -> None:
    assert unlike_letters(_CYRILLIC, _CYRILLIC) == ()


def test_small_letters_stay_small_and_nothing_leaves_the_image() -> None:
    def extent(letter: str, face: str) -> tuple[int, int]:
        ink = glyphs.reference(letter, face, 28) > 0.5
        return int(ink.any(axis=1).sum()), int(ink.any(axis=0).sum())

    assert extent("о", FACES[0])[0] < 0.85 * extent("О", FACES[0])[0]
    for face in FACES:
        capital = extent("H", face)[0] / glyphs.OVERSAMPLING
        assert capital == pytest.approx(14, abs=0.3)
        for letter in ("Щ", "W", "ᐃ", "Ѫ"):
            assert max(extent(letter, face)) <= 0.84 * 28 * glyphs.OVERSAMPLING


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"script": "latn"}, "script: unknown name 'latn'.*latin"),
        ({"faces": ("DejaVu San",)}, "faces: unknown name 'DejaVu San'.*DejaVu Sans"),
        ({"faces": ("Last Resort High-Efficiency",)}, "faces: unknown name"),
        (
            {"faces": ("cmr10",), "script": "hebrew"},
            "script: got 'hebrew' in the faces cmr10, which leave 0 letters .*; accepted: ",
        ),
    ],
)
def test_what_cannot_be_drawn_is_one_plain_line(change: dict[str, object], message: str) -> None:
    content = TypedScriptConfig(**{"script": "latin", **change})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message) as caught:
        letters_of(content)
    assert "\n" not in str(caught.value)


def test_every_script_has_a_domain_of_its_name(request: pytest.FixtureRequest) -> None:
    folder = request.config.rootpath / "conf" / "domains"
    for script in SCRIPTS:
        assert f"script: {script}\n" in (folder / f"{script}.yaml").read_text(encoding="utf-8")
    assert TypedScriptConfig(script="latin").lookalike == 0.8
