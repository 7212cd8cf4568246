"""What an update may do beside the textbook's: held statistics, parts of batches, other precision, averages."""

import dataclasses
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_nets import (
    BATCH,
    CHAIN,
    CLASSES,
    LENET,
    Head,
    batches,
    drawn,
    recipe,
    run,
    same_bits,
    step_of,
)

from convtl.config.training import (
    AugmentConfig,
    OptimConfig,
    RegimeConfig,
    ScheduleConfig,
)
from convtl.keys import digest_arrays
from convtl.models import lowering
from convtl.models.network import Network, Variables
from convtl.training import step as step_module
from convtl.training.augment import blend
from convtl.training.loop import Trainer, programs
from convtl.training.runs import Recipe, Run, RunResult
from convtl.training.step import _AUGMENT, Batch, Step, params_of
from convtl.transfer.plan import make_plan

jitted = jax.jit(Step.__call__, static_argnums=0)
"""Operation by operation it takes ten times as long."""
close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
CONSTANT = ScheduleConfig(kind="constant")
AUGMENT = AugmentConfig(flip=True, colour=0.3, mixup=0.3)


def trained(given: Recipe, *runs: Run) -> list[RunResult]:
    return Trainer(given).train(list(runs))


def statistics(variables: Variables, unit: str) -> str:
    return digest_arrays(*jax.tree.leaves(variables[unit]["batch_stats"]))


# --- batch normalisation ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["train", "frozen"])
def test_statistics_obey_their_units_label(mode: str) -> None:
    """Frozen units keep theirs in every mode, trained ones in all but `train`; scale and bias are trained."""
    start = drawn(CHAIN, 0)
    own = run(CHAIN, 0)
    given = dataclasses.replace(recipe(CHAIN, 2, runs_per_device=1), norm_mode=mode)
    (after,) = trained(given, dataclasses.replace(own, variables=start))
    assert statistics(after.variables, "a") == statistics(start, "a")
    assert same_bits(after.variables["a"], start["a"])
    assert (statistics(after.variables, "b") == statistics(start, "b")) == (mode != "train")
    for name in ("scale", "bias"):
        norm = after.variables["b"]["params"]["BatchNorm_0"][name]
        assert np.all(norm != start["b"]["params"]["BatchNorm_0"][name])


