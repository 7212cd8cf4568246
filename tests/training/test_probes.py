"""Probes: images drawn as a target's, training by `Trainer`, gradients by the chain rule, arrivals."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, strategies
from small_nets import same_bits

from convtl.config.parsing import parse
from convtl.data.domains import Domain, load_domain
from convtl.measure.representation import linear_cka
from convtl.models.lenet import PlainConfig
from convtl.storage.cache import default_root
from convtl.training.probe_nets import ProbeImages, Replicates, draw_images
from convtl.training.probes import (
    accuracy,
    arrival,
    cka,
    gradient_profile,
    gradients,
    grams,
    relative_gradient,
)

CLASSES = 3


def images(replicates: int = 2, seed: int = 0) -> ProbeImages:
    """Images of 4x4 pixels whose class shows in their mean."""
    rng = np.random.default_rng(seed)

    def split(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, CLASSES, (replicates, n)).astype(np.int32)
        pixels = rng.normal(size=(replicates, n, 4, 4, 1)) + 2.0 * labels[..., None, None, None] - 2
        return pixels.astype(np.float32), labels

    splits = {"train": split(24), "validation": split(12), "test": split(20)}
    return ProbeImages(seed, replicates, CLASSES, splits)


def nets(given: ProbeImages | None = None, rate: float = 0.05, **changes: Any) -> Replicates:
    config = PlainConfig(**({"hidden": 3, "width": 8, "activation": "tanh"} | changes))
    return Replicates(given or images(), config, "adam", rate)


def first_net(replicates: Replicates) -> tuple[Any, np.ndarray, np.ndarray]:
    """Variables, probe images and labels of the first replicate."""
    pixels, labels = (array[0] for array in replicates.images.splits["validation"])
    return jax.tree.map(lambda leaf: leaf[0], replicates.variables), pixels, labels


# --- training -----------------------------------------------------------------------------------------


def test_states_are_those_of_shorter_runs() -> None:
    own = nets()
    states = own.train([0, 3, 8])
    assert list(states) == [0, 3, 8]
    assert same_bits(states[0], own.variables)
    assert same_bits(states[3], own.train([3])[3])


def test_nets_learn_and_replicates_differ() -> None:
    own = nets(images(3))
    before, after = (
        own.measure(accuracy, variables, *own.images.splits["train"])
        for variables in own.train([0, 60]).values()
    )
    assert (after > before).all()
    assert not same_bits(
        *(jax.tree.map(lambda leaf, at=at: leaf[at], own.variables) for at in (0, 1))
    )


def test_a_unit_is_frozen_from_an_update_on() -> None:
    own = nets()
    halfway = own.train([4])[4]
    end = own.train([8], frozen="fc2", since=4)[8]
    for unit in own.network.weighted:
        assert same_bits(halfway[unit], end[unit]) == (unit == "fc2")


@pytest.mark.parametrize(
    "initialiser", ["normal_0.01", "lecun_normal", "glorot_uniform", "he_normal"]
)
def test_no_head_is_zero_and_no_two_replicates_are_the_same(initialiser: str) -> None:
    for unit in nets(images(3), initialiser=initialiser).variables.values():
        kernel = unit["params"]["dense"]["kernel"].reshape(3, -1)
        assert (kernel.std(axis=1) > 1e-3).all()
        assert not np.allclose(kernel[0], kernel[1])


@pytest.mark.parametrize(
    "replicates",
    [pytest.param(1, marks=pytest.mark.slow), 2, 3, pytest.param(4, marks=pytest.mark.slow)],
)
def test_any_number_of_replicates_is_spread_over_the_devices(replicates: int) -> None:
    x = np.arange(replicates * 3, dtype=np.float32).reshape(replicates, 3)
    own = nets(images(replicates))
    np.testing.assert_array_equal(own.measure(_doubled, x), 2 * x)


def _doubled(network: Any, x: jax.Array) -> jax.Array:
    return 2 * x


# --- images -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def letters() -> Domain:
    settings = parse(tiny.content())
    return load_domain("cyrillic", settings.domains["cyrillic"], default_root())


def test_images_are_drawn_as_a_targets_are(letters: Domain) -> None:
    drawn = draw_images(letters, 0, 4, replicates=2)
    for name, count in letters.counts.items():  # fewer than are asked for
        pixels, labels = drawn.splits[name]
        assert pixels.shape == (2, 4 * count, 16, 16, 1)
        assert all(len(set(np.bincount(one, minlength=4))) == 1 for one in labels)
        np.testing.assert_allclose(pixels.mean(axis=(2, 3, 4)), 0, atol=1e-5)
    train = drawn.splits["train"]
    np.testing.assert_array_equal(train[1][0, :4], [0, 1, 2, 3])
    again = draw_images(letters, 0, 4, replicates=1)
    np.testing.assert_array_equal(train[0][:1], again.splits["train"][0])


# --- gradients ----------------------------------------------------------------------------------------


def test_gradients_of_outputs_follow_the_chain_rule() -> None:
    own = nets(hidden=2)
    variables, pixels, labels = first_net(own)
    by_output = gradient_profile(own.network, variables, pixels, labels)
    logits, _, taps = own.network.apply(variables, pixels, taps=("fc2",))
    at_logits = jax.nn.softmax(logits) - jax.nn.one_hot(labels, CLASSES)
    kernel = {unit: variables[unit]["params"]["dense"]["kernel"] for unit in own.network.names}
    at_second = at_logits @ kernel["out"].T
    at_first = (at_second * (1 - taps["fc2"] ** 2)) @ kernel["fc2"].T  # tanh' = 1 - tanh^2
    for unit, expected in {"out": at_logits, "fc2": at_second, "fc1": at_first}.items():
        norms = np.log10(np.linalg.norm(expected, axis=1))
        np.testing.assert_allclose(by_output[unit], norms, rtol=1e-4, atol=1e-4)


def test_the_smallest_gradients_are_not_flushed_to_zero() -> None:
    """A chain of 20 sigmoids from N(0, 0.01) loses over 30 decades: more than float32's squares have."""
    own = nets(hidden=20, activation="sigmoid", initialiser="normal_0.01")
    rows = {
        (unit, quantity): values for _, unit, quantity, values in gradients(own, 0, own.variables)
    }
    profile = np.stack([rows[unit, "relative_gradient"] for unit in own.network.names[:-1]])
    assert np.isfinite(profile).all()
    assert (profile[0] < -30).all()
    assert (np.diff(profile, axis=0) > 1).all()
    np.testing.assert_array_equal(profile[-1], 0)


