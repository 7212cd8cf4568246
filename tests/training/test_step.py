"""Freezing, proven: what is frozen keeps its bits, and nothing is computed for it but its forward pass."""

from dataclasses import replace
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_nets import CHAIN, CLASSES, Head, drawn, recipe, run, same_bits, step_of

from convtl.config.training import OptimConfig, RegimeConfig
from convtl.models.lenet import LeNet5Config
from convtl.models.lowering import plain_forms
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.training.loop import Trainer
from convtl.training.runs import Run
from convtl.training.step import Batch, params_of
from convtl.transfer.plan import Phase, make_plan

DECAYING = OptimConfig(kind="adamw", weight_decay=0.1)


def _trained(run: Run, given: Any) -> Variables:
    return Trainer(given).train([run])[0].variables


def _with_negative_zeros(variables: Variables) -> Variables:
    """Every third value is -0.0: the one that arithmetic with 0 would change."""

    def mark(leaf: np.ndarray) -> np.ndarray:
        leaf = leaf.copy()
        leaf.reshape(-1)[::3] = -0.0
        return leaf

    return {
        unit: {
            kind: jax.tree.map(mark, own) if kind == "params" else own
            for kind, own in kinds.items()
        }
        for unit, kinds in variables.items()
    }


@pytest.mark.parametrize(
    ("regime", "depth", "trained", "clip"),
    [
        pytest.param(RegimeConfig("fine_tune"), 1, {"head"}, None, marks=pytest.mark.slow),
        (RegimeConfig("fine_tune"), 2, {"b", "head"}, 0.1),
        (RegimeConfig("surgical", units=("a",)), 1, {"a", "head"}, 0.1),
        (RegimeConfig("surgical", units=("first",), head=False), 1, {"a"}, None),
        pytest.param(
            RegimeConfig("surgical", units=("b",), head=False),
            3,
            {"b"},
            0.1,
            marks=pytest.mark.slow,
        ),
        (RegimeConfig("lp_ft"), 2, {"b", "head"}, None),
        (RegimeConfig("gradual"), 2, {"b", "head"}, None),
        (RegimeConfig("discriminative"), 2, {"b", "head"}, None),
        (RegimeConfig("l2_sp"), 2, {"b", "head"}, 0.1),
        pytest.param(RegimeConfig("l2_sp"), 1, {"head"}, None, marks=pytest.mark.slow),
    ],
    # a set has another order in every process
    ids=lambda value: (
        "+".join(sorted(value)) if isinstance(value, set) else getattr(value, "kind", str(value))
    ),
)
def test_frozen_units_keep_their_bits(
    regime: RegimeConfig, depth: int, trained: set[str], clip: float | None
) -> None:
    """Weights and statistics, with weight decay, at a rate that moves everything else."""
    start = _with_negative_zeros(drawn(CHAIN, 0))
    optim = OptimConfig(kind="adamw", weight_decay=0.1, clip=clip)
    given = recipe(CHAIN, depth, regime=regime, optim=optim, runs_per_device=1)
    after = _trained(Run(start, 0.1, run(CHAIN, 0).batches), given)
    assert after.keys() == start.keys()
    for unit in CHAIN.names:
        if unit not in trained:
            assert same_bits(after[unit], start[unit]), unit
            continue
        for before, now in zip(
            jax.tree.leaves(start[unit]), jax.tree.leaves(after[unit]), strict=True
        ):
            assert np.mean(before != now) > 0.5, unit


