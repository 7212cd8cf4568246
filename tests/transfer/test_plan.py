from itertools import pairwise
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convtl.config.training import RegimeConfig
from convtl.errors import UserError
from convtl.models.lenet import LeNet5Config
from convtl.transfer.plan import FROZEN, Phase, leaf_labels, make_plan, resolve_depth

NETWORK = LeNet5Config().build((28, 28, 1), 10)
WEIGHTED = ("conv1", "conv2", "fc3", "fc4", "fc5")


ALL = tuple((unit, 1.0) for unit in WEIGHTED)


def _surgical(*units: str, head: bool = True) -> RegimeConfig:
    return RegimeConfig("surgical", units=units, head=head)


@pytest.mark.parametrize(
    ("depth", "trained"),
    [
        (1, 1),
        (2, 2),
        (5, 5),
        ("all", 5),
        ("fc5", 1),
        ("fc4", 2),
        ("fc3", 3),
        ("conv2", 4),
        ("conv1", 5),
    ],
)
def test_depths_as_typed(depth: int | str, trained: int) -> None:
    assert resolve_depth(NETWORK, depth) == trained


@pytest.mark.parametrize(
    ("depth", "said"),
    [
        (0, "got 0; accepted: 1 to 5, all, or a unit of conv1, conv2, fc3, fc4, fc5"),
        (6, "got 6; accepted: 1 to 5"),
        (-1, "got -1"),
        ("x", "got 'x'; accepted: 1 to 5, all"),
        ("0", "got '0'"),
        ("pool1", "got 'pool1'"),
        ("conv", "Did you mean conv2 or conv1?"),
        ("fc33", "Did you mean fc3?"),
        ("conv11", "Did you mean conv1"),
        ("All", "got 'All'"),
    ],
)
def test_other_depths_are_refused_in_a_line(depth: int | str, said: str) -> None:
    with pytest.raises(UserError) as error:
        resolve_depth(NETWORK, depth)
    assert str(error.value).startswith("depth: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_fine_tuning_trains_the_last_units(depth: int) -> None:
    plan = make_plan(NETWORK, RegimeConfig("fine_tune"), depth, 300)
    chosen = WEIGHTED[-depth:]
    assert plan.phases == (Phase(0, 300, tuple((unit, 1.0) for unit in chosen)),)
    assert plan.trained == set(chosen)
    assert plan.updates == 300
    # The boundary is the lowest trained unit itself: pooling below it belongs to the frozen part.
    assert NETWORK.names[plan.boundary] == chosen[0]


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_discriminative_rates_fall_with_each_unit_further_down(depth: int) -> None:
    (phase,) = make_plan(NETWORK, RegimeConfig("discriminative", rate_factor=2.0), depth, 10).phases
    expected = [(unit, 2.0 ** -(4 - WEIGHTED.index(unit))) for unit in WEIGHTED[-depth:]]
    assert phase.rate_factors == tuple(expected)
    assert phase.rate_factors[-1] == ("fc5", 1.0)


@pytest.mark.parametrize(
    ("updates", "share", "turn"),
    [(300, 0.5, 150), (10, 0.3, 3), (2, 0.5, 1), (3, 0.9, None), (1, 0.5, None)],
)
def test_linear_probing_comes_first(updates: int, share: float, turn: int | None) -> None:
    regime = RegimeConfig("lp_ft", probe_share=share)
    if turn is None:
        with pytest.raises(UserError, match=r"updates: got \d; .*two phases"):
            make_plan(NETWORK, regime, 3, updates)
        return
    plan = make_plan(NETWORK, regime, 3, updates)
    probe, tune = plan.phases
    assert probe == Phase(0, turn, (("fc5", 1.0),))
    assert tune == Phase(turn, updates, (("fc3", 1.0), ("fc4", 1.0), ("fc5", 1.0)), restart=True)
    # Features cached for both phases are those below everything that is ever trained.
    assert NETWORK.names[plan.boundary] == "fc3"
    assert (plan.trained, plan.updates) == ({"fc3", "fc4", "fc5"}, updates)


@pytest.mark.parametrize(
    ("units", "trained"),
    [
        (("conv1",), ("conv1", "fc5")),
        (("fc3", "conv2"), ("conv2", "fc3", "fc5")),
        (("fc5",), ("fc5",)),
        (("fc4", "fc4"), ("fc4", "fc5")),
        (("first",), ("conv1", "fc5")),
        (("first", "conv1", "fc3"), ("conv1", "fc3", "fc5")),
    ],
)
@pytest.mark.parametrize("depth", [1, 5])
def test_surgical_trains_the_named_units_and_the_head(
    units: tuple[str, ...], trained: tuple[str, ...], depth: int
) -> None:
    plan = make_plan(NETWORK, _surgical(*units), depth, 7)
    assert plan.phases == (Phase(0, 7, tuple((unit, 1.0) for unit in trained)),)
    assert NETWORK.names[plan.boundary] == trained[0]


@pytest.mark.parametrize(
    ("units", "trained"), [(("first",), ("conv1",)), (("fc3", "conv2"), ("conv2", "fc3"))]
)
def test_surgical_may_keep_the_head(units: tuple[str, ...], trained: tuple[str, ...]) -> None:
    plan = make_plan(NETWORK, _surgical(*units, head=False), 1, 7)
    assert plan.phases == (Phase(0, 7, tuple((unit, 1.0) for unit in trained)),)
    assert plan.trained == set(trained)


def test_a_head_that_is_kept_is_not_trained() -> None:
    with pytest.raises(UserError) as error:
        make_plan(NETWORK, _surgical("conv1", "fc5", head=False), 1, 7)
    assert str(error.value).startswith(
        "regimes.*.units: got ['fc5']; accepted: some of conv1, conv2, fc3, fc4, first."
    )


# --- gradual ----------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(1, 400))
def test_gradual_phases_tile_the_updates_and_each_trains_one_more(depth: int, updates: int) -> None:
    regime = RegimeConfig("gradual")
    if updates < depth:
        with pytest.raises(UserError) as error:
            make_plan(NETWORK, regime, depth, updates)
        assert str(error.value) == (
            f"updates: got {updates}; accepted with regime gradual: at least {depth}, one for each unit"
        )
        return
    plan = make_plan(NETWORK, regime, depth, updates)
    phases = plan.phases
    assert [phase.trained for phase in phases] == [
        WEIGHTED[-count:] for count in range(1, depth + 1)
    ]
    assert phases[0].first == 0
    assert phases[-1].stop == plan.updates == updates
    assert all(one.stop == other.first for one, other in pairwise(phases))
    lengths = [phase.stop - phase.first for phase in phases]
    assert min(lengths) >= 1
    assert max(lengths) - min(lengths) <= 1
    assert not any(phase.restart for phase in phases)
    # What a unit's rate is does not depend on the phase: its state goes on at the same scale.
    assert all(set(one.rate_factors) < set(other.rate_factors) for one, other in pairwise(phases))
    assert phases[-1].rate_factors[-1] == ("fc5", 1.0)
    assert NETWORK.names[plan.boundary] == WEIGHTED[-depth]
    assert plan.trained == set(WEIGHTED[-depth:])


def test_gradual_at_depth_1_is_fine_tuning_the_head() -> None:
    assert make_plan(NETWORK, RegimeConfig("gradual"), 1, 30) == make_plan(
        NETWORK, RegimeConfig("fine_tune"), 1, 30
    )


# --- l2_sp ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_l2_sp_pulls_what_it_trains(depth: int) -> None:
    (phase,) = make_plan(NETWORK, RegimeConfig("l2_sp", alpha=0.5, beta=0.25), depth, 30).phases
    assert phase.rate_factors == ALL[-depth:]
    assert phase.to_start == tuple((unit, 0.5) for unit in WEIGHTED[-depth:-1])
    assert phase.to_zero == (("fc5", 0.25),)


# --- names and labels -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unit", ["conv", "conv11", "onv1", "CONV1", "fc", "pool1", "conv1/conv", ""]
)
def test_names_that_are_nearly_units_train_nothing(unit: str) -> None:
    """A prefix, a suffix or a pattern is no name."""
    regime = _surgical("fc4", unit) if unit else _surgical()
    with pytest.raises(UserError) as error:
        make_plan(NETWORK, regime, 1, 10)
    assert "accepted:" in str(error.value)
    assert "conv1, conv2, fc3, fc4, fc5" in str(error.value)
    if unit in ("conv", "conv11", "onv1"):
        assert "Did you mean conv" in str(error.value)


