from collections.abc import Collection
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from convtl.models.network import Network, Variables, weight_count


class Block(nn.Module):
    """A dense layer with batch normalisation and dropout: all that makes training differ from inference."""

    features: int
    rate: float = 0.5

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.Dense(self.features)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dropout(self.rate, deterministic=not train)(nn.relu(x))


class Flatten(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return x.reshape(x.shape[0], -1)


class Head(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.Dense(self.features)(x)


UNITS = (("flat", Flatten()), ("low", Block(6)), ("high", Block(5)), ("head", Head(3)))
NETWORK = Network(UNITS, (2, 2, 1))


@pytest.fixture(scope="module")
def variables() -> Variables:
    """With running statistics that are not those of a fresh net."""
    drawn = NETWORK.init(jax.random.key(0))
    return jax.tree.map(lambda leaf: leaf + 0.1, drawn)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(8, 2, 2, 1)).astype(np.float32)


def _equal(one: Any, other: Any) -> bool:
    same = jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), one, other)
    return all(jax.tree.leaves(same))


def test_what_a_network_knows_of_itself() -> None:
    assert NETWORK.names == ("flat", "low", "high", "head")
    assert NETWORK.weighted == ("low", "high", "head")
    assert NETWORK.output_shapes == ((4,), (6,), (5,), (3,))
    assert [NETWORK.shape_before(index) for index in range(4)] == [(2, 2, 1), (4,), (6,), (5,)]
    weights = {unit: weight_count(own) for unit, own in NETWORK.abstract_variables.items()}
    # Running means and variances are not weights.
    assert weights == {"flat": 0, "low": 4 * 6 + 3 * 6, "high": 6 * 5 + 3 * 5, "head": 5 * 3 + 3}
    with pytest.raises(ValueError, match="not in"):
        NETWORK.index("hig")


def test_equal_networks_are_one_key() -> None:
    again = Network(
        (("flat", Flatten()), ("low", Block(6)), ("high", Block(5)), ("head", Head(3))), (2, 2, 1)
    )
    assert (again, hash(again)) == (NETWORK, hash(NETWORK))
    assert Network(UNITS, (2, 2, 2)) != NETWORK


def test_names_that_repeat_are_refused() -> None:
    with pytest.raises(ValueError, match="repeat"):
        Network((("a", Flatten()), ("a", Head(2))), (2, 2, 1))


@pytest.mark.parametrize(
    "trained", [(), ("high",), ("head",), ("high", "head"), ("low", "high", "head")]
)
def test_only_trained_units_run_in_training_mode(
    trained: Collection[str], variables: Variables, images: np.ndarray
) -> None:
    _, updated, _ = NETWORK.apply(variables, images, train=trained, rngs=jax.random.key(1))
    assert updated.keys() == variables.keys()
    for unit in NETWORK.names:
        normalised = unit in ("low", "high")
        assert _equal(updated[unit], variables[unit]) != (normalised and unit in trained), unit
        assert _equal(updated[unit].get("params"), variables[unit].get("params"))


