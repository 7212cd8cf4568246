"""Training programs can be lowered for GPUs and TPUs, without a device: proves lowering, not compiling."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import export

from convtl.config.models import EfficientNetLiteConfig, LeNet5Config
from convtl.config.training import FineTuneConfig, OptimConfig
from convtl.models.lowering import plain_forms
from convtl.models.registry import build_network
from convtl.training.step import Batch, Step
from convtl.transfer.plan import make_plan, resolve_depth

LENET, LITE = (LeNet5Config(), (28, 28, 1)), (EfficientNetLiteConfig(), (96, 96, 3))


@pytest.mark.parametrize(
    ("model", "depth", "convolutions"),
    [
        (LENET, 1, False),
        (LENET, 3, False),
        (LENET, 4, True),
        (LENET, "all", True),
        (LITE, 1, False),
        (LITE, "all", True),
    ],
)
def test_update_lowers_for_accelerators(model: Any, depth: int | str, convolutions: bool) -> None:
    config, shape = model
    network = build_network(config, shape, 12)
    plan = make_plan(network, FineTuneConfig(), resolve_depth(network, depth), 10)
    step = Step(network, plan.boundary, plan.phases[0], OptimConfig())
    names = network.names[plan.boundary :]
    with plain_forms():
        variables = {name: network.abstract_variables[name] for name in names}
        state = jax.eval_shape(step.init, variables)
        images = jax.ShapeDtypeStruct((4, 32, *network.shape_before(plan.boundary)), jnp.float32)
        batch = Batch(images, jax.ShapeDtypeStruct((4, 32), jnp.int32))
        runs = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((4, *leaf.shape), leaf.dtype), (variables, state)
        )
        rates = jax.ShapeDtypeStruct((4,), jnp.float32)
        update = jax.jit(jax.vmap(lambda *run: step(*run)))
        text = {
            platform: export.export(update, platforms=[platform])(*runs, rates, batch).mlir_module()
            for platform in ("cuda", "tpu")
        }
    for module in text.values():
        assert ("stablehlo.convolution" in module) == convolutions
        assert "custom_call" not in module