def _leaves(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def test_every_leaf_has_a_label() -> None:
    """Weights and statistics alike, and names that contain one another are not confused."""
    leaf = np.zeros(2)
    whole = {
        "params": {"dense": {"kernel": leaf, "bias": leaf}},
        "batch_stats": {"mean": leaf, "var": leaf},
    }
    variables = {"conv": whole, "conv1": whole, "conv11": whole, "pool": {}, "frozen1": whole}
    labels = leaf_labels(Phase(0, 1, (("conv1", 1.0),)), variables)
    assert jax.tree.structure(labels) == jax.tree.structure(variables)
    for path, label in _leaves(labels).items():
        assert label == ("conv1" if path.startswith("['conv1']") else FROZEN)
    assert len(_leaves(labels)) == 16


def test_a_label_that_covers_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="conv11"):
        leaf_labels(Phase(0, 1, (("conv1", 1.0), ("conv11", 1.0))), NETWORK.abstract_variables)


def test_the_label_of_what_is_frozen_is_no_trained_unit() -> None:
    with pytest.raises(ValueError, match="'frozen' cannot be trained"):
        leaf_labels(Phase(0, 1, ((FROZEN, 1.0),)), {FROZEN: {"params": np.zeros(1)}})


@pytest.mark.parametrize("depth", [0, 6, -1])
def test_a_plan_wants_a_resolved_depth(depth: int) -> None:
    with pytest.raises(ValueError, match=f"depth {depth} of 5"):
        make_plan(NETWORK, RegimeConfig("fine_tune"), depth, 10)


def test_plans_are_pure_and_serve_as_keys() -> None:
    regimes = [
        RegimeConfig(k) for k in ("fine_tune", "lp_ft", "gradual", "l2_sp", "discriminative")
    ]
    plans = {make_plan(NETWORK, regime, 3, 20) for regime in regimes * 2}
    assert len(plans) == len(regimes)
