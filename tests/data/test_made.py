"""Pictures that are made: a function of seed and replicate, alike in all but what they show."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convtl import keys
from convtl.config.domains import (
    DigitsConfig,
    Jitter,
    Made,
    MixtureConfig,
    NoiseConfig,
    PatchesConfig,
    PerClass,
    TypedScriptConfig,
)
from convtl.data import made, untyped
from convtl.data.domains import Domain, eligible_classes, identity, load_domain
from convtl.data.splits import SPLITS, Store
from convtl.data.subsets import draw_source, draw_target
from convtl.errors import UserError
from convtl.storage.cache import Cache

FEW = PerClass(train=30, validation=4, test=9)
STILL = Jitter(rotation=0.0, shift=0.0, scale=0.0, shear=0.0, noise=0.0)
KINDS: dict[str, Made] = {
    "letters": TypedScriptConfig(script="cyrillic", per_class=FEW),
    "textures": PatchesConfig(per_class=FEW),
    "noise": NoiseConfig(per_class=FEW),
    "digits": DigitsConfig(per_class=FEW),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def domain_of(config: Made, **changes: object) -> Domain:
    changed: Made = dataclasses.replace(config, **changes)  # type: ignore[arg-type]
    return load_domain("d", changed, Path("nowhere"))


def pictures(config: Made, split: str = "train", seed: int = 0, replicate: int = 0) -> np.ndarray:
    """The first pictures of the first three classes: (classes, pictures, height, width)."""
    count: int = getattr(config.per_class, split)
    images = domain_of(config).splits(seed, replicate)[split].images
    return images[np.arange(3 * count)][..., 0].reshape(3, count, config.size, config.size)


def ink(jitter: Jitter, config: Made = KINDS["letters"]) -> np.ndarray:
    """Ink of pictures under some jitter: 0 paper, 1 full."""
    grey = pictures(dataclasses.replace(config, jitter=jitter)) / 255
    return (grey - made.PAPER) / (made.INK - made.PAPER)


@every_kind
def test_a_domain_tells_what_it_is_before_anything_is_made(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made._Maker, "_block", None)
    domain = domain_of(KINDS[kind])
    assert domain.made
    assert len(set(domain.class_names)) == len(domain.class_names) >= 10
    assert domain.image_shape == (28, 28, 1)
    assert domain.counts == dataclasses.asdict(FEW)
    for name, split in domain.splits(0, 0).items():
        assert split.images.shape == (len(domain.class_names) * domain.counts[name], 28, 28, 1)
        np.testing.assert_array_equal(np.bincount(split.labels), domain.counts[name])


@every_kind
def test_pictures_differ_by_seed_replicate_split_and_place_and_repeat(kind: str) -> None:
    config = KINDS[kind]
    draws = [(seed, replicate) for seed in (0, 1) for replicate in (0, 1)]
    images = [pictures(config, split, *draw) for split in SPLITS for draw in draws]
    single = [one.tobytes() for batch in images for one in batch.reshape(-1, 28, 28)]
    assert len(set(single)) == len(single)
    np.testing.assert_array_equal(pictures(config), images[0])


@every_kind
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_a_picture_does_not_depend_on_what_else_is_made(kind: str, data: st.DataObject) -> None:
    config = KINDS[kind]
    # How digits are divided depends on how many are asked for.
    more = FEW if kind == "digits" else PerClass(train=45, validation=4, test=9)
    every = pictures(config)
    rows = data.draw(st.lists(st.integers(0, 89), min_size=1, max_size=5))
    images = domain_of(config, per_class=more).splits(0, 0)["train"].images
    places = [row // 30 * more.train + row % 30 for row in rows]
    np.testing.assert_array_equal(images[places][..., 0], every.reshape(-1, 28, 28)[rows])


@every_kind
def test_corruption_is_the_same_for_all_kinds(kind: str) -> None:
    """Noise relative to the contrast of what is shown, and its amount in grey levels."""
    config, clear = KINDS[kind], dataclasses.replace(Jitter(), noise=0.0)
    before, after = (
        ink(jitter, config) for jitter in (clear, dataclasses.replace(clear, noise=0.1))
    )
    inside = (before > -0.1) & (before < 1.1)  # nothing there is clipped
    assert (after - before)[inside].std() == pytest.approx(0.1, rel=0.05)
    contrast = before.std(axis=(2, 3))
    assert contrast.mean() == pytest.approx(made.CONTRAST, rel=0.2)
    assert np.abs(before[:, 0] - ink(STILL, config)[:, 0]).max() > 0.1  # jittered


def test_amounts_of_jitter() -> None:
    still = ink(STILL)[0]
    assert (still[4:] == still[:-4]).all()  # four faces
    assert (still.min(), still.max()) == pytest.approx((0, 1), abs=0.01)
    half = ink(dataclasses.replace(STILL, inverted=0.5)).mean(axis=(2, 3)) > 0.5
    assert 20 < half.sum() < 70
    area = ink(dataclasses.replace(STILL, scale=0.15))[0].sum(axis=(1, 2)) / still.sum(axis=(1, 2))
    assert (1.15 / 0.85) ** 2 / 1.2 < area.max() / area.min() < (1.15 / 0.85) ** 2 * 1.05
    turned = ink(dataclasses.replace(STILL, rotation=12.0))[0].sum(axis=(1, 2))
    np.testing.assert_allclose(turned, still.sum(axis=(1, 2)), rtol=0.02)  # no ink is lost or made
    moved = ink(dataclasses.replace(STILL, shift=2.0))[0]
    for axis in (1, 2):
        middles = [
            weight.sum(axis=axis) @ np.arange(28) / weight.sum(axis=(1, 2))
            for weight in (moved, still)
        ]
        shift = middles[0] - middles[1]
        assert np.abs(shift).max() <= 2.02
        assert np.ptp(shift) > 3


@pytest.mark.parametrize("letter", ["ж", "о", "ф"])
def test_letters_stay_in_the_middle_whatever_their_size(letter: str) -> None:
    config = KINDS["letters"]
    domain = domain_of(config, jitter=dataclasses.replace(STILL, scale=0.2))
    first = domain.class_names.index(letter) * FEW.train
    weight = domain.splits(0, 0)["train"].images[first : first + 30][..., 0] - 64.0
    for axis in (1, 2):
        covered = weight.max(axis=axis) > 30
        middle = (covered.argmax(1) + 27 - covered[:, ::-1].argmax(1)) / 2
        np.testing.assert_allclose(middle, 13.5, atol=0.51)  # of the box, within half a pixel


def test_every_prefix_shows_all_variants_equally_often_in_an_order_of_its_own(
    tmp_path: Path,
) -> None:
    config = NoiseConfig(size=8, jitter=STILL, per_class=PerClass(43, 2, 2))
    store = Store("n", config, "", Cache(tmp_path), print, 1e9)

    def levels(drawn: made.Together) -> made.Ink:
        return np.broadcast_to(drawn.variants[:, None, None] / 4, (len(drawn.variants), 8, 8))

    kind = made.Kind(tuple("abcdef"), lambda name, split: 5, levels)
    domain = made.load(store, config, kind)
    shown = domain.splits(0, 0)["train"].images[:][:, 0, 0, 0].reshape(6, 43)
    for n in (1, 4, 5, 23, 43):
        counts = [np.unique(row[:n], return_counts=True)[1] for row in shown]
        assert all(np.ptp(count) <= 1 and len(count) == min(n, 5) for count in counts)
    assert len({row[:5].tobytes() for row in shown}) > 3


def test_domains_of_the_same_classes_have_the_same_draws_placements_and_noise() -> None:
    """So that sources which differ in noise alone are compared in pairs."""
    latin = TypedScriptConfig(script="latin", per_class=FEW)
    clear, noisy = (domain_of(latin, jitter=Jitter(noise=amount)) for amount in (0.0, 0.2))
    for replicate in range(3):
        draws = [
            draw_source(d, range(20), seed=0, replicate=replicate, classes=8, images_per_class=3)
            for d in (clear, noisy)
        ]
        assert draws[0].classes == draws[1].classes
        np.testing.assert_array_equal(draws[0].train, draws[1].train)
        before, after = (
            d.splits(0, replicate)["train"].images[draws[0].train] for d in (clear, noisy)
        )
        assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.7
    draws = [
        draw_target(clear, seed=0, replicate=replicate, classes=5, n_validation=3, n_test=2)
        for replicate in range(9)
    ]
    assert len({draw.classes for draw in draws}) > 6
    # Pictures are in random order as they are made, and only the first are made for little data.
    np.testing.assert_array_equal(draws[0].train % 30, np.tile(np.arange(30), (5, 1)))


def test_grey_pictures_for_nets_that_take_colours() -> None:
    grey, three = (domain_of(KINDS["noise"], channels=channels) for channels in (1, 3))
    assert three.image_shape == (28, 28, 3)
    assert "channels" not in identity(grey.config)
    one, other = (domain.splits(0, 0)["test"].images[[3, 40]] for domain in (grey, three))
    np.testing.assert_array_equal(other, np.repeat(one, 3, axis=-1))


# --- photographs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "size"), [((300, 451), 28), ((512, 512), 28), ((288, 288), 32), ((64, 90), 8)]
)
def test_a_patch_reads_no_pixel_outside_the_cells_of_its_split(
    shape: tuple[int, int], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells are a patch apart; pixels of a split have levels of their own, and all others none."""
    rng, cells = np.random.default_rng(0), untyped.cells(shape, size)
    levels = {"train": 1.0, "validation": 10.0, "test": 100.0}
    photograph = np.full(shape, np.nan)
    for split, level in levels.items():
        for top, bottom, left, right in cells[split]:
            assert min(bottom - top, right - left) >= 2 * size
            around = photograph[
                max(0, top - size) : bottom + size, max(0, left - size) : right + size
            ]
            assert np.isnan(around[~np.isnan(around)]).size == 0
            extent = (bottom - top, right - left)
            photograph[top:bottom, left:right] = level * rng.uniform(1, 2, extent)
    monkeypatch.setattr(untyped, "PHOTOGRAPHS", {"x": ""})
    monkeypatch.setattr(untyped, "_photographs", lambda: {"x": photograph})
    monkeypatch.setattr(untyped, "_CONTRAST", 0.0)
    monkeypatch.setattr(made, "contrasted", lambda images: images)
    monkeypatch.setattr(untyped, "_PATCHES_ALONG", 1)
    placement = made.Placement.drawn(rng.random((99, 5)), Jitter())
    for split, level in levels.items():
        variants = np.arange(99) % len(untyped._places("x", split, size))
        images = untyped._patches(made.Together("x", split, size, variants, placement, rng))
        assert images.min() >= level
        assert images.max() <= 2 * level


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 38}, r"^domains\.d\.size: got 38; accepted: at most 37 pixels$"),
        ({"size": 1}, r"^domains\.d\.size: got 1, .* contrast; accepted: larger patches$"),
        (
            {"jitter": Jitter(scale=0.6)},
            r"^domains\.d\.jitter: .* 28 pixels .* accepted: less of both$",
        ),
    ],
)
def test_patches_that_do_not_fit(changes: dict[str, object], message: str) -> None:
    images = domain_of(KINDS["textures"], **changes).splits(0, 0)["train"].images
    with pytest.raises(UserError, match=message):
        images[:]


