"""The equal-width chain: units, sizes, initialisers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convtl.models.lenet import PlainConfig
from convtl.models.network import weight_count
from convtl.models.registry import build_network


@pytest.mark.parametrize("hidden", [1, 5, 20])
def test_every_hidden_unit_is_as_wide_as_the_others(hidden):
    network = build_network(PlainConfig(hidden=hidden, width=16), (8, 8, 1), 3)
    assert network.names == (*(f"fc{place}" for place in range(1, hidden + 1)), "out")
    assert network.weighted == network.names
    assert network.output_shapes == ((16,),) * hidden + ((3,),)
    counts = [weight_count(network.abstract_variables[name]) for name in network.names]
    assert counts == [65 * 16, *[17 * 16] * (hidden - 1), 17 * 3]


@pytest.mark.parametrize("name", ["lecun_normal", "glorot_uniform", "he_normal", "normal_0.01"])
def test_the_head_is_drawn_like_every_other_unit(name):
    network = build_network(PlainConfig(hidden=2, width=200, initialiser=name), (8, 8, 1), 200)
    variables = network.init(jax.random.key(0))
    spread = [
        float(jnp.std(variables[unit]["params"]["dense"]["kernel"])) for unit in ("fc2", "out")
    ]
    assert spread[0] == pytest.approx(spread[1], rel=0.05)
    assert spread[0] > 0


@pytest.mark.parametrize(("activation", "low"), [("sigmoid", 0), ("tanh", -1), ("relu", 0)])
def test_activations(activation, low):
    network = build_network(PlainConfig(hidden=3, activation=activation), (8, 8, 1), 3)
    x = np.random.default_rng(0).normal(size=(20, 8, 8, 1)).astype(np.float32)
    _, _, taps = network.apply(network.init(jax.random.key(0)), x, taps=("fc3",))
    assert float(taps["fc3"].min()) >= low
