from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convtl.config.training import OptimConfig, ScheduleConfig
from convtl.transfer.optim import carry_state, make_transform, schedule_values
from convtl.transfer.plan import Phase

UNITS = ("a", "b", "c")
RATE = 0.1
EVERYTHING = Phase(0, 10, tuple((unit, 1.0) for unit in UNITS))
TOP = Phase(0, 10, (("b", 1.0), ("c", 1.0)))
HEAD = Phase(0, 10, (("c", 1.0),))


def _tree(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return {unit: {"kernel": draw(3, 2), "bias": draw(2)} for unit in UNITS}


PARAMS = _tree(0)


def _steps(
    transform: optax.GradientTransformation, params: Any, updates: int = 3, state: Any = None
) -> Any:
    """Parameters and state after some updates with made-up gradients."""
    state = transform.init(params) if state is None else state
    for update in range(updates):
        step, state = transform.update(_tree(100 + update), state, params)
        params = optax.apply_updates(params, step)
    return params, state


def _same(one: Any, other: Any) -> bool:
    return jax.tree.all(
        jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), one, other)
    )


@pytest.mark.parametrize(
    ("config", "plain"),
    [
        (OptimConfig(kind="sgd", momentum=0.0), optax.sgd(RATE)),
        (OptimConfig(kind="sgd", momentum=0.9), optax.sgd(RATE, momentum=0.9)),
        (OptimConfig(kind="adam"), optax.adam(RATE)),
        (OptimConfig(kind="adamw"), optax.adam(RATE)),
        (
            OptimConfig(kind="adamw", weight_decay=0.3),
            optax.adamw(
                RATE, weight_decay=0.3, mask=lambda p: jax.tree.map(lambda leaf: leaf.ndim > 1, p)
            ),
        ),
        (
            OptimConfig(kind="sgd", momentum=0.9, clip=0.5),
            optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(RATE, momentum=0.9)),
        ),
        (
            OptimConfig(kind="adam", clip=0.5),
            optax.chain(optax.clip_by_global_norm(0.5), optax.adam(RATE)),
        ),
    ],
    ids=lambda value: f"{value.kind}-{value.clip}" if isinstance(value, OptimConfig) else "",
)
def test_a_wholly_trained_net_is_trained_as_optax_does(
    config: OptimConfig, plain: optax.GradientTransformation
) -> None:
    ours, _ = _steps(make_transform(config, EVERYTHING, PARAMS, RATE), PARAMS)
    with jax.numpy_dtype_promotion("standard"):
        theirs, _ = _steps(plain, PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_frozen_units_neither_move_nor_have_a_state(kind: Any, clip: float | None) -> None:
    transform = make_transform(
        OptimConfig(kind=kind, weight_decay=0.5, clip=clip), HEAD, PARAMS, RATE
    )
    params, state = _steps(transform, PARAMS)
    assert _same({unit: params[unit] for unit in "ab"}, {unit: PARAMS[unit] for unit in "ab"})
    assert not _same(params["c"], PARAMS["c"])
    held = [leaf.shape for leaf in jax.tree.leaves(state) if leaf.ndim]
    moments = 1 if kind == "sgd" else 2
    assert sorted(held) == sorted([(3, 2), (2,)] * moments)


def test_decay_moves_matrices_of_trained_units_only() -> None:
    config = OptimConfig(kind="adamw", weight_decay=0.5)
    nothing = jax.tree.map(jnp.zeros_like, PARAMS)
    transform = make_transform(config, TOP, PARAMS, RATE)
    step, _ = transform.update(nothing, transform.init(PARAMS), PARAMS)
    for unit in UNITS:
        decay = -RATE * 0.5 * PARAMS[unit]["kernel"] if unit in TOP.trained else np.zeros((3, 2))
        np.testing.assert_allclose(step[unit]["kernel"], decay, rtol=1e-6)
        assert not np.any(step[unit]["bias"])


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 20), st.sampled_from([HEAD, TOP, EVERYTHING]))
def test_clipping_looks_at_trained_units_only(clip: float, phase: Phase) -> None:
    """By hand; and what comes down to frozen units, however large, changes nothing."""
    gradients = _tree(1)
    own = np.concatenate(
        [np.ravel(leaf) for unit in phase.trained for leaf in jax.tree.leaves(gradients[unit])]
    )
    factor = min(1.0, clip / float(np.linalg.norm(own)))
    transform = make_transform(
        OptimConfig(kind="sgd", momentum=0.0, clip=clip), phase, PARAMS, RATE
    )
    state = transform.init(PARAMS)
    step, _ = transform.update(gradients, state, PARAMS)
    for unit in UNITS:
        wanted = (
            -RATE * factor * gradients[unit]["kernel"]
            if unit in phase.trained
            else np.zeros((3, 2))
        )
        np.testing.assert_allclose(step[unit]["kernel"], wanted, rtol=1e-5, atol=1e-7)
    frozen = {
        unit: jax.tree.map(lambda leaf: leaf * 1e6, gradients[unit])
        for unit in UNITS
        if unit not in phase.trained
    }
    again, _ = transform.update(gradients | frozen, state, PARAMS)
    assert _same(again, step)


