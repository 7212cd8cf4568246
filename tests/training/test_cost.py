from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from convtl.config import LeNet5Config, RegimeConfig
from convtl.models.lenet import lenet5
from convtl.models.network import Network
from convtl.training.cost import flops_per_update, multiply_adds
from convtl.transfer.plan import Plan, make_plan

NETWORK = lenet5(LeNet5Config(lowering="lax"), (28, 28, 1), 10)
CONV1, CONV2, FC3, FC4, FC5 = 117_600, 240_000, 48_000, 10_080, 840
WHOLE = CONV1 + CONV2 + FC3 + FC4 + FC5


def _plan(depth: int, **regime: Any) -> Plan:
    return make_plan(NETWORK, RegimeConfig(**regime), depth, 10)


SURGICAL = {"kind": "surgical", "units": ("conv1",)}


@pytest.mark.parametrize(
    ("depth", "regime", "start", "multiply_adds"),
    [
        # Forward through all, and the head's weight gradients.
        (1, {}, 0, WHOLE + FC5),
        # The prefix cached: the head alone.
        (1, {}, 6, 2 * FC5),
        # Forward; back through all but the first unit; all weight gradients.
        (5, {}, 0, WHOLE + (WHOLE - CONV1) + WHOLE),
        (3, {}, 0, WHOLE + (FC4 + FC5) + (FC3 + FC4 + FC5)),
        (3, {}, 4, 2 * (FC3 + FC4 + FC5) + FC4 + FC5),
        # The first unit and the head: back through what lies between, which gets no weight gradients.
        (1, SURGICAL, 0, WHOLE + (WHOLE - CONV1) + CONV1 + FC5),
        # Half of the updates as at depth 1, half as at depth 5.
        (5, {"kind": "lp_ft"}, 0, ((WHOLE + FC5) + (3 * WHOLE - CONV1)) / 2),
        # 3 of 10, with everything below fc3 cached in both phases.
        (
            3,
            {"kind": "lp_ft", "probe_share": 0.3},
            4,
            (3 * (FC3 + FC4 + 2 * FC5) + 7 * (2 * (FC3 + FC4 + FC5) + FC4 + FC5)) / 10,
        ),
        (2, {"kind": "discriminative"}, 0, WHOLE + FC5 + (FC4 + FC5)),
    ],
)
def test_updates_of_lenet_by_hand(
    depth: int, regime: dict[str, Any], start: int, multiply_adds: float
) -> None:
    assert flops_per_update(NETWORK, _plan(depth, **regime), 32, start) == round(2 * 32 * multiply_adds)


def test_cost_grows_with_depth_and_batch() -> None:
    costs = [flops_per_update(NETWORK, _plan(depth), 32, 0) for depth in (1, 2, 3, 4, 5)]
    assert costs == sorted(set(costs))
    assert flops_per_update(NETWORK, _plan(5), 64, 0) == 2 * costs[-1]


class Odd(nn.Module):
    """Strided, dilated, grouped and without padding; a product that is no layer; a jitted part."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.Conv(8, (3, 3), strides=2, feature_group_count=4, padding="VALID")(x)
        x = jax.jit(lambda x: jnp.einsum("nhwc,nhwd->ncd", x, x))(x)
        return nn.Dense(3)(jax.checkpoint(lambda x: x.reshape(x.shape[0], -1))(x))


def test_any_unit_is_counted() -> None:
    network = Network((("odd", Odd()),), (9, 9, 4))
    grouped = 4 * 4 * 8 * (3 * 3 * 1)
    assert multiply_adds(network) == {"odd": grouped + 16 * 8 * 8 + 64 * 3}


def test_the_plain_lowering_is_what_counts() -> None:
    """A banded convolution does more arithmetic than the algorithm."""
    banded = lenet5(LeNet5Config(lowering="banded"), (28, 28, 1), 10)
    assert sum(multiply_adds(NETWORK).values()) == WHOLE
    assert sum(multiply_adds(banded).values()) > 2 * WHOLE
