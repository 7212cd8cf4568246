"""Statistics taken anew from a target's images, against NumPy."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from small_nets import CHAIN, CLASSES, LENET, Head, drawn, same_bits

from convtl.models.network import Network
from convtl.training import adapt
from convtl.training.adapt import adapt_statistics


class Twice(nn.Module):
    """A unit with two convolutions, a normalisation after each, and a shortcut with a third."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = lambda name: nn.BatchNorm(use_running_average=not train, name=name)  # noqa: E731
        y = nn.relu(norm("norm1")(nn.Conv(self.features, (3, 3), name="conv1")(x)))
        y = norm("norm2")(nn.Conv(self.features, (3, 3), name="conv2")(y))
        return nn.relu(y + norm("down_norm")(nn.Conv(self.features, (1, 1), name="down_conv")(x)))


class Mean(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return x.mean((1, 2))


DEEP = Network(
    (("a", Twice(3)), ("b", Twice(4)), ("gap", Mean()), ("head", Head(CLASSES))), (6, 6, 2)
)


def inputs(network: Network, count: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (3 + 2 * rng.normal(size=(count, *network.input_shape))).astype(np.float32)


@pytest.mark.parametrize("count", [20, 300])
def test_each_unit_sees_adapted_inputs(count: int) -> None:
    """More images than go through at once are no matter."""
    variables, images = drawn(CHAIN, 0), inputs(CHAIN, count)
    adapted = adapt_statistics(CHAIN, 0, {"a", "b", "head"}, variables, images)
    x = images.reshape(count, -1).astype(np.float64)
    for unit in ("a", "b"):
        own = variables[unit]["params"]
        x = x @ own["Dense_0"]["kernel"] + own["Dense_0"]["bias"]
        mean, var = x.mean(0), x.var(0)
        found = adapted[unit]["batch_stats"]["BatchNorm_0"]
        np.testing.assert_allclose(found["mean"], mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found["var"], var, rtol=1e-4)
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}
        scale, bias = (own["BatchNorm_0"][name] for name in ("scale", "bias"))
        x = np.tanh((x - mean) / np.sqrt(var + 1e-5) * scale + bias)
    for unit in CHAIN.names:
        assert same_bits(adapted[unit]["params"], variables[unit]["params"])


@pytest.mark.parametrize("kept", [0, 2**29])
def test_within_a_unit_too(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All images in training mode give, normalisation by normalisation, what the adapted net gives."""
    monkeypatch.setattr(adapt, "_MAX_BYTES", kept)
    variables, images = drawn(DEEP, 0), inputs(DEEP, 37)
    adapted = adapt_statistics(DEEP, 0, {"a", "b"}, variables, images)
    expected = DEEP.apply(variables, images, train=DEEP.names)[0]
    np.testing.assert_allclose(DEEP.apply(adapted, images)[0], expected, rtol=1e-3, atol=1e-4)
    assert not np.allclose(DEEP.apply(variables, images)[0], expected, rtol=0.1)


def test_what_is_kept_on_the_way_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    variables, images = drawn(DEEP, 0), inputs(DEEP, 300)
    kept = adapt_statistics(DEEP, 0, {"a", "b"}, variables, images)
    monkeypatch.setattr(adapt, "_MAX_BYTES", 0)
    assert same_bits(adapt_statistics(DEEP, 0, {"a", "b"}, variables, images), kept)


def test_units_that_are_not_trained_keep_their_statistics() -> None:
    variables, images = drawn(DEEP, 0), inputs(DEEP, 20)
    adapted = adapt_statistics(DEEP, 0, {"b", "head"}, variables, images)
    assert same_bits(adapted["a"], variables["a"])
    assert not same_bits(adapted["b"], variables["b"])
    between = adapt_statistics(DEEP, 0, {"a"}, variables, images)
    assert same_bits(between["b"], variables["b"])


def test_features_are_as_good_as_images() -> None:
    variables, images = drawn(DEEP, 0), inputs(DEEP, 20)
    above = {name: variables[name] for name in DEEP.names[1:]}
    features = np.asarray(DEEP.apply(variables, images, stop=1)[0])
    found = adapt_statistics(DEEP, 1, {"b"}, above, features)
    assert set(found) == set(above)
    whole = adapt_statistics(DEEP, 0, {"b"}, variables, images)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found["b"], whole["b"]
    )


def test_a_net_without_statistics_is_left_alone() -> None:
    variables = drawn(LENET, 0)
    assert same_bits(
        adapt_statistics(LENET, 0, set(LENET.names), variables, inputs(LENET, 3)), variables
    )


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        adapt_statistics(CHAIN, 0, {"a"}, drawn(CHAIN, 0), inputs(CHAIN, 0))
