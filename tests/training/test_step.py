"""Freezing, proven: what is frozen keeps its bits, and nothing is computed for it but its forward pass."""

from functools import partial
from typing import Any

import jax
import numpy as np
import optax
import pytest
from small_nets import CHAIN, drawn, lane, recipe, same_bits

from convtl.config import LeNet5Config, OptimConfig, RegimeConfig
from convtl.models.lenet import lenet5
from convtl.models.network import Variables
from convtl.training.lanes import Lane, Trainer
from convtl.training.step import init_state, params_of, update
from convtl.transfer.plan import Phase, make_plan

DECAYING = OptimConfig(kind="adamw", weight_decay=0.1)


def _trained(lane: Lane, given: Any) -> Variables:
    return Trainer(given).train([lane])[0].variables


def _with_negative_zeros(variables: Variables) -> Variables:
    """Every third value is -0.0: the one that arithmetic with 0 would change."""

    def mark(leaf: np.ndarray) -> np.ndarray:
        leaf = leaf.copy()
        leaf.reshape(-1)[::3] = -0.0
        return leaf

    return {
        unit: {kind: jax.tree.map(mark, own) if kind == "params" else own for kind, own in kinds.items()}
        for unit, kinds in variables.items()
    }


@pytest.mark.parametrize(
    ("regime", "depth", "trained", "clip"),
    [
        (RegimeConfig(), 1, {"head"}, None),
        (RegimeConfig(), 2, {"b", "head"}, 0.1),
        (RegimeConfig(kind="surgical", units=("a",)), 1, {"a", "head"}, 0.1),
        (RegimeConfig(kind="lp_ft"), 2, {"b", "head"}, None),
    ],
    ids=["head", "depth 2", "surgical", "lp_ft"],
)
def test_frozen_units_keep_their_bits(
    regime: RegimeConfig, depth: int, trained: set[str], clip: float | None
) -> None:
    """Weights and statistics, with weight decay, at a rate that moves everything else."""
    start = _with_negative_zeros(drawn(CHAIN, 0))
    optim = OptimConfig(kind="adamw", weight_decay=0.1, clip=clip)
    given = recipe(CHAIN, depth, regime=regime, optim=optim, lanes=1)
    after = _trained(Lane(start, 0.1, lane(CHAIN, 0).batches), given)
    assert after.keys() == start.keys()
    for unit in CHAIN.names:
        if unit not in trained:
            assert same_bits(after[unit], start[unit]), unit
            continue
        for before, now in zip(jax.tree.leaves(start[unit]), jax.tree.leaves(after[unit]), strict=True):
            assert np.mean(before != now) > 0.5, unit


def test_an_update_is_the_textbook_one() -> None:
    """A wholly trained net against Optax and the gradient of the plain loss."""
    own = lane(CHAIN, 1)
    images, labels = (array[0] for array in own.batches(0, 1))
    (phase,) = make_plan(CHAIN, RegimeConfig(), 3, 10).phases
    config = OptimConfig(kind="sgd", momentum=0.9)

    @jax.jit
    def ours(variables: Variables) -> Any:
        state = init_state(config, phase, variables)
        return update(CHAIN, 0, phase, config, variables, state, 0.1, images, labels)

    @jax.jit
    def theirs(variables: Variables) -> Any:
        def loss_of(params: Any) -> Any:
            merged = {unit: variables[unit] | {"params": own} for unit, own in params.items()}
            logits, updated, _ = CHAIN.apply(merged, images, train=CHAIN.names)
            losses = -jax.nn.log_softmax(logits)[np.arange(len(labels)), labels]
            return losses.mean(), {unit: kinds.get("batch_stats") for unit, kinds in updated.items()}

        params = params_of(variables)
        (loss, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients), statistics, loss

    variables, _, loss = ours(own.variables)
    params, statistics, expected = theirs(own.variables)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    close(loss, expected)
    jax.tree.map(close, params_of(variables), params)
    jax.tree.map(close, {unit: kinds.get("batch_stats") for unit, kinds in variables.items()}, statistics)


def test_the_loss_is_the_one_before_the_step() -> None:
    own = lane(CHAIN, 2)
    (result,) = Trainer(recipe(CHAIN, 1, lanes=1)).train([own])
    images, labels = own.batches(0, 1)
    logits = CHAIN.apply(own.variables, images[0])[0]
    before = optax.softmax_cross_entropy_with_integer_labels(logits, labels[0]).mean()
    assert result.losses.shape == (4,)
    assert result.losses[0] == pytest.approx(float(before), rel=1e-5)


@pytest.mark.parametrize("optim", [OptimConfig(), OptimConfig(clip=1.0), DECAYING], ids=lambda o: o.kind)
def test_at_depth_1_an_update_costs_no_more_than_a_forward_pass(optim: OptimConfig) -> None:
    """By XLA's own count, from the image on, with nothing cached."""
    network = lenet5(LeNet5Config(lowering="lax"), (28, 28, 1), 12)
    batch = 32
    images = jax.ShapeDtypeStruct((batch, 28, 28, 1), np.float32)
    labels = jax.ShapeDtypeStruct((batch,), np.int32)
    rate = jax.ShapeDtypeStruct((), np.float32)
    variables = network.abstract_variables

    def flops(function: Any, *given: Any) -> float:
        return jax.jit(function).lower(*given).compile().cost_analysis()["flops"]

    def of_update(depth: int) -> float:
        phase: Phase = make_plan(network, RegimeConfig(), depth, 10).phases[0]
        state = jax.eval_shape(partial(init_state, optim, phase), variables)
        return flops(partial(update, network, 0, phase, optim), variables, state, rate, images, labels)

    forward = flops(lambda v, x: network.apply(v, x)[0], variables, images)
    assert of_update(1) <= 1.02 * forward  # 1.003 with JAX 0.10
    if optim.clip is not None:
        assert of_update(5) > 1.5 * forward