def test_flat_patches_are_drawn_again() -> None:
    sky = domain_of(KINDS["textures"], jitter=dataclasses.replace(Jitter(), noise=0.0))
    first = sky.class_names.index("rocket") * FEW.train
    images = sky.splits(0, 0)["train"].images[first : first + 30]
    assert images.std(axis=(1, 2, 3)).min() > 0.2 * made.CONTRAST * 127.5


# --- digits and fields --------------------------------------------------------------------------------


def test_digits_are_divided_once_and_drawn_by_replicate() -> None:
    shares = (("train", 0), ("validation", 24), ("test", 100))
    members = [untyped._scans_of(name, split, shares) for name in "0123456789" for split in SPLITS]
    assert sorted(np.concatenate(members)) == list(range(1797))
    assert [len(untyped._scans_of("3", split, shares)) for split in SPLITS[1:]] == [24, 100]
    still = DigitsConfig(jitter=STILL)
    one, other = (pictures(still, replicate=replicate)[0] for replicate in (0, 1))
    shared = {image.tobytes() for image in one} & {image.tobytes() for image in other}
    assert len(shared) >= 40  # of 50: nearly the same scans
    assert not np.array_equal(one, other)  # in another order
    with pytest.raises(UserError, match=r"^domains\.d\.per_class: got .*; accepted: at most 174 "):
        domain_of(DigitsConfig(), per_class=PerClass(100, 50, 25))