def test_rates_differ_by_unit() -> None:
    phase = Phase(0, 10, (("a", 0.25), ("b", 0.5), ("c", 1.0)))
    transform = make_transform(OptimConfig(kind="sgd", momentum=0.0), phase, PARAMS, RATE)
    gradients = _tree(1)
    step, _ = transform.update(gradients, transform.init(PARAMS), PARAMS)
    for unit, factor in phase.rate_factors:
        np.testing.assert_allclose(
            step[unit]["bias"], -RATE * factor * gradients[unit]["bias"], rtol=1e-6
        )


def test_rates_are_arrays() -> None:
    """Runs of different rates share one program, and rate 0 moves nothing."""
    traced = []

    @jax.jit
    def moved(rate: jax.Array) -> Any:
        traced.append(rate)
        transform = make_transform(OptimConfig(kind="adam", clip=1.0), TOP, PARAMS, rate)
        step, _ = transform.update(_tree(1), transform.init(PARAMS), PARAMS)
        return optax.apply_updates(PARAMS, step)

    once, twice = (
        moved(0.1)["c"]["bias"] - PARAMS["c"]["bias"],
        moved(0.2)["c"]["bias"] - PARAMS["c"]["bias"],
    )
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-4)
    assert _same(moved(0.0), PARAMS)
    assert len(traced) == 1


def _moments(state: Any, unit: str) -> Any:
    """A unit's Adam state."""
    return state[-1].inner_states[unit].inner_state[0]


@pytest.mark.parametrize("clip", [None, 0.5])
def test_units_that_stay_keep_their_state_and_others_start_fresh(clip: float | None) -> None:
    config = OptimConfig(kind="adam", clip=clip)
    params, old = _steps(make_transform(config, HEAD, PARAMS, RATE), PARAMS)
    then = make_transform(config, TOP, params, RATE)
    new = then.init(params)
    carried = carry_state(old, new, TOP)
    assert jax.tree.structure(carried) == jax.tree.structure(new)
    assert _same(_moments(carried, "c"), _moments(old, "c"))
    assert int(_moments(carried, "c").count) == 3
    assert _same(_moments(carried, "b"), _moments(new, "b"))
    assert int(_moments(carried, "b").count) == 0
    # A unit that stays goes on as if nothing had happened.
    gone_on, _ = _steps(then, params, 2, carried)
    unbroken = _steps(make_transform(config, HEAD, PARAMS, RATE), params, 2, old)[0]
    if clip is None:
        assert _same(gone_on["c"], unbroken["c"])
    assert not _same(gone_on["b"], params["b"])


def test_a_unit_that_leaves_is_forgotten() -> None:
    config = OptimConfig(kind="adam")
    params, old = _steps(make_transform(config, TOP, PARAMS, RATE), PARAMS)
    new = make_transform(config, HEAD, params, RATE).init(params)
    carried = carry_state(old, new, HEAD)
    assert jax.tree.structure(carried) == jax.tree.structure(new)
    assert _same(_moments(carried, "c"), _moments(old, "c"))


