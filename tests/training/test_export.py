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
from convtl.config.training import AugmentConfig
from convtl.models.lowering import plain_forms
from convtl.models.network import Network
from convtl.models.registry import build_network
from convtl.training.devices import Layout
from convtl.training.features import through_units
from convtl.training.loop import programs
from convtl.training.runs import Recipe
from convtl.transfer.graft import fresh_variables
from convtl.transfer.optim import warmup_cosine
from convtl.transfer.plan import make_plan, resolve_depth

RUNS, UPDATES = 4, 3
ALL = AugmentConfig(crop=(0.5, 1.0), flip=True, colour=0.4, mixup=0.2)


@cache
def study() -> Config:
    return parse(compose(["+experiment=finetune_depth"]))


@cache
def network_of(model: str) -> Network:
    shape = (28, 28, 1) if model == "lenet5" else (96, 96, 3)
    return build_network(study().models[model], shape, 12)


def assert_lowers(program: Any, *arguments: Any, convolutions: bool) -> None:
    for platform in ("cuda", "tpu"):
        module = export.export(program, platforms=[platform])(*arguments).mlir_module()
        assert ("stablehlo.convolution" in module) == convolutions
        assert "custom_call" not in module


def stacked(tree: Any) -> Any:
    """Shapes of a tree for each run."""
    return jax.tree.map(lambda leaf: ShapeDtypeStruct((RUNS, *leaf.shape), leaf.dtype), tree)


@pytest.mark.parametrize(
    ("model", "depth", "start", "options", "split", "convolutions"),
    [
        *(("lenet5", depth, None, {}, "trials", depth >= 4) for depth in (1, 2, 3, 4, 5)),
        ("lenet5", 1, 0, {}, "trials", True),
        ("lenet5", 5, 0, {}, "batch", True),
        ("lenet5", 5, 0, {"augment": ALL}, "trials", True),
        ("efficientnet_lite0", 1, None, {}, "trials", False),
        ("efficientnet_lite0", "block16", 0, {}, "trials", True),
        pytest.param("efficientnet_lite0", "all", 0, {}, "trials", True, marks=pytest.mark.slow),
    ],
)
def test_training_lowers(
    model: str,
    depth: int | str,
    start: int | None,
    options: dict[str, Any],
    split: Any,
    convolutions: bool,
) -> None:
    """The optimiser's first state and a call, on a mesh of devices; from the boundary on where features are cached."""
    network = network_of(model)
    plan = make_plan(network, study().regimes["fine_tune"], resolve_depth(network, depth), 300)
    start = plan.boundary if start is None else start
    recipe = Recipe(network, start, plan, RUNS, UPDATES, **options)
    (phase,) = plan.phases
    variables = stacked({name: network.abstract_variables[name] for name in network.names[start:]})
    size = (RUNS, UPDATES, recipe.batch_size)
    with plain_forms():
        init, calls = programs(recipe, Layout(tuple(jax.local_devices()), split))
        assert_lowers(init[phase], variables, convolutions=False)
        assert_lowers(
            calls[phase],
            variables,
            jax.eval_shape(init[phase], variables),
            ShapeDtypeStruct((RUNS,), jnp.float32),
            ShapeDtypeStruct((RUNS,), jnp.uint32),
            ShapeDtypeStruct((*size, *network.shape_before(start)), jnp.float32),
            ShapeDtypeStruct(size, jnp.int32),
            ShapeDtypeStruct((UPDATES,), jnp.float32),
            ShapeDtypeStruct((), jnp.uint32),
            ShapeDtypeStruct((), jnp.int32),
            convolutions=convolutions,
        )


def fresh(network: Network, start: int, stop: None) -> tuple[Any, ...]:
    return partial(fresh_variables.__wrapped__, network), jax.eval_shape(jax.random.key, 0)


def schedule(network: Network, start: int, stop: int) -> tuple[Any, ...]:
    return jax.vmap(warmup_cosine(stop, 15)), ShapeDtypeStruct((stop,), jnp.float32)


def inference(network: Network, start: int, stop: int | None) -> tuple[Any, ...]:
    return partial(network.infer, start=start, stop=stop), *entering(network, start)


def cached_features(network: Network, start: int, stop: int) -> tuple[Any, ...]:
    apply = partial(through_units.__wrapped__, network, start, stop)
    return apply, *entering(network, start)


def outputs_of_units(network: Network, start: int, stop: None) -> tuple[Any, ...]:
    return partial(network.apply, taps=network.weighted), *entering(network, start)


def entering(network: Network, start: int) -> tuple[Any, ...]:
    images = ShapeDtypeStruct((32, *network.shape_before(start)), jnp.float32)
    return network.abstract_variables, images


@pytest.mark.parametrize(
    ("case", "model", "start", "stop", "convolutions"),
    [
        (inference, "lenet5", 0, 4, True),
        (inference, "lenet5", 0, None, True),
        (inference, "lenet5", 4, None, False),
        (inference, "efficientnet_lite0", 0, None, True),
        (cached_features, "lenet5", 0, 4, True),
        (outputs_of_units, "lenet5", 0, None, True),
        (fresh, "lenet5", 0, None, False),
        (fresh, "efficientnet_lite0", 0, None, False),
        (schedule, "lenet5", 0, 300, False),
    ],
)
def test_programs_beside_training_lower(
    case: Callable[..., tuple[Any, ...]],
    model: str,
    start: int,
    stop: int | None,
    convolutions: bool,
) -> None:
    """They are traced anew, by `__wrapped__`: a jitted one keeps the forms with which it was traced first."""
    program, *arguments = case(network_of(model), start, stop)
    with plain_forms():
        assert_lowers(jax.jit(program), *arguments, convolutions=convolutions)