@pytest.mark.parametrize(
    ("size", "wavelength", "angle"), [(11, 6.5, 0), (28, 6.5, 0), (28, 3.5, 60)]
)
def test_fields_have_variance_one_and_their_wave(size: int, wavelength: float, angle: int) -> None:
    rng, side = np.random.default_rng(0), 2 * size
    spectrum = untyped.amplitude(size, wavelength, angle)
    white = rng.standard_normal((400, side, side))
    fields = np.fft.irfft2(np.fft.rfft2(white) * spectrum, s=(side, side))
    assert fields.var() == pytest.approx(1, rel=0.05)
    # along the wave, half a wavelength apart is the opposite; across it, hardly a change
    direction = wavelength / 2 * np.array([np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))])
    along, across = (
        np.mean(fields * np.roll(fields, np.rint(shift).astype(int), axis=(1, 2)))
        for shift in (direction, direction[::-1] * (1, -1))
    )
    assert along < 0 < across - 0.3


# --- what may be a source, and what is another domain ---------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (KINDS["digits"], DigitsConfig(size=32)),
        (KINDS["textures"], PatchesConfig(size=32)),
        (KINDS["noise"], NoiseConfig(jitter=STILL)),
        (KINDS["letters"], TypedScriptConfig(script="cyrillic", jitter=STILL)),
    ],
)
def test_nothing_of_a_targets_classes_is_in_a_source(source: Made, target: Made) -> None:
    assert eligible_classes(domain_of(source), domain_of(target)) == ()


