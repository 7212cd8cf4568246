import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from convtl.config.training import RegimeConfig
from convtl.models.lenet import LeNet5Config
from convtl.models.network import Network, multiply_adds
from convtl.models.registry import build_network
from convtl.training.runs import flops_per_update
from convtl.transfer.plan import Plan, make_plan

NETWORK = build_network(LeNet5Config(), (28, 28, 1), 10)
CONV1, CONV2, FC3, FC4, FC5 = 117_600, 240_000, 48_000, 10_080, 840
WHOLE = CONV1 + CONV2 + FC3 + FC4 + FC5


def _plan(depth: int, regime: RegimeConfig) -> Plan:
    return make_plan(NETWORK, regime, depth, 10)


FINE_TUNE = RegimeConfig("fine_tune")


@pytest.mark.parametrize(
    ("depth", "regime", "start", "multiply_adds"),
    [
        # Forward through all, and the head's weight gradients.
        (1, FINE_TUNE, 0, WHOLE + FC5),
        # The prefix cached: the head alone.
        (1, FINE_TUNE, 6, 2 * FC5),
        # Forward; back through all but the first unit; all weight gradients.
        (5, FINE_TUNE, 0, WHOLE + (WHOLE - CONV1) + WHOLE),
        (3, FINE_TUNE, 0, WHOLE + (FC4 + FC5) + (FC3 + FC4 + FC5)),
        (3, FINE_TUNE, 4, 2 * (FC3 + FC4 + FC5) + FC4 + FC5),
        # The first unit and the head: back through what lies between, which gets no weight gradients.
        (1, RegimeConfig("surgical", units=("conv1",)), 0, WHOLE + (WHOLE - CONV1) + CONV1 + FC5),
        # Half of the updates as at depth 1, half as at depth 5.
        (5, RegimeConfig("lp_ft"), 0, ((WHOLE + FC5) + (3 * WHOLE - CONV1)) / 2),
        # 3 of 10, with everything below fc3 cached in both phases.
        (
            3,
            RegimeConfig("lp_ft", probe_share=0.3),
            4,
            (3 * (FC3 + FC4 + 2 * FC5) + 7 * (2 * (FC3 + FC4 + FC5) + FC4 + FC5)) / 10,
        ),
        # The head alone, without and with the unit below it, half of the updates each.
        (2, RegimeConfig("gradual"), 0, ((WHOLE + FC5) + (WHOLE + FC5 + (FC4 + FC5))) / 2),
        # The first unit alone: nothing for the head's weights.
        (
            1,
            RegimeConfig("surgical", units=("first",), head=False),
            0,
            WHOLE + (WHOLE - CONV1) + CONV1,
        ),
        (2, RegimeConfig("discriminative"), 0, WHOLE + FC5 + (FC4 + FC5)),
    ],
)
def test_updates_of_lenet_by_hand(
    depth: int, regime: RegimeConfig, start: int, multiply_adds: float
) -> None:
    assert flops_per_update(NETWORK, _plan(depth, regime), 32, start) == round(
        2 * 32 * multiply_adds
    )


def test_cost_grows_with_depth_and_batch() -> None:
    costs = [flops_per_update(NETWORK, _plan(depth, FINE_TUNE), 32, 0) for depth in (1, 2, 3, 4, 5)]
    assert costs == sorted(set(costs))
    assert flops_per_update(NETWORK, _plan(5, FINE_TUNE), 64, 0) == 2 * costs[-1]


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


def test_the_algorithm_is_counted_whatever_the_form() -> None:
    """LeNet-5's convolutions are banded on a CPU, which does more arithmetic."""
    assert sum(multiply_adds(NETWORK).values()) == WHOLE
