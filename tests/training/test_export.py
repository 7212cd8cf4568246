"""Programs of the default study and of a real net lower for GPUs and TPUs: proves lowering, not compiling."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import ShapeDtypeStruct, export

from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.config.schema import Config
from convtl.models.lowering import plain_forms
from convtl.models.registry import build_network
from convtl.training.loop import _call
from convtl.training.runs import Recipe
from convtl.training.step import Step
from convtl.transfer.plan import make_plan, resolve_depth

RUNS, UPDATES = 4, 3


@cache
def study() -> Config:
    return parse(compose(["+experiment=finetune_depth"]))


def recipe(model: str, depth: int | str, cached: bool = True) -> Recipe:
    """As the study's runs have it: from the boundary on where features are cached."""
    settings = study()
    shape = (28, 28, 1) if model == "lenet5" else (96, 96, 3)
    network = build_network(settings.models[model], shape, 12)
    depth = resolve_depth(network, depth)
    plan = make_plan(network, settings.regimes["fine_tune"], depth, 300)
    start = plan.boundary if cached else 0
    return Recipe(network, start, plan, RUNS, UPDATES)


def assert_lowers(function: Callable[..., Any], *arguments: Any, convolutions: bool) -> None:
    for platform in ("cuda", "tpu"):
        module = export.export(jax.jit(function), platforms=[platform])(*arguments).mlir_module()
        assert ("stablehlo.convolution" in module) == convolutions
        assert "custom_call" not in module


@pytest.mark.parametrize(
    ("model", "depth", "cached", "convolutions"),
    [
        *(("lenet5", depth, True, depth >= 4) for depth in (1, 2, 3, 4, 5)),
        ("lenet5", 1, False, True),
        ("efficientnet_lite0", 1, True, False),
        ("efficientnet_lite0", "block16", False, True),
        pytest.param("efficientnet_lite0", "all", True, True, marks=pytest.mark.slow),
    ],
)
def test_training_lowers(model: str, depth: int | str, cached: bool, convolutions: bool) -> None:
    given = recipe(model, depth, cached)
    network, (phase,) = given.network, given.plan.phases
    step = Step(given, phase)
    with plain_forms():
        names = network.names[given.start :]
        variables = {name: network.abstract_variables[name] for name in names}
        runs = jax.tree.map(
            lambda leaf: ShapeDtypeStruct((RUNS, *leaf.shape), leaf.dtype),
            (variables, jax.eval_shape(step.init, variables)),
        )
        size = (RUNS, UPDATES, given.batch_size)
        assert_lowers(
            partial(_call, step),
            *runs,
            ShapeDtypeStruct((RUNS,), jnp.float32),
            ShapeDtypeStruct((RUNS,), jnp.uint32),
            ShapeDtypeStruct((*size, *network.shape_before(given.start)), jnp.float32),
            ShapeDtypeStruct(size, jnp.int32),
            ShapeDtypeStruct((UPDATES,), jnp.float32),
            ShapeDtypeStruct((), jnp.uint32),
            ShapeDtypeStruct((), jnp.int32),
            convolutions=convolutions,
        )


@pytest.mark.parametrize(
    ("model", "start", "stop"),
    [("lenet5", 0, 4), ("lenet5", 0, None), ("lenet5", 4, None), ("efficientnet_lite0", 0, None)],
)
def test_inference_lowers(model: str, start: int, stop: int | None) -> None:
    network = recipe(model, "all").network
    with plain_forms():
        assert_lowers(
            partial(network.infer, start=start, stop=stop),
            network.abstract_variables,
            ShapeDtypeStruct((32, *network.shape_before(start)), jnp.float32),
            convolutions=start == 0,
        )
