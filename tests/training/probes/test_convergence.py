"""Likeness of representations and times of arrival."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies
from probe_nets import chain, materials

from convtl.measure.representation import linear_cka
from convtl.training.probes.bench import fresh
from convtl.training.probes.convergence import alignments, arrival, grams

RULE = {"arrived": 0.9, "moved": 0.05}


def test_alignments_are_linear_cka():
    network, own = chain(), materials()
    nets = [fresh(network, own), fresh(network, materials(seed=1))]
    found = alignments([grams(network, net, own) for net in nets])
    tapped = jax.jit(jax.vmap(lambda net, x: network.apply(net, x, taps=network.weighted)[2]))
    first, last = (jax.tree.map(np.asarray, tapped(net, own.probe[0])) for net in nets)
    for unit in network.weighted:
        for replicate in range(own.replicates):
            expected = linear_cka(first[unit][replicate], last[unit][replicate])
            assert found[unit][0, replicate] == pytest.approx(expected, abs=1e-5)
            assert found[unit][1, replicate] == pytest.approx(1, abs=1e-5)


def test_a_unit_that_says_the_same_of_every_image_has_nothing_in_common():
    network, own = chain(activation="relu"), materials()
    drawn = fresh(network, own)
    silent = drawn | {"fc2": jax.tree.map(lambda leaf: jnp.zeros_like(leaf) - 1, drawn["fc2"])}
    found = grams(network, silent, own)
    assert np.isfinite(found["fc2"]).all()
    ends = alignments([grams(network, drawn, own), found])["out"]
    assert np.isnan(arrival([0, 9], ends[:, 0], **RULE).update)


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
def test_arrivals(alignment, expected):
    found = arrival([0, 10, 20, 30], np.array(alignment), **RULE)
    assert found.update == pytest.approx(expected, nan_ok=True)


@given(strategies.lists(strategies.floats(-0.5, 1), min_size=1, max_size=8))
def test_a_unit_arrives_between_the_beginning_and_the_end(between):
    updates = list(range(len(between) + 2))
    found = arrival(updates, np.array([0.2, *between, 1.0]), **RULE)
    assert 0 < found.update <= updates[-1]
    assert found.moved == pytest.approx(0.8)