def test_an_update_is_the_textbook_one() -> None:
    """A wholly trained net against Optax and the gradient of the plain loss."""
    own = run(CHAIN, 1)
    images, labels = (array[0] for array in own.batches(0, 1))
    (phase,) = make_plan(CHAIN, RegimeConfig("fine_tune"), 3, 10).phases
    config = OptimConfig(kind="sgd", momentum=0.9)

    @jax.jit
    def ours(variables: Variables) -> Any:
        step = step_of(CHAIN, phase, config)
        return step(variables, step.init(variables), 0.1, Batch(images, labels))

    @jax.jit
    def theirs(variables: Variables) -> Any:
        def loss_of(params: Any) -> Any:
            merged = {unit: variables[unit] | {"params": own} for unit, own in params.items()}
            logits, updated, _ = CHAIN.apply(merged, images, train=CHAIN.names)
            losses = -jax.nn.log_softmax(logits)[np.arange(len(labels)), labels]
            return losses.mean(), {
                unit: kinds.get("batch_stats") for unit, kinds in updated.items()
            }

        params = params_of(variables)
        (loss, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients), statistics, loss

    variables, _, loss = ours(own.variables)
    params, statistics, expected = theirs(own.variables)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    close(loss, expected)
    jax.tree.map(close, params_of(variables), params)
    jax.tree.map(
        close, {unit: kinds.get("batch_stats") for unit, kinds in variables.items()}, statistics
    )


def test_the_loss_is_the_one_before_the_step() -> None:
    own = run(CHAIN, 2)
    (result,) = Trainer(recipe(CHAIN, 1, runs_per_device=1)).train([own])
    images, labels = own.batches(0, 1)
    logits = CHAIN.apply(own.variables, images[0])[0]
    before = optax.softmax_cross_entropy_with_integer_labels(logits, labels[0]).mean()
    assert result.losses.shape == (4,)
    assert result.losses[0] == pytest.approx(float(before), rel=1e-5)


@pytest.mark.parametrize(
    "optim",
    [OptimConfig(), pytest.param(OptimConfig(clip=1.0), marks=pytest.mark.slow), DECAYING],
    ids=lambda o: o.kind,
)
def test_at_depth_1_an_update_costs_no_more_than_a_forward_pass(optim: OptimConfig) -> None:
    """By XLA's own count, from the image on, with nothing cached."""
    network = build_network(LeNet5Config(), (28, 28, 1), 12)
    batch = 32
    images = jax.ShapeDtypeStruct((batch, 28, 28, 1), np.float32)
    labels = jax.ShapeDtypeStruct((batch,), np.int32)
    rate = jax.ShapeDtypeStruct((), np.float32)
    variables = network.abstract_variables

    def flops(function: Any, *given: Any) -> float:
        with plain_forms():
            return jax.jit(function).lower(*given).compile().cost_analysis()["flops"]

    def of_update(depth: int) -> float:
        phase: Phase = make_plan(network, RegimeConfig("fine_tune"), depth, 10).phases[0]
        step = step_of(network, phase, optim)
        state = jax.eval_shape(step.init, variables)
        return flops(step, variables, state, rate, Batch(images, labels))

    forward = flops(lambda v, x: network.apply(v, x)[0], variables, images)
    assert of_update(1) <= 1.02 * forward  # 1.003 with JAX 0.10
    if optim.clip is not None:
        assert of_update(5) > 1.5 * forward


# --- penalties --------------------------------------------------------------------------------------


def test_the_penalty_is_part_of_the_loss() -> None:
    """One plain step of L2-SP against the gradient of the penalised loss, away from the start."""
    alpha, beta, rate = 0.3, 0.2, 0.1
    start, now = drawn(CHAIN, 0), drawn(CHAIN, 5)
    images, labels = (array[0] for array in run(CHAIN, 1).batches(0, 1))
    (phase,) = make_plan(CHAIN, RegimeConfig("l2_sp", alpha=alpha, beta=beta), 2, 10).phases
    config = OptimConfig(kind="sgd", momentum=0.0)
    step = step_of(CHAIN, phase, config)
    after, _, loss = step(now, step.init(start), jnp.float32(rate), Batch(images, labels))

    def penalised(trained: Any) -> Any:
        merged = now | {unit: now[unit] | {"params": own} for unit, own in trained.items()}
        logits = CHAIN.apply(merged, images, train=("b", "head"))[0]
        fit = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        moved = jax.tree.map(jnp.subtract, trained["b"], start["b"]["params"])
        square = lambda tree: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))  # noqa: E731
        return fit + alpha / 2 * square(moved) + beta / 2 * square(trained["head"]), fit

    trained = {unit: now[unit]["params"] for unit in ("b", "head")}
    (_, fit), gradients = jax.value_and_grad(penalised, has_aux=True)(trained)
    assert float(loss) == pytest.approx(
        float(fit), rel=1e-6
    )  # the loss that is reported is that of the fit
    for unit, own in trained.items():
        wanted = jax.tree.map(lambda w, g: w - rate * g, own, gradients[unit])
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), after[unit]["params"], wanted
        )
    assert same_bits(after["a"], now["a"])


