"""Random fields: deterministic, disjoint, of the spectra they claim, as hard to learn as letters."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convtl import keys
from convtl.cli import compose
from convtl.config.domains import MixtureConfig, NoiseConfig, PerClass
from convtl.config.parsing import parse
from convtl.data import noise
from convtl.data.domains import eligible_classes, identity, load_domain
from convtl.data.splits import SPLITS
from convtl.errors import UserError
from convtl.storage.cache import Cache, default_root
from convtl.study.grid import expand
from convtl.study.materials import Materials

FEW = PerClass(train=6, validation=3, test=4)


@settings(max_examples=8)
@given(counts=st.fixed_dictionaries({split: st.integers(1, 5) for split in SPLITS}))
def test_an_image_does_not_depend_on_how_many_are_drawn(counts: dict[str, int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        most, drawn = (
            load_domain("n", NoiseConfig(size=12, per_class=PerClass(**many)), Path(folder))
            for many in (dict.fromkeys(SPLITS, 5), counts)
        )
        for name, count in counts.items():
            split = drawn.split(name)
            np.testing.assert_array_equal(np.bincount(split.labels), [count] * len(noise.CLASSES))
            np.testing.assert_array_equal(
                split.images.reshape(-1, count, 12, 12),
                most.split(name).images.reshape(-1, 5, 12, 12)[:, :count],
            )


def test_a_domain_of_noise(tmp_path: Path) -> None:
    config = NoiseConfig(per_class=FEW)
    domain = load_domain("noise", config, tmp_path)
    assert not list(tmp_path.iterdir())
    assert len(domain.class_names) == len(set(domain.class_names)) >= 24
    assert domain.image_shape == (28, 28, 1)
    assert domain.counts == {"train": 6, "validation": 3, "test": 4}
    images = np.concatenate([domain.split(name).images for name in SPLITS])
    assert images.dtype == np.uint8
    assert images.shape == (13 * len(noise.CLASSES), 28, 28, 1)
    assert len({image.tobytes() for image in images}) == len(images)
    assert np.mean((images == 0) | (images == 255)) < 0.005
    assert images.mean() == pytest.approx(127.5, abs=3)
    assert images.std() / 255 == pytest.approx(0.15, abs=0.02)
    again = load_domain("noise", config, tmp_path / "elsewhere")
    assert again.digest == domain.digest
    np.testing.assert_array_equal(again.split("test").images, domain.split("test").images)


def test_the_digest_tells_noises_apart() -> None:
    contents = [
        NoiseConfig(),
        NoiseConfig(noise=0.123),
        NoiseConfig(size=32),
        NoiseConfig(per_class=FEW),
    ]
    assert len({keys.digest(identity(config)) for config in contents}) == len(contents)


@pytest.mark.parametrize("size", [11, 28])
def test_fields_have_variance_one_and_their_wave(size: int) -> None:
    rng = np.random.default_rng(0)
    side = 2 * size
    for wavelength, angle in ((6.0, 0), (4.0, 60)):
        own = noise.amplitude(size, wavelength, angle)
        white = rng.standard_normal((400, side, side))
        fields = np.fft.irfft2(np.fft.rfft2(white) * own, s=(side, side))
        assert fields.var() == pytest.approx(1, rel=0.05)
        # along the wave, half a wavelength apart is the opposite; across it, hardly a change
        half = np.rint(
            wavelength / 2 * np.array([np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))])
        )
        across = np.rint(
            wavelength / 2 * np.array([np.cos(np.deg2rad(angle)), -np.sin(np.deg2rad(angle))])
        )
        along_wave, across_wave = (
            np.mean(fields * np.roll(fields, shift.astype(int), axis=(1, 2)))
            for shift in (half, across)
        )
        assert along_wave < 0 < across_wave - 0.3


def test_a_class_of_the_target_is_no_class_of_the_source(tmp_path: Path) -> None:
    one = load_domain("one", NoiseConfig(per_class=FEW), tmp_path)
    other = load_domain("other", NoiseConfig(noise=0.3, per_class=FEW), tmp_path)
    assert eligible_classes(one, other) == ()


def test_a_mixture_is_no_domain_of_its_own(tmp_path: Path) -> None:
    mixture = MixtureConfig(near="own", far="noise")
    with pytest.raises(UserError, match=r"domains\.m\.kind: 'mixture' .*accepted: as source"):
        load_domain("m", mixture, tmp_path)


def _source_accuracy(source: str, target: str, replicates: int) -> float:
    """Mean over replicates of what source nets reach on validation images of their own."""
    words = [
        f"source={source}",
        f"target={target}",
        "depth=1",
        "seed=3",
        f"replicates={replicates}",
    ]
    _, trials = expand(parse(compose(words)))
    materials = Materials(Cache(default_root()), print)
    materials.sources.prepare(trials, lambda ready, wanted: None)
    return float(np.mean([materials.sources.metadata(trial)["accuracy"] for trial in trials]))


@pytest.mark.long
def test_noise_is_as_hard_to_learn_as_letters() -> None:
    """As calibrated with other seeds: so that similarity is not confounded with how good a source net is."""
    letters = [_source_accuracy(script, script, 8) for script in ("cyrillic", "armenian")]
    assert _source_accuracy("noise", "cyrillic", 8) == pytest.approx(np.mean(letters), abs=0.04)
