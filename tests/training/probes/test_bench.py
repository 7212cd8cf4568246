"""Replicates side by side: any stretches, frozen units, the optimiser's memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from probe_nets import chain, materials

from convtl.config.parsing import parse
from convtl.config.training import OptimConfig
from convtl.data.domains import load_domain
from convtl.errors import UserError
from convtl.storage.cache import default_root
from convtl.training.probes.bench import (
    Bench,
    accuracies,
    draw_materials,
    fresh,
    over_replicates,
    spread,
)
from convtl.training.step import Batch, Step
from convtl.transfer.plan import Phase


def bench(kind="adam", frozen=(), longest=8, given=None):
    return Bench(
        chain(),
        given or materials(),
        OptimConfig(kind=kind),
        rate=0.05,
        batch_size=4,
        longest=longest,
        frozen=frozen,
    )


def same_bits(one, other):
    return all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def test_stretches_of_any_length_come_to_the_same():
    own = bench()
    start = own.start(fresh(own.network, own.materials))
    at_once = own.advance(start, 8)
    in_parts = own.advance(own.advance(own.advance(start, 1), 1), 8)
    assert same_bits(at_once.variables, in_parts.variables)
    assert at_once.update == in_parts.update == 8


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_an_update_is_that_of_training(kind):
    own = bench(kind)
    variables = fresh(own.network, own.materials)
    found = own.advance(own.start(variables), 1).variables
    phase = Phase(0, 1, tuple((unit, 1.0) for unit in own.network.weighted))
    images, labels, order = (np.asarray(array)[1] for array in own._data)
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf[1]), variables)
    step = Step(own.network, 0, phase, OptimConfig(kind=kind))
    batch = Batch(images[order[0]], labels[order[0]])
    expected, _, _ = step(one, step.init(one), jnp.float32(0.05), batch)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(a)[1], b, rtol=1e-4, atol=1e-6)


def test_nets_learn():
    own = bench(longest=60)
    start = own.start(fresh(own.network, own.materials))
    _, before = accuracies(own.network, start.variables, *own.materials.train)
    right, after = accuracies(own.network, own.advance(start, 60).variables, *own.materials.train)
    assert (after < before / 2).all()
    assert right.mean() > 0.8


def test_a_frozen_unit_keeps_its_bits_and_the_others_move():
    own = bench(frozen=("fc2",))
    start = own.start(fresh(own.network, own.materials))
    end = own.advance(start, 8)
    for unit in own.network.weighted:
        assert same_bits(start.variables[unit], end.variables[unit]) == (unit == "fc2")


def test_units_that_stay_keep_the_memory_of_the_optimiser():
    whole, frozen = bench(), bench(frozen=("fc1",))
    half = whole.advance(whole.start(fresh(whole.network, whole.materials)), 4)
    taken = frozen.go_on_from(half)
    assert taken.update == 4
    assert same_bits(taken.memory.inner_states["fc3"], half.memory.inner_states["fc3"])
    assert "fc1" not in taken.memory.inner_states
    assert not same_bits(frozen.start(half.variables).memory, taken.memory)


@pytest.mark.parametrize(
    "initialiser", ["normal_0.01", "lecun_normal", "glorot_uniform", "he_normal"]
)
def test_no_head_is_zero_and_no_two_replicates_are_the_same(initialiser):
    drawn = fresh(chain(initialiser=initialiser), materials(3))
    for unit in drawn.values():
        kernel = np.asarray(unit["params"]["dense"]["kernel"])
        assert (kernel.reshape(3, -1).std(axis=1) > 1e-3).all()
        assert not np.allclose(kernel[0], kernel[1])


@pytest.mark.parametrize("replicates", [1, 2, 3, 4])
def test_any_number_of_replicates_is_spread_over_the_devices(replicates):
    x = np.arange(replicates * 3, dtype=np.float32).reshape(replicates, 3)
    program = over_replicates(_scaled, 2.0, shared=1)
    np.testing.assert_array_equal(program(np.float32(3), spread(x)), 6 * x)
    assert over_replicates(_scaled, 2.0, shared=1) is program


def _scaled(factor, shared, x):
    return factor * shared * x


# --- images -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def letters():
    settings = parse(tiny.content())
    return load_domain("cyrillic", settings.domains["cyrillic"], default_root())


def test_images_are_drawn_as_a_targets_are(letters):
    found = draw_materials(letters, seed=0, replicates=2, classes=4, counts=(3, 2, 5))
    assert found.train[0].shape == (2, 12, 16, 16, 1)
    assert found.probe[0].shape[1] == 8
    assert found.test[0].shape[1] == 20
    for images, labels in (found.train, found.probe, found.test):
        assert all(np.bincount(own, minlength=4).min() == np.bincount(own).max() for own in labels)
        np.testing.assert_allclose(images.mean(axis=(2, 3, 4)), 0, atol=1e-5)
    np.testing.assert_array_equal(found.train[1][0, :4], [0, 1, 2, 3])
    again = draw_materials(letters, seed=0, replicates=1, classes=4, counts=(3, 2, 5))
    np.testing.assert_array_equal(found.train[0][:1], again.train[0])


def test_too_few_images_are_refused(letters):
    with pytest.raises(UserError, match=r"gradients.probe_per_class: .*999.*4, the validation"):
        draw_materials(letters, seed=0, replicates=1, classes=4, counts=(3, 999, 5))
    with pytest.raises(UserError, match=r"gradients.images_per_class: .*999.*16"):
        draw_materials(letters, seed=0, replicates=1, classes=4, counts=(999, 2, 5))