def _moved(regime: RegimeConfig, seed: int = 0, updates: int = 40) -> dict[str, float]:
    """Distance of each unit's weights from where they started, with plain steps in runs of a program."""
    optim = OptimConfig(kind="sgd", momentum=0.0)
    given = recipe(CHAIN, 3, regime=regime, optim=optim, updates=updates, steps_per_call=20)
    own = run(CHAIN, seed, rate=0.05)
    result = Trainer(given).train([run(CHAIN, 7), own])[1]
    pairs = {
        unit: (result.variables[unit]["params"], own.variables[unit]["params"])
        for unit in CHAIN.names
    }
    return {
        unit: max(
            float(np.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, pair), strict=True)
        )
        for unit, pair in pairs.items()
    }


@pytest.mark.slow
def test_a_strong_penalty_holds_weights_where_they_start() -> None:
    """Each run at its own start; the head is free to move."""
    free, held = (
        _moved(RegimeConfig("l2_sp", alpha=0.0, beta=0.0)),
        _moved(RegimeConfig("l2_sp", alpha=20.0, beta=0.0)),
    )
    assert free == _moved(RegimeConfig("fine_tune"))
    assert max(held["a"], held["b"]) < 0.05 < 2 * min(free["a"], free["b"])
    assert held["head"] > 0.05
    loose = _moved(RegimeConfig("l2_sp", alpha=1.0, beta=0.0))
    assert held["a"] < loose["a"] < free["a"]


def test_a_penalty_on_the_head_shrinks_it() -> None:
    own = run(CHAIN, 0, rate=0.05)
    optim = OptimConfig(kind="sgd", momentum=0.0)

    def size(beta: float) -> float:
        given = recipe(
            CHAIN,
            1,
            regime=RegimeConfig("l2_sp", beta=beta),
            optim=optim,
            updates=40,
            steps_per_call=20,
            runs_per_device=1,
        )
        (result,) = Trainer(given).train([own])
        return float(np.linalg.norm(result.variables["head"]["params"]["Dense_0"]["kernel"]))

    sizes = [size(beta) for beta in (0.0, 0.5, 5.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.5 * sizes[0]


# --- dropout ----------------------------------------------------------------------------------------


class Dropping(nn.Module):
    """A dense layer that forgets half of its outputs in training."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.tanh(nn.Dense(16)(x.reshape(x.shape[0], -1)))
        return nn.Dropout(0.5, deterministic=not train)(x)


DROPPING = Network((("a", Dropping()), ("head", Head(CLASSES))), (3, 3, 1))


def test_dropout_is_a_function_of_the_lane_and_the_update() -> None:
    own = run(DROPPING, 0)
    images, labels = own.batches(0, 1)

    def repeated(first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        return images.repeat(stop - first, 0), labels.repeat(stop - first, 0)

    same = replace(own, rate=0.0, batches=repeated)
    trainer = Trainer(recipe(DROPPING, 2))
    one, other = trainer.train([same, replace(same, seed=1)])
    assert len(set(one.losses.tolist())) == len(
        one.losses
    )  # the same images, and other masks each time
    assert not set(one.losses.tolist()) & set(other.losses.tolist())
    # Neither its company nor the chunks matter.
    (again,) = Trainer(recipe(DROPPING, 2, steps_per_call=3)).train([replace(same, seed=1)])
    assert same_bits(again.losses, other.losses)
    # Below the boundary nothing is dropped.
    (frozen,) = Trainer(recipe(DROPPING, 1)).train([same])
    assert len(set(frozen.losses.tolist())) == 1


def test_nets_that_draw_nothing_ignore_the_seed() -> None:
    own = run(CHAIN, 0)
    one, other = Trainer(recipe(CHAIN, 3)).train([own, replace(own, seed=5)])
    assert same_bits(one.variables, other.variables)