def test_a_restart_starts_afresh() -> None:
    config = OptimConfig(kind="adam")
    params, old = _steps(make_transform(config, HEAD, PARAMS, RATE), PARAMS)
    phase = Phase(10, 20, TOP.rate_factors, restart=True)
    new = make_transform(config, phase, params, RATE).init(params)
    assert carry_state(old, new, phase) is new


def test_states_pile_up_while_units_join() -> None:
    """Gradual unfreezing: the state of each unit has seen every update since it joined."""
    config, params, state = OptimConfig(kind="adam"), PARAMS, None
    for phase in (HEAD, TOP, EVERYTHING):
        transform = make_transform(config, phase, params, RATE)
        fresh = transform.init(params)
        state = fresh if state is None else carry_state(state, fresh, phase)
        params, state = _steps(transform, params, 4, state)
    assert [int(_moments(state, unit).count) for unit in UNITS] == [4, 8, 12]


def test_clipping_sees_the_penalty() -> None:
    """The penalty is part of the loss, so what is clipped is the gradient of both."""
    phase = Phase(0, 10, HEAD.rate_factors, to_zero=(("c", 2.0),))
    transform = make_transform(OptimConfig(kind="sgd", momentum=0.0, clip=0.1), phase, PARAMS, RATE)
    gradients = _tree(1)
    step, _ = transform.update(gradients, transform.init(PARAMS), PARAMS)
    whole = jax.tree.map(lambda g, w: g + 2.0 * w, gradients["c"], PARAMS["c"])
    norm = np.linalg.norm(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(whole)]))
    wanted = jax.tree.map(lambda leaf: -RATE * 0.1 * leaf / norm, whole)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), step["c"], wanted)
    assert not any(np.any(leaf) for unit in "ab" for leaf in jax.tree.leaves(step[unit]))


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([1, 2, 3, 10, 150]), st.floats(0, 1), st.integers(0, 500))
def test_schedules_rise_to_1_and_fall_but_never_rest(
    length: int, warmup: float, first: int
) -> None:
    values = schedule_values(
        ScheduleConfig(warmup=warmup), Phase(first, first + length, (("c", 1.0),))
    )
    assert values.shape == (length,)
    assert values.dtype == np.float32
    peak = max(1, round(warmup * length)) - 1
    assert values[peak] == pytest.approx(1, abs=1e-6)
    assert values.max() <= 1 + 1e-6
    assert values.min() > 0
    assert np.all(np.diff(values[: peak + 1]) > 0)
    assert np.all(np.diff(values[peak:]) < 0)
    # The warm-up is a straight line that starts one step above 0.
    np.testing.assert_allclose(values[: peak + 1], np.arange(1, peak + 2) / (peak + 1), rtol=1e-5)


def test_the_default_schedule() -> None:
    values = schedule_values(ScheduleConfig(), Phase(0, 300, (("c", 1.0),)))
    assert int(values.argmax()) == 29
    by_hand = 0.5 * (1 + np.cos(np.pi * np.arange(271) / 271))
    np.testing.assert_allclose(values[29:], by_hand, atol=1e-6)


def test_a_constant_rate() -> None:
    values = schedule_values(ScheduleConfig(kind="constant"), Phase(5, 12, (("c", 1.0),)))
    assert values.tolist() == [1.0] * 7


def test_a_staircase_goes_down_by_tenths() -> None:
    """Kolesnikov et al. (2020): after 30, 60 and 90 % of the updates."""
    config = ScheduleConfig(kind="staircase", warmup=0.05)
    values = schedule_values(config, Phase(7, 10_007, (("c", 1.0),)))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[:500], np.arange(1, 501) / 500, rtol=1e-6)
    for first, stop, value in (
        (500, 3000, 1),
        (3000, 6000, 0.1),
        (6000, 9000, 0.01),
        (9000, 10_000, 0.001),
    ):
        np.testing.assert_allclose(values[first:stop], value, rtol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0])
def test_a_short_staircase(length: int, warmup: float) -> None:
    values = schedule_values(
        ScheduleConfig(kind="staircase", warmup=warmup), Phase(0, length, (("c", 1.0),))
    )
    assert values.shape == (length,)
    assert np.all((values > 0) & (values <= 1))