def test_other_kinds_are_sources_whole() -> None:
    letters, digits = domain_of(KINDS["letters"]), domain_of(KINDS["digits"])
    assert eligible_classes(digits, letters) == tuple(range(10))
    assert eligible_classes(letters, digits) == tuple(range(30))
    with pytest.raises(UserError, match=r"domains\.m\.kind: 'mixture' .*accepted: as source"):
        load_domain("m", MixtureConfig(near="own", far="noise"), Path("nowhere"))


@every_kind
def test_whatever_changes_pictures_changes_the_digest(kind: str) -> None:
    config = KINDS[kind]
    changes: list[dict[str, object]] = [
        {},
        {"size": 32},
        {"channels": 3},
        {"per_class": PerClass(31, 4, 9)},
        *({"jitter": Jitter(**{item.name: 0.5})} for item in dataclasses.fields(Jitter)),
    ]
    digests = {domain_of(config, **change).digest for change in changes}
    assert len(digests) == len(changes)


@pytest.mark.parametrize("module", [made, untyped], ids=lambda module: module.__name__)
def test_the_version_of_the_code_is_in_the_digest(
    module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = KINDS["digits"]
    before = keys.digest(identity(config))
    monkeypatch.setattr(module, "VERSION", 99)
    assert keys.digest(identity(config)) != before
