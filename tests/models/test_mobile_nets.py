"""MobileNetV2, EfficientNet-Lite and ConvNeXt-Tiny: published counts, names, and one step of training."""

import re
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convtl.config.models import ModelConfig
from convtl.config.training import RegimeConfig
from convtl.errors import UserError
from convtl.models.convnext import ConvNeXtConfig
from convtl.models.lowering import plain_forms
from convtl.models.mobilenet import EfficientNetLiteConfig, InvertedResidual, MobileNetV2Config
from convtl.models.network import Network, Variables, multiply_adds, weight_count
from convtl.models.registry import build_network
from convtl.training.runs import Recipe
from convtl.training.step import Batch, Step
from convtl.transfer.plan import make_plan

LITE, MOBILE, NEXT = EfficientNetLiteConfig(), MobileNetV2Config(), ConvNeXtConfig()
FAMILIES = [MOBILE, LITE, NEXT]
KINDS = [config.kind for config in FAMILIES]


def _weights(network: Network) -> int:
    return sum(weight_count(own) for own in network.abstract_variables.values())


def _drawn(network: Network, seed: int = 0) -> Variables:
    """Variables like those of a trained net: no normalisation is neutral."""
    rng = np.random.default_rng(seed)

    def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        name = path[-1].key
        if name in ("scale", "var", "gamma"):
            return rng.uniform(0.6, 1.4, shape.shape).astype(np.float32)
        spread = 0.1 if name in ("bias", "mean") else np.sqrt(2 / np.prod(shape.shape[:-1]))
        return (spread * rng.normal(size=shape.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(leaf, network.abstract_variables)


def _images(side: int, count: int = 4) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, side, side, 3)).astype(np.float32)


# Multiply-adds of convolutions and dense layers. TensorFlow's table has 407, 631, 899 and 2,640 million for variants
# 0, 1, 2 and 4: 3 to 6 per cent more, of which two for each normalised value are most.
@pytest.mark.parametrize(
    ("config", "weights", "million"),
    [
        (MOBILE, 3_504_872, 300.8),
        (LITE, 4_652_008, 385.2),
        *(
            pytest.param(replace(LITE, variant=variant), *sizes, marks=pytest.mark.slow)
            for variant, sizes in enumerate(
                [(5_416_680, 600.2), (6_092_072, 859.7), (8_197_096, 1_383.3), (13_006_568, 2_553)],
                1,
            )
        ),
        (NEXT, 28_589_128, 4_455.5),
    ],
    ids=["mobilenet_v2", *[f"lite{variant}" for variant in range(5)], "convnext_tiny"],
)
def test_sizes_are_the_published_ones(config: ModelConfig, weights: int, million: float) -> None:
    network = build_network(config, config.usual_images, 1000)
    assert _weights(network) == weights
    assert sum(multiply_adds(network).values()) / 1e6 == pytest.approx(million, abs=0.05)
    assert network.output_shapes[-1] == (1000,)


@pytest.mark.parametrize(
    ("config", "blocks", "top"),
    [
        (MOBILE, 17, 1280),
        (LITE, 16, 1280),
        pytest.param(replace(LITE, variant=4), 30, 1280, marks=pytest.mark.slow),
    ],
    ids=["mobilenet_v2", "lite0", "lite4"],
)
def test_units_of_inverted_residuals(config: ModelConfig, blocks: int, top: int) -> None:
    network = build_network(config, (224, 224, 3), 10)
    numbered = [f"block{place:02d}" for place in range(1, blocks + 1)]
    assert network.names == ("stem", *numbered, "top", "gap", "head")
    assert network.weighted == ("stem", *numbered, "top", "head")
    assert network.output_shapes[0] == (112, 112, 32)
    assert network.output_shapes[-4:] == (
        (7, 7, network.shape_before(blocks + 1)[-1]),
        (7, 7, top),
        (top,),
        (10,),
    )


def test_units_of_convnext() -> None:
    network = build_network(NEXT, (224, 224, 3), 10)
    stages = [
        [f"stage{stage}_block{place + 1}" for place in range(n)]
        for stage, n in enumerate((3, 3, 9, 3), 1)
    ]
    expected = [
        "stem",
        *stages[0],
        "down2",
        *stages[1],
        "down3",
        *stages[2],
        "down4",
        *stages[3],
        "gap",
        "head",
    ]
    assert list(network.names) == expected
    shapes = dict(zip(network.names, network.output_shapes, strict=True))
    assert [shapes[name] for name in ("stem", "down2", "down3", "down4")] == [
        (56, 56, 96),
        (28, 28, 192),
        (14, 14, 384),
        (7, 7, 768),
    ]
    assert shapes["gap"] == (768,)


