import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convtl.errors import UserError
from convtl.models.lenet import ACTIVATIONS, INITIALISERS, LeNet5Config
from convtl.models.network import Network, multiply_adds, weight_count
from convtl.models.registry import build_network

PLAIN = LeNet5Config()
UNITS = ("conv1", "pool1", "conv2", "pool2", "fc3", "fc4", "fc5")


def _images(shape: tuple[int, ...], count: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def _weights(network: Network) -> list[int]:
    return [weight_count(network.abstract_variables[unit]) for unit in network.names]


def test_is_the_net_of_the_lecture() -> None:
    network = build_network(PLAIN, (28, 28, 1), 10)
    assert network.names == UNITS
    assert network.weighted == ("conv1", "conv2", "fc3", "fc4", "fc5")
    assert network.head == "fc5"
    assert _weights(network) == [156, 0, 2_416, 0, 48_120, 10_164, 850]
    assert sum(_weights(network)) == 61_706
    shapes = [(28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16), (120,), (84,), (10,)]
    assert list(network.output_shapes) == shapes
    assert list(multiply_adds(network).values()) == [117_600, 0, 240_000, 0, 48_000, 10_080, 840]


@pytest.mark.parametrize(
    ("shape", "classes", "flat"),
    [
        ((12, 12, 1), 2, 16),
        ((13, 13, 1), 12, 16),
        ((32, 32, 3), 100, 16 * 36),
        ((28, 40, 2), 7, 16 * 5 * 8),
    ],
)
def test_shapes_are_derived(shape: tuple[int, ...], classes: int, flat: int) -> None:
    network = PLAIN.build(shape, classes)
    assert int(np.prod(network.output_shapes[3])) == flat
    convolutions = [25 * shape[2] * 6 + 6, 0, 2_416, 0]
    assert _weights(network) == [*convolutions, flat * 120 + 120, 10_164, 85 * classes]
    assert network.output_shapes[-1] == (classes,)


@pytest.mark.parametrize("shape", [(11, 28, 1), (28, 11, 1), (28, 28), (28, 28, 1, 1), ()])
def test_images_that_it_cannot_take_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="12x12") as error:
        build_network(LeNet5Config(), shape, 10)
    assert str(shape) in str(error.value)
    assert "\n" not in str(error.value)


def test_padding_of_2_on_28_is_no_padding_on_32() -> None:
    """The paper's 32x32 images are the lecture's 28x28 ones with a margin."""
    images = _images((28, 28, 1))
    framed = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    conv = PLAIN.build((28, 28, 1), 10).units[0][1]
    variables = conv.init(jax.random.key(1), images, train=False)
    unpadded = dataclasses.replace(conv, padding=0).apply(variables, framed, train=False)
    assert unpadded.shape == (3, 28, 28, 6)
    np.testing.assert_array_equal(unpadded, conv.apply(variables, images, train=False))


def _drawn(network: Network) -> Any:
    """Weights of moderate size, and biases that are not 0."""
    rng = np.random.default_rng(2)
    return jax.tree.map(
        lambda leaf: (rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]) + 1)).astype(
            np.float32
        ),
        network.abstract_variables,
    )


def _plain_lenet(variables: Any, x: np.ndarray, activation: Any, pool: Any) -> np.ndarray:
    """LeNet-5 by the sums of its definition, in float64."""
    x = np.pad(x.astype(np.float64), ((0, 0), (2, 2), (2, 2), (0, 0)))
    for unit in ("conv1", "conv2"):
        weights = {
            name: np.asarray(leaf, np.float64)
            for name, leaf in variables[unit]["params"]["conv"].items()
        }
        windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), (1, 2))
        x = activation(np.einsum("nhwcyx,yxco->nhwo", windows, weights["kernel"]) + weights["bias"])
        x = pool(
            np.stack([x[:, i::2, j::2] for i, j in itertools.product((0, 1), repeat=2)]), axis=0
        )
    x = x.reshape(len(x), -1)
    for unit in ("fc3", "fc4", "fc5"):
        weights = variables[unit]["params"]["dense"]
        x = x @ np.asarray(weights["kernel"], np.float64) + np.asarray(weights["bias"], np.float64)
        x = x if unit == "fc5" else activation(x)
    return x


@pytest.mark.parametrize(
    ("activation", "pooling", "by_hand", "pool"),
    [
        ("tanh", "average", np.tanh, np.mean),
        ("relu", "max", lambda x: np.maximum(x, 0), np.max),
        ("sigmoid", "average", lambda x: 1 / (1 + np.exp(-x)), np.mean),
    ],
)
def test_computes_what_its_definition_says(
    activation: Any, pooling: Any, by_hand: Any, pool: Any
) -> None:
    network = LeNet5Config(activation=activation, pooling=pooling).build((28, 28, 1), 10)
    variables = _drawn(network)
    images = _images((28, 28, 1))
    found = jax.jit(network.apply)(variables, images)[0]
    np.testing.assert_allclose(
        found, _plain_lenet(variables, images, by_hand, pool), rtol=1e-4, atol=1e-5
    )


def test_tanh_and_average_pooling_are_the_default() -> None:
    assert (LeNet5Config().activation, LeNet5Config().pooling) == ("tanh", "average")
    assert set(ACTIVATIONS) == {"tanh", "relu", "sigmoid"}


@pytest.mark.parametrize(
    ("initialiser", "variance"),
    [
        ("lecun_normal", 1 / 400),
        ("glorot_uniform", 2 / (400 + 120)),
        ("he_normal", 2 / 400),
        ("normal_0.01", 1e-4),
    ],
)
def test_initialisers(initialiser: Any, variance: float) -> None:
    fc3 = LeNet5Config(initialiser=initialiser).build((28, 28, 1), 10).units[4][1]
    drawn = jax.jit(lambda key: fc3.init(key, jnp.zeros((1, 5, 5, 16)), train=False))(
        jax.random.key(3)
    )
    dense = drawn["params"]["dense"]
    assert float(jnp.var(dense["kernel"])) == pytest.approx(variance, rel=0.05)  # of 48,000 draws
    assert not np.any(dense["bias"])
    assert initialiser in INITIALISERS
