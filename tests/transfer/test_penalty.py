from typing import Any

import jax
import numpy as np
import pytest

from convtl.transfer.optim import l2_sp


def _tree(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        unit: {
            "kernel": rng.normal(size=(3, 2)).astype(np.float32),
            "bias": rng.normal(size=2).astype(np.float32),
        }
        for unit in ("a", "b", "c")
    }


START, NOW, GRADIENTS = _tree(0), _tree(1), _tree(2)


def test_the_gradients_by_hand() -> None:
    transform = l2_sp((("b", 0.5),), (("c", 0.25),))
    state = transform.init(START)
    pulled, after = transform.update(GRADIENTS, state, NOW)
    assert after is state
    for leaf in ("kernel", "bias"):
        wanted = GRADIENTS["b"][leaf] + 0.5 * (NOW["b"][leaf] - START["b"][leaf])
        np.testing.assert_allclose(pulled["b"][leaf], wanted, rtol=1e-6)
        wanted = GRADIENTS["c"][leaf] + 0.25 * NOW["c"][leaf]
        np.testing.assert_allclose(pulled["c"][leaf], wanted, rtol=1e-6)
    assert pulled["a"] is GRADIENTS["a"]
    assert set(state.weights) == {"b"}


def test_the_gradients_are_those_of_the_penalty() -> None:
    def penalty(params: Any) -> Any:
        square = lambda tree: sum((leaf**2).sum() for leaf in jax.tree.leaves(tree))  # noqa: E731
        moved = jax.tree.map(lambda w, w0: w - w0, params["b"], START["b"])
        return 0.5 / 2 * square(moved) + 0.25 / 2 * square(params["c"])

    nothing = jax.tree.map(np.zeros_like, NOW)
    transform = l2_sp((("b", 0.5),), (("c", 0.25),))
    pulled, _ = transform.update(nothing, transform.init(START), NOW)
    expected = jax.grad(penalty)(NOW)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), pulled, expected)


def test_nothing_pulls_at_the_start() -> None:
    transform = l2_sp((("a", 1e9), ("b", 1e9)), ())
    pulled, _ = transform.update(GRADIENTS, transform.init(START), START)
    jax.tree.map(np.testing.assert_array_equal, pulled, GRADIENTS)


def test_each_lane_is_pulled_to_its_own_start() -> None:
    transform = l2_sp((("b", 0.5),), ())
    stack = lambda *trees: jax.tree.map(lambda *leaves: np.stack(leaves), *trees)  # noqa: E731
    starts, nows, gradients = stack(START, NOW), stack(NOW, START), stack(GRADIENTS, GRADIENTS)
    states = jax.vmap(transform.init)(starts)
    pulled, _ = jax.vmap(transform.update)(gradients, states, nows)
    for index, (start, now) in enumerate([(START, NOW), (NOW, START)]):
        alone, _ = transform.update(GRADIENTS, transform.init(start), now)
        np.testing.assert_allclose(pulled["b"]["kernel"][index], alone["b"]["kernel"], rtol=1e-6)


def test_the_weights_are_wanted() -> None:
    transform = l2_sp((("b", 0.5),), ())
    with pytest.raises(ValueError, match="needs the weights"):
        transform.update(GRADIENTS, transform.init(START))