def test_with_held_statistics_an_update_is_that_of_the_inference_net() -> None:
    own = run(CHAIN, 1)
    images, labels = (array[0] for array in own.batches(0, 1))
    (phase,) = make_plan(CHAIN, RegimeConfig("fine_tune"), 3, 10).phases
    config = OptimConfig(kind="sgd", momentum=0.0)
    step = step_of(CHAIN, phase, config, norm_mode="frozen")
    state = step.init(own.variables)
    after, _, loss = jitted(step, own.variables, state, 0.1, Batch(images, labels))

    def loss_of(params: Any) -> Any:
        merged = {unit: own.variables[unit] | {"params": kernel} for unit, kernel in params.items()}
        logits = CHAIN.apply(merged, images)[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    expected, gradients = jax.jit(jax.value_and_grad(loss_of))(params_of(own.variables))
    close(loss, expected)
    jax.tree.map(
        lambda now, w, g: close(now, w - 0.1 * g),
        params_of(after),
        params_of(own.variables),
        gradients,
    )


class NormalisedDropping(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.BatchNorm()(nn.Dense(16)(x.reshape(x.shape[0], -1)), use_running_average=not train)
        return nn.Dropout(0.5, deterministic=not train)(x)


def test_held_statistics_leave_dropout_alone() -> None:
    """Also where the layer is told at the call what to look at."""
    network = Network((("a", NormalisedDropping()), ("head", Head(CLASSES))), (3, 3, 1))
    variables = drawn(network, 0)
    images = batches((3, 3, 1), 0)(0, 1)[0][0]
    dropped, updated, _ = network.apply(
        variables, images, stop=1, train={"a"}, held=True, rngs=jax.random.key(0)
    )
    plain = np.asarray(network.apply(variables, images, stop=1)[0])
    zeros = np.asarray(dropped) == 0
    assert 0.3 < zeros.mean() < 0.7
    close(np.asarray(dropped)[~zeros], 2 * plain[~zeros])
    assert same_bits(updated["a"], variables["a"])


def test_nets_without_batch_normalisation_know_one_mode() -> None:
    given = recipe(LENET, 1, runs_per_device=1)
    own = run(LENET, 0)
    runs = [
        trained(dataclasses.replace(given, norm_mode=mode), own)[0] for mode in ("train", "frozen")
    ]
    assert all(same_bits(run.variables, runs[0].variables) for run in runs)


# --- augmentation -----------------------------------------------------------------------------------


def test_with_augmentation_company_and_chunks_change_no_bit() -> None:
    runs = [dataclasses.replace(run(CHAIN, seed), seed=seed % 3) for seed in range(4)]
    given = dataclasses.replace(recipe(CHAIN, 2, updates=5), augment=AUGMENT)
    together = trained(given, *runs)
    order = [2, 0, 3, 1]
    for permuted, index in zip(
        trained(given, *[runs[index] for index in order]), order, strict=True
    ):
        assert same_bits(permuted.variables, together[index].variables)
    (alone,) = trained(dataclasses.replace(given, steps_per_call=1), runs[1])
    assert same_bits(alone.variables, together[1].variables)
    assert same_bits(alone.losses, together[1].losses)


def test_each_update_and_seed_draws_anew() -> None:
    own = run(CHAIN, 0, rate=0.0)
    images, labels = own.batches(0, 1)

    def repeated(first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        return images.repeat(stop - first, 0), labels.repeat(stop - first, 0)

    same = dataclasses.replace(own, batches=repeated)
    given = dataclasses.replace(recipe(CHAIN, 1), augment=dataclasses.replace(AUGMENT, mixup=0.0))
    one, other, again = trained(given, same, dataclasses.replace(same, seed=7), same)
    assert len({*one.losses.tolist(), *other.losses.tolist()}) == 8
    assert same_bits(one.losses, again.losses)


def test_blended_labels_are_blended_losses() -> None:
    """One update against the loss of the images and shares that MixUp gives."""
    own = run(CHAIN, 1)
    images, labels = (array[0] for array in own.batches(0, 1))
    (phase,) = make_plan(CHAIN, RegimeConfig("fine_tune"), 1, 10).phases
    config, key = OptimConfig(), jax.random.key(0)
    step = step_of(CHAIN, phase, config, augment=AugmentConfig(mixup=1.0))
    state, batch = step.init(own.variables), Batch(images, labels)
    loss = jitted(step, own.variables, state, 0.1, batch, key)[2]
    blending = jax.random.split(jax.random.fold_in(key, _AUGMENT))[1]
    mixed, partners, share = jax.jit(blend)(blending, images, labels, 1.0)
    scores = jax.nn.log_softmax(CHAIN.apply(own.variables, mixed)[0])
    rows = np.arange(BATCH)
    expected = -(share * scores[rows, labels] + (1 - share) * scores[rows, partners]).mean()
    assert 0.05 < float(share) < 0.95
    assert partners.tolist() != labels.tolist()
    close(loss, expected)
    with pytest.raises(ValueError, match="needs a key"):
        step(own.variables, state, 0.1, batch)


# --- precision --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("flax_promotes")
@pytest.mark.parametrize(
    "network", [CHAIN, pytest.param(LENET, marks=pytest.mark.slow)], ids=["normalised", "lenet5"]
)
def test_half_the_precision_in_the_middle_only(network: Network) -> None:
    given = recipe(network, 2, runs_per_device=1)
    own = run(network, 0)
    (whole,), (half,) = (
        trained(dataclasses.replace(given, precision=precision), own)
        for precision in ("float32", "bfloat16")
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(half.variables)} == {np.dtype(np.float32)}
    assert half.losses.dtype == np.float32
    assert not same_bits(half.losses, whole.losses)
    np.testing.assert_allclose(half.losses, whole.losses, rtol=0.05)
    for unit in set(network.names) - given.plan.trained:
        assert same_bits(half.variables[unit], own.variables[unit])
    # Weights are kept in float32: what moves is less than a step of bfloat16.
    moved = half.variables[network.head]["params"]
    assert any(np.any(leaf != jnp.asarray(leaf, jnp.bfloat16)) for leaf in jax.tree.leaves(moved))


@pytest.mark.usefixtures("flax_promotes")
def test_gradients_in_half_precision_are_near_those_in_full() -> None:
    own = run(CHAIN, 2)
    images, labels = (array[0] for array in own.batches(0, 1))
    (phase,) = make_plan(CHAIN, RegimeConfig("fine_tune"), 3, 10).phases
    config = OptimConfig(kind="sgd", momentum=0.0)

    def step(precision: str) -> Any:
        step = step_of(CHAIN, phase, config, precision=precision)
        state = step.init(own.variables)
        after = jitted(step, own.variables, state, 1.0, Batch(images, labels))[0]
        return jax.tree.map(
            lambda now, before: now - before, params_of(after), params_of(own.variables)
        )

    whole, half = step("float32"), step("bfloat16")
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(half), strict=True):
        assert np.abs(one - other).max() < 0.1 * max(np.abs(one).max(), 0.1)


# --- parts of batches -------------------------------------------------------------------------------


class Pooled(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return x.reshape(len(x), 11, 6, 11, 6, -1).mean((2, 4))


@pytest.mark.parametrize("held", [True, False])
def test_big_images_go_a_few_at_a_time_where_nothing_looks_at_their_batch(
    held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lowering, "_TRAINED_PIXELS", 4 * 66 * 66)
    programs.cache_clear()
    big = Network((("maps", Pooled()), *CHAIN.units), (66, 66, 1))
    given = recipe(big, 3, optim=OptimConfig(kind="sgd"), runs_per_device=1)
    given = dataclasses.replace(given, norm_mode="frozen" if held else "train")
    (phase,) = given.plan.phases
    at_once = Step(given, phase).rows_at_once(BATCH)
    assert at_once == (4 if held else BATCH)
    own = run(big, 0)
    (found,) = trained(given, own)
    monkeypatch.setattr(step_module, "trained_at_a_time", lambda rows, shape: rows)
    programs.cache_clear()
    (wanted,) = trained(given, own)
    np.testing.assert_allclose(found.losses, wanted.losses, rtol=1e-4)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), found.variables, wanted.variables
    )
    assert held or same_bits(found.variables, wanted.variables)


@pytest.mark.slow
@pytest.mark.usefixtures("flax_promotes")
def test_everything_at_once_runs_in_runs() -> None:
    optim = OptimConfig(kind="adamw", weight_decay=0.1, clip=1.0, ema=0.9)
    given = recipe(CHAIN, 3, regime=RegimeConfig("lp_ft"), optim=optim)
    colour = AugmentConfig(flip=True, colour=0.3)
    given = dataclasses.replace(given, norm_mode="frozen", augment=colour, precision="bfloat16")
    runs = [run(CHAIN, seed) for seed in range(4)]
    together = trained(given, *runs)
    assert all(result.finite for result in together)
    assert same_bits(trained(given, *runs[::-1])[3].variables, together[0].variables)
    assert statistics(together[0].variables, "a") == statistics(runs[0].variables, "a")


# --- averages of weights ----------------------------------------------------------------------------

DECAY = 0.7


def _of_prefixes(regime: Any, updates: int, seed: int) -> list[Variables]:
    """Weights after every update, from runs of one update each with plain steps."""
    plan = make_plan(CHAIN, regime, 3, updates)
    own = run(CHAIN, seed, rate=0.05)
    optim = OptimConfig(kind="sgd", momentum=0.0)
    after, steps = own.variables, []
    for phase in plan.phases:
        step = step_of(CHAIN, phase, optim)
        state = step.init(after)
        for number in range(phase.first, phase.stop):
            images, labels = (array[0] for array in own.batches(number, number + 1))
            after = jitted(step, after, state, 0.05, Batch(images, labels))[0]
            steps.append(after)
    return steps


@pytest.mark.parametrize(
    "regime",
    [pytest.param(RegimeConfig("gradual"), marks=pytest.mark.slow), RegimeConfig("lp_ft")],
    ids=lambda regime: regime.kind,
)
def test_an_average_is_numpys(regime: Any) -> None:
    """Each unit's over the updates since it joined, weights and statistics, through all phases."""
    updates, decay = 6, DECAY
    optim = OptimConfig(kind="sgd", momentum=0.0, ema=decay)
    given = recipe(CHAIN, 3, regime=regime, optim=optim, updates=updates, schedule=CONSTANT)
    found = trained(given, run(CHAIN, 5), run(CHAIN, 2, rate=0.05))[1].variables
    steps = _of_prefixes(regime, updates, 2)
    for unit in CHAIN.names:
        joined = min(phase.first for phase in given.plan.phases if unit in phase.trained)
        average = jax.tree.map(lambda leaf: np.zeros_like(leaf, np.float64), found[unit])
        for after in steps[joined:]:
            average = jax.tree.map(
                lambda a, w: decay * a + (1 - decay) * np.asarray(w), average, after[unit]
            )
        whole = 1 - decay ** (updates - joined)
        jax.tree.map(
            lambda a, b, by=whole: close(a, b / by, rtol=1e-4, atol=1e-5), found[unit], average
        )


@pytest.mark.slow
def test_the_average_of_one_update_is_that_update() -> None:
    own = run(CHAIN, 0)
    runs = [
        trained(recipe(CHAIN, 2, updates=1, optim=OptimConfig(ema=ema)), own)[0]
        for ema in (None, 0.999)
    ]
    jax.tree.map(close, runs[1].variables, runs[0].variables)
    assert same_bits(runs[1].losses, runs[0].losses)


@pytest.mark.parametrize("mode", ["train", "frozen"])
def test_what_does_not_move_is_not_averaged(mode: str) -> None:
    own = run(CHAIN, 0)
    given = dataclasses.replace(recipe(CHAIN, 2, optim=OptimConfig(ema=0.9)), norm_mode=mode)
    (after,) = trained(given, own)
    assert same_bits(after.variables["a"], own.variables["a"])
    assert (statistics(after.variables, "b") == statistics(own.variables, "b")) == (
        mode == "frozen"
    )
    assert not same_bits(after.variables["b"]["params"], own.variables["b"]["params"])