def test_layer_names() -> None:
    """Imported weights are found by them."""
    network = build_network(LITE, (64, 64, 3), 10)
    own = network.abstract_variables
    inverted = {
        f"{layer}{end}" for layer in ("expand", "depthwise", "project") for end in ("", "_norm")
    }
    assert set(own["block02"]["params"]) == inverted
    assert set(own["block01"]["params"]) == inverted - {"expand", "expand_norm"}
    assert set(own["block02"]["batch_stats"]) == {name for name in inverted if "norm" in name}
    assert set(own["stem"]["params"]) == set(own["top"]["params"]) == {"conv", "norm"}
    assert own["block02"]["params"]["depthwise"]["kernel"].shape == (3, 3, 1, 96)
    own = build_network(NEXT, (64, 64, 3), 10).abstract_variables
    assert set(own["stage1_block1"]["params"]) == {
        "depthwise",
        "norm",
        "expand",
        "project",
        "gamma",
    }
    assert {name: set(own[name]["params"]) for name in ("stem", "down2", "head")} == {
        "stem": {"conv", "norm"},
        "down2": {"conv", "norm"},
        "head": {"norm", "dense"},
    }
    assert all("batch_stats" not in unit for unit in own.values())


@pytest.mark.parametrize(("stride", "features"), [(1, 8), (1, 6), (2, 8)])
def test_the_input_is_added_only_where_its_shape_stays(stride: int, features: int) -> None:
    block = InvertedResidual(features, stride=stride, expansion=2)
    x = np.random.default_rng(2).normal(size=(1, 6, 6, 8)).astype(np.float32)
    variables = jax.jit(lambda key: block.init(key, x, train=False))(jax.random.key(0))
    # With a projection of 0 the normalisation gives 0: what is left is the input, or nothing.
    params = variables["params"] | {"project": {"kernel": jnp.zeros((1, 1, 16, features))}}
    found = jax.jit(lambda v: block.apply(v, x, train=False))(variables | {"params": params})
    kept = stride == 1 and features == 8
    np.testing.assert_array_equal(found, x if kept else np.zeros(found.shape))


@pytest.mark.parametrize("config", FAMILIES, ids=KINDS)
def test_lowerings_compute_the_same(config: ModelConfig) -> None:
    """Of an odd size, so that `same` and `symmetric` padding part; the first units have all kinds of layers."""
    network = build_network(config, (33, 33, 3), 5)
    given = _drawn(network), _images(33, 2)
    found = jax.jit(lambda v, x: network.apply(v, x, stop=5)[0])(*given)
    with plain_forms():
        expected = jax.jit(lambda v, x: network.apply(v, x, stop=5)[0])(*given)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_padding_matters_where_strides_meet_even_sizes() -> None:
    same, symmetric = (
        build_network(replace(LITE, padding=rule), (32, 32, 3), 5) for rule in ("same", "symmetric")
    )
    variables, images = _drawn(same), _images(32, 1)
    one, other = (
        jax.jit(lambda v, x, net=net: net.apply(v, x, stop=1)[0])(variables, images)
        for net in (same, symmetric)
    )
    assert one.shape == other.shape == (1, 16, 16, 32)
    # Shifted by a pixel: only the inside is comparable, and it differs.
    assert np.abs(one - other).max() > 0.1


@pytest.mark.parametrize(
    "config",
    [LITE, pytest.param(NEXT, marks=pytest.mark.slow)],
    ids=KINDS[1:],
)  # MobileNetV2 has the units of EfficientNet-Lite
def test_a_step_of_training_leaves_the_frozen_units_alone(config: ModelConfig) -> None:
    network = build_network(config, (32, 32, 3), 4)
    plan = make_plan(network, RegimeConfig("fine_tune"), 3, 1)
    phase, start = plan.phases[0], plan.boundary - 1
    drawn, labels = _drawn(network), jnp.arange(4)
    variables = {unit: drawn[unit] for unit in network.names[start:]}
    x = np.random.default_rng(5).normal(size=(4, *network.shape_before(start))).astype(np.float32)
    step = Step(Recipe(network, start, plan, 1, 1, batch_size=4), phase)
    after, _, loss = jax.jit(step)(
        variables, step.init(variables), jnp.float32(1e-3), Batch(x, labels)
    )
    assert np.isfinite(loss)
    for unit in variables:
        moved = jax.tree.map(
            lambda a, b: bool(np.any(np.asarray(a) != np.asarray(b))), variables[unit], after[unit]
        )
        assert all(jax.tree.leaves(moved)) == (
            unit in phase.trained or not jax.tree.leaves(moved)
        ), unit
        assert any(jax.tree.leaves(moved)) == (unit in phase.trained), unit


@pytest.mark.parametrize(("config", "side"), [(MOBILE, 7), (LITE, 7), (NEXT, 31)], ids=KINDS)
def test_images_that_are_too_small_are_refused(config: ModelConfig, side: int) -> None:
    with pytest.raises(
        UserError, match=re.escape(f"model {config.kind}: got images of shape ({side}, {side}, 3)")
    ):
        build_network(config, (side, side, 3), 10)