def test_a_head_of_zeros_would_make_every_gradient_below_it_zero() -> None:
    own = nets()
    variables, pixels, labels = first_net(own)
    variables["out"] = jax.tree.map(jnp.zeros_like, variables["out"])
    by_output = gradient_profile(own.network, variables, pixels, labels)
    assert all(np.isneginf(np.asarray(by_output[unit])).all() for unit in own.network.names[:-1])


def test_the_head_has_no_relative_gradient() -> None:
    own = nets()
    units = [unit for _, unit, _, _ in gradients(own, 0, own.variables)]
    assert units == ["fc1", "fc2", "fc3"]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ([-1.0, -2.0, -3.0], [0.0, 0.0, 0.0], -2.0),
        ([-1.0, -np.inf, -3.0], [0.0, 0.0, 0.0], -3.0),  # one image passes nothing on
        ([-1.0, -np.inf, -np.inf], [0.0, 0.0, 0.0], np.nan),  # most do not: R is not defined
        ([-np.inf, -2.0, -2.0], [-np.inf, 0.0, 0.0], np.nan),  # no gradient in either place
        ([np.nan, -2.0, -2.0], [0.0, 0.0, 0.0], np.nan),  # diverged
    ],
)
def test_relative_gradients_are_medians_over_images(
    first: list[float], last: list[float], expected: float
) -> None:
    np.testing.assert_equal(relative_gradient(np.array([first]), np.array([last])), [expected])


# --- convergence --------------------------------------------------------------------------------------


def test_alignments_are_linear_cka() -> None:
    own, others = nets(), nets(images(seed=1))
    pixels = own.images.splits["validation"][0]
    similar = [own.measure(grams, one.variables, pixels) for one in (own, others)]
    tapped = jax.jit(
        jax.vmap(lambda net, x: own.network.apply(net, x, taps=own.network.weighted)[2])
    )
    first, last = (jax.tree.map(np.asarray, tapped(one.variables, pixels)) for one in (own, others))
    for unit in own.network.weighted:
        aligned = cka([products[unit] for products in similar])
        for replicate in range(own.images.replicates):
            expected = linear_cka(first[unit][replicate], last[unit][replicate])
            assert aligned[:, replicate] == pytest.approx([expected, 1], abs=1e-5)


def test_a_unit_with_one_output_for_every_image_has_nothing_in_common() -> None:
    own = nets(activation="relu")
    silent = dict(own.variables)
    silent["fc2"] = jax.tree.map(lambda leaf: np.zeros_like(leaf) - 1, silent["fc2"])
    pixels = own.images.splits["validation"][0]
    start, end = (own.measure(grams, variables, pixels) for variables in (own.variables, silent))
    assert np.isfinite(end["fc2"]).all()
    assert np.isnan(arrival([0, 9], cka([start["out"], end["out"]])[:, 0]))


@pytest.mark.parametrize(
    ("alignment", "expected"),
    [
        ([0.0, 0.5, 0.9, 1.0], 20),
        ([0.0, 0.0, 0.8, 1.0], 25),  # halfway between .8 and 1.0
        ([0.0, 0.95, 0.8, 1.0], 10 * 0.9 / 0.95),  # the first time counts
        ([0.0, 0.0, 0.0, 1.0], 29),
        ([0.96, 0.97, 0.98, 1.0], np.nan),  # it did not move: censored, not early
        ([0.0, np.nan, 0.5, 1.0], np.nan),  # it has diverged
        ([0.0, 0.0, 0.0, 0.0], np.nan),  # it ended with the same for every image
    ],
)
def test_arrivals(alignment: list[float], expected: float) -> None:
    update = arrival([0, 10, 20, 30], np.array(alignment))
    assert update == pytest.approx(expected, nan_ok=True)


@given(strategies.lists(strategies.floats(-0.5, 1), min_size=1, max_size=8))
def test_a_unit_arrives_between_the_beginning_and_the_end(between: list[float]) -> None:
    updates = list(range(len(between) + 2))
    assert 0 < arrival(updates, np.array([0.2, *between, 1.0])) <= updates[-1]