def test_a_unit_below_the_trained_ones_computes_what_it_does_alone(
    variables: Variables, images: np.ndarray
) -> None:
    """Neither batch statistics nor dropout of its own, whatever is trained above it."""
    _, _, alone = NETWORK.apply(variables, images, taps=("low",))
    _, _, below = NETWORK.apply(
        variables, images, train=("high", "head"), rngs=jax.random.key(1), taps=("low", "high")
    )
    assert _equal(alone["low"], below["low"])
    dense = variables["low"]["params"]["Dense_0"]
    by_hand = np.asarray(nn.Dense(6).apply({"params": dense}, images.reshape(8, 4)))
    mean, var = jax.tree.map(
        np.asarray,
        [variables["low"]["batch_stats"]["BatchNorm_0"][name] for name in ("mean", "var")],
    )
    norm = jax.tree.map(np.asarray, variables["low"]["params"]["BatchNorm_0"])
    expected = (by_hand - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"]
    np.testing.assert_allclose(below["low"], np.maximum(expected, 0), rtol=1e-4, atol=1e-5)


def test_trained_statistics_move_towards_the_batch(
    variables: Variables, images: np.ndarray
) -> None:
    _, updated, _ = NETWORK.apply(variables, images, train=("low",), rngs=jax.random.key(1))
    entered = nn.Dense(6).apply(
        {"params": variables["low"]["params"]["Dense_0"]}, images.reshape(8, 4)
    )
    before = variables["low"]["batch_stats"]["BatchNorm_0"]["mean"]
    after = updated["low"]["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(after, 0.9 * before + 0.1 * entered.mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("trained", [(), ("high", "head")])
def test_slices_compose(
    cut: int, trained: Collection[str], variables: Variables, images: np.ndarray
) -> None:
    """Also with dropout: a unit's key depends on its place, not on the slice."""
    given: dict[str, Any] = {"train": trained, "rngs": jax.random.key(2), "taps": ("low", "head")}
    whole, updated, tapped = NETWORK.apply(variables, images, **given)
    below = {name: variables[name] for name in NETWORK.names[:cut]}
    above = {name: variables[name] for name in NETWORK.names[cut:]}
    middle, first, taps = NETWORK.apply(below, images, stop=cut, **given)
    end, second, others = NETWORK.apply(above, middle, start=cut, **given)
    assert _equal(end, whole)
    assert _equal(first | second, updated)
    assert _equal(taps | others, tapped)


def test_taps_are_outputs(variables: Variables, images: np.ndarray) -> None:
    y, _, tapped = NETWORK.apply(variables, images, taps=NETWORK.names)
    assert tuple(value.shape[1:] for value in tapped.values()) == NETWORK.output_shapes
    assert _equal(tapped["head"], y)
    assert NETWORK.apply(variables, images)[2] == {}


@pytest.mark.parametrize("where", ["train", "taps"])
def test_names_of_no_unit_are_refused(where: str, variables: Variables, images: np.ndarray) -> None:
    """A slip would otherwise run the unit in inference mode without a word."""
    given: Any = {where: ("high", "heads")}
    with pytest.raises(ValueError, match=r"no such units: \['heads'\]"):
        NETWORK.apply(variables, images, **given)


def test_dropout_is_drawn_by_key_and_unit(variables: Variables, images: np.ndarray) -> None:
    def dropped(key: int, trained: Collection[str]) -> np.ndarray:
        taps = NETWORK.apply(
            variables, images, train=trained, rngs=jax.random.key(key), taps=("high",)
        )[2]
        return np.asarray(taps["high"])

    assert _equal(dropped(1, ("high",)), dropped(1, ("high",)))
    assert not _equal(dropped(1, ("high",)), dropped(2, ("high",)))
    assert np.sum(dropped(1, ("high",)) == 0) > np.sum(dropped(1, ()) == 0)


def test_units_draw_independently() -> None:
    """What one unit is leaves the others' fresh weights as they are."""
    drawn = NETWORK.init(jax.random.key(7))
    units = [(name, Block(5, rate=0.1) if name == "high" else module) for name, module in UNITS]
    units[-1] = ("other", Head(9))
    changed = Network(tuple(units), (2, 2, 1)).init(jax.random.key(7))
    assert _equal(changed["low"], drawn["low"])
    assert _equal(changed["high"], drawn["high"])
    assert not _equal(NETWORK.init(jax.random.key(8))["low"], drawn["low"])
    alike = Network((("flat", Flatten()), ("a", Block(4)), ("b", Block(4))), (2, 2, 1))
    a, b = (
        alike.init(jax.random.key(7))[unit]["params"]["Dense_0"]["kernel"] for unit in ("a", "b")
    )
    assert not _equal(a, b)


def test_shapes_cost_no_computation() -> None:
    assert all(
        isinstance(leaf, jax.ShapeDtypeStruct)
        for leaf in jax.tree.leaves(NETWORK.abstract_variables)
    )


@pytest.mark.parametrize(
    ("train", "held", "mixes"),
    [
        ((), False, False),
        (("head",), False, False),
        (("high", "head"), False, True),  # by statistics and by dropout
        (("high", "head"), True, True),  # by dropout
        (("still", "head"), False, True),  # by statistics
        (("still", "head"), True, False),
    ],
)
def test_a_batch_is_more_than_its_images_by_statistics_and_draws(
    train: Collection[str], held: bool, mixes: bool
) -> None:
    network = Network(
        (("flat", Flatten()), ("high", Block(5)), ("still", Block(5, 0.0)), UNITS[-1]), (2, 2, 1)
    )
    assert network.mixes_batch(train, held=held) == mixes
