"""AlexNet, VGG and residual networks: the published nets, as chains of units that train and stay frozen."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convtl.config.models import ModelConfig
from convtl.config.training import OptimConfig, RegimeConfig
from convtl.errors import UserError
from convtl.models.classic import AlexNetConfig, VggConfig
from convtl.models.lowering import plain_forms
from convtl.models.network import Network, Variables, multiply_adds, weight_count
from convtl.models.registry import build_network
from convtl.models.resnet import CifarResNetConfig, ResNetConfig
from convtl.training.runs import Recipe
from convtl.training.step import Batch, Step
from convtl.transfer.plan import make_plan, resolve_depth

SLOW = pytest.mark.slow
PUBLISHED: list[Any] = [
    (AlexNetConfig(), 61_100_840, 0.714),
    (VggConfig(layers=11), 132_863_336, 7.61),
    pytest.param(VggConfig(layers=16), 138_357_544, 15.47, marks=SLOW),
    (VggConfig(layers=11, norm="batch"), 132_868_840, 7.61),
    pytest.param(VggConfig(layers=16, norm="batch"), 138_365_992, 15.47, marks=SLOW),
    (ResNetConfig(layers=18), 11_689_512, 1.814),
    pytest.param(ResNetConfig(layers=34), 21_797_672, 3.664, marks=SLOW),
    (ResNetConfig(layers=50), 25_557_032, 4.089),
    pytest.param(ResNetConfig(layers=50, norm="group"), 25_557_032, 4.089, marks=SLOW),
    (CifarResNetConfig(layers=20), 269_722, 0.04055),
    pytest.param(CifarResNetConfig(layers=56), 853_018, 0.1255, marks=SLOW),
]
SMALL: dict[str, tuple[ModelConfig, int]] = {
    "alexnet": (AlexNetConfig(width=4), 67),
    "vgg11_bn": (VggConfig(layers=11, norm="batch", width=4), 32),
    "resnet18": (ResNetConfig(layers=18, width=8), 32),
    "resnet50_gn": (ResNetConfig(layers=50, norm="group", width=8), 32),
    "resnet20": (CifarResNetConfig(layers=20, width=4), 16),
}
"""Narrow nets, and a side of images."""


def _usual(config: ModelConfig) -> Network:
    return build_network(config, config.usual_images, config.usual_classes)


def _leaves(variables: Any, kind: str) -> int:
    return sum(
        leaf.size for own in variables.values() for leaf in jax.tree.leaves(own.get(kind, {}))
    )


@pytest.mark.parametrize(("config", "weights", "giga"), PUBLISHED)
def test_weights_and_multiply_adds_are_the_published_ones(
    config: ModelConfig, weights: int, giga: float
) -> None:
    network = _usual(config)
    assert sum(map(weight_count, network.abstract_variables.values())) == weights
    assert sum(multiply_adds(network).values()) / 1e9 == pytest.approx(giga, rel=1e-3)
    assert network.output_shapes[-1] == (config.usual_classes,)


def test_units_of_alexnet() -> None:
    network = _usual(AlexNetConfig())
    shapes = dict(zip(network.names, network.output_shapes, strict=True))
    assert shapes == {
        "conv1": (55, 55, 64),
        "pool1": (27, 27, 64),
        "conv2": (27, 27, 192),
        "pool2": (13, 13, 192),
        "conv3": (13, 13, 384),
        "conv4": (13, 13, 256),
        "conv5": (13, 13, 256),
        "pool5": (6, 6, 256),
        "fc6": (4096,),
        "fc7": (4096,),
        "fc8": (1000,),
    }
    assert network.weighted == ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


def test_units_of_vgg() -> None:
    network = _usual(VggConfig(layers=11))
    convolutions = [
        "conv1_1",
        "conv2_1",
        "conv3_1",
        "conv3_2",
        "conv4_1",
        "conv4_2",
        "conv5_1",
        "conv5_2",
    ]
    assert network.weighted == (*convolutions, "fc6", "fc7", "fc8")
    assert network.output_shapes[network.index("pool5")] == (7, 7, 512)
    assert len(_usual(VggConfig(layers=16)).weighted) == 16


@pytest.mark.parametrize(
    ("config", "blocks"),
    [
        (ResNetConfig(layers=18), (2, 2, 2, 2)),
        pytest.param(ResNetConfig(layers=34), (3, 4, 6, 3), marks=SLOW),
        (ResNetConfig(layers=50), (3, 4, 6, 3)),
        (CifarResNetConfig(layers=20), (3, 3, 3)),
        pytest.param(CifarResNetConfig(layers=56), (9, 9, 9), marks=SLOW),
    ],
)
def test_units_of_residual_networks(config: ModelConfig, blocks: tuple[int, ...]) -> None:
    network = _usual(config)
    chain = [f"stage{s}_block{b}" for s, count in enumerate(blocks, 1) for b in range(1, count + 1)]
    assert network.weighted == ("stem", *chain, "head")
    assert network.names[-2] == "gap"
    assert len(network.output_shapes[-2]) == 1
    for stage in range(1, len(blocks) + 1):
        assert resolve_depth(network, f"stage{stage}") == sum(blocks[stage - 1 :]) + 1
        assert resolve_depth(network, f"stage{stage}_block2") == sum(blocks[stage - 1 :])


def test_groups_have_no_statistics() -> None:
    assert not _leaves(_usual(ResNetConfig(norm="group")).abstract_variables, "batch_stats")


def test_a_stage_is_a_depth_and_other_words_are_refused_in_a_line() -> None:
    network = _usual(ResNetConfig())
    assert resolve_depth(network, "stage3") == 10
    assert resolve_depth(_usual(VggConfig(layers=16)), "conv5") == 6
    for depth in ("stage", "stage5", "stage3_", "stage3_block", "pool", 19):
        with pytest.raises(UserError) as error:
            resolve_depth(network, depth)
        assert str(error.value).startswith(
            f"depth: got {depth!r}; accepted: 1 to 18, all, or a stage of stage1, stage2, stage3, stage4, or a unit "
            "of stem, stage1_block1, "
        )
    with pytest.raises(UserError, match="Did you mean stage3"):
        resolve_depth(network, "stag3")


@pytest.mark.parametrize("name", ["alexnet", "vgg11_bn", "resnet18", "resnet20"])
def test_unit_names_do_not_depend_on_the_images(name: str) -> None:
    """A study is laid out by names before any image is there."""
    config, side = SMALL[name]
    assert (
        build_network(config, (64, 64, 1), 10).weighted
        == build_network(config, (side, side, 3), 7).weighted
    )


@pytest.mark.parametrize(
    ("config", "smallest"),
    [(AlexNetConfig(), 63), (VggConfig(), 32), (ResNetConfig(), 8), (CifarResNetConfig(), 8)],
)
def test_images_that_are_too_small_are_refused(config: ModelConfig, smallest: int) -> None:
    assert build_network(config, (smallest, smallest, 3), 10).output_shapes[-1] == (10,)
    for shape in ((smallest - 1, smallest, 3), (smallest, smallest)):
        with pytest.raises(
            UserError, match=f"model {config.kind}: .* at least {smallest}x{smallest}"
        ):
            build_network(config, shape, 10)


def test_equal_arguments_give_the_same_network() -> None:
    assert build_network(ResNetConfig(), (64, 64, 3), 7) is build_network(
        ResNetConfig(), (64, 64, 3), 7
    )
    assert build_network(ResNetConfig(), (64, 64, 3), 8) is not build_network(
        ResNetConfig(), (64, 64, 3), 7
    )


def _same_bits(one: Any, other: Any) -> bool:
    equal = jax.tree.map(
        lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), one, other
    )
    return all(jax.tree.leaves(equal))


def _drawn(network: Network) -> Variables:
    """Weights of moderate size; normalisations that do nothing yet. Cheaper than to compile `init`."""
    rng = np.random.default_rng(2)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        if len(leaf.shape) > 1:
            values = rng.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        else:
            values = np.full(leaf.shape, float(path[-1].key in ("scale", "var")))
        return values.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, network.abstract_variables)


@pytest.mark.parametrize(
    "name",
    [name if name in ("alexnet", "resnet20") else pytest.param(name, marks=SLOW) for name in SMALL],
)
def test_an_update_moves_what_is_trained_and_nothing_else(name: str) -> None:
    config, side = SMALL[name]
    network = build_network(config, (side, side, 3), 4)
    depth = 2
    plan = make_plan(network, RegimeConfig("fine_tune"), depth, 10)
    optim = OptimConfig(kind="sgd")
    images = np.random.default_rng(0).normal(size=(4, side, side, 3)).astype(np.float32)

    before = _drawn(network)

    @jax.jit
    def run(variables: Variables) -> Any:
        given = Recipe(network, 0, plan, 1, 1, optim=optim, batch_size=4)
        step = Step(given, plan.phases[0])
        batch = Batch(images, jnp.arange(4))
        return step(variables, step.init(variables), jnp.float32(0.1), batch, jax.random.key(1))

    after, _, loss = run(before)
    assert 0.01 < float(loss) < 1000
    for unit in network.names:
        assert _same_bits(before[unit], after[unit]) != (unit in network.weighted[-depth:]), unit
    for unit in network.weighted[-depth:]:
        assert _same_bits(before[unit].get("batch_stats"), after[unit].get("batch_stats")) == (
            "batch_stats" not in before[unit]
        )


@pytest.mark.parametrize(
    ("config", "unit"), [(AlexNetConfig(width=2), "fc7"), (VggConfig(width=2), "fc6")]
)
def test_dropout_acts_in_trained_units_only(config: ModelConfig, unit: str) -> None:
    network = build_network(config, (64, 64, 3), 3)
    place = network.index(unit)
    x = np.abs(np.random.default_rng(0).normal(size=(64, *network.shape_before(place)))).astype(
        np.float32
    )
    module = network.units[place][1]
    own = module.init(jax.random.key(0), x, train=False)
    own["params"]["dense"]["bias"] = own["params"]["dense"]["bias"] + 1.0

    def out(trained: tuple[str, ...], key: int) -> np.ndarray:
        rngs = jax.random.key(key)
        return np.asarray(
            network.apply({unit: own}, x, start=place, stop=place + 1, train=trained, rngs=rngs)[0]
        )

    assert _same_bits(out((), 1), out((), 2))
    assert not _same_bits(out((unit,), 1), out((unit,), 2))
    plain = build_network(replace(config, dropout=0.0), (64, 64, 3), 3)
    without = plain.apply({unit: own}, x, start=place, stop=place + 1, train=(unit,))[0]
    assert _same_bits(without, out((), 1))


def test_shortcuts_without_weights_keep_every_second_pixel_between_maps_of_zeros() -> None:
    """With residual branches of 0, a stage's first block hands its input on."""
    network = build_network(CifarResNetConfig(width=4), (16, 16, 3), 4)
    place = network.index("stage2_block1")
    own = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, np.float32), network.abstract_variables["stage2_block1"]
    )
    own["batch_stats"] = jax.tree.map(np.ones_like, own["batch_stats"])
    x = np.abs(np.random.default_rng(1).normal(size=(2, 16, 16, 4))).astype(np.float32)
    y = network.apply({"stage2_block1": own}, x, start=place, stop=place + 1)[0]
    assert y.shape == (2, 8, 8, 8)
    np.testing.assert_array_equal(y[..., 2:6], x[:, ::2, ::2])
    assert not np.any(y[..., :2])
    assert not np.any(y[..., 6:])


@pytest.mark.slow
def test_convolutions_of_all_forms_compute_the_same() -> None:
    """Of many maps, as ResNet-18 has them: values and gradients are those of XLA's own convolutions."""
    config = ResNetConfig(layers=18)
    network = build_network(config, (48, 48, 3), 5)
    variables = network.init(jax.random.key(0))
    images = np.random.default_rng(3).normal(size=(6, 48, 48, 3)).astype(np.float32)
    pull = jnp.cos(jnp.arange(30.0)).reshape(6, 5)

    def outcome(variables: Variables) -> Any:
        def pulled(params: Any) -> Any:
            own = {name: variables[name] | {"params": params[name]} for name in params}
            y = network.apply(variables | own, images)[0]
            return jnp.vdot(y, pull), y

        params = {name: own["params"] for name, own in variables.items() if "params" in own}
        (_, y), gradients = jax.value_and_grad(pulled, has_aux=True)(params)
        return y, gradients

    found = jax.jit(outcome)(variables)
    with plain_forms():
        expected = jax.jit(lambda v: outcome(v))(variables)
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-3, atol=1e-3 * float(jnp.abs(other).max()))
