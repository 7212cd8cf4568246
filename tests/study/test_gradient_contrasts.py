"""One number per replicate from made-up tables with known slopes."""

import numpy as np
import pandas as pd
import pytest

from convtl.analysis.gradients import (
    CONTRASTS,
    arrivals,
    early_slowest,
    freezing_cost,
    freezing_slope,
    gradient_values,
    lost_at_first,
    lost_per_unit,
    relative_gradients,
    vanishing,
)
from convtl.training.probes import COLUMNS

SCALED = ("lecun_normal", "glorot_uniform", "he_normal")


def frame(rows):
    return pd.DataFrame(
        [dict(zip(COLUMNS, row, strict=True)) for row in rows], columns=list(COLUMNS)
    )


def chains(lost, hidden=(5, 10), updates=(0, 100), initialisers=SCALED, activation="sigmoid"):
    """R falls by `lost(initialiser, hidden, update, replicate)` decades a unit."""
    return frame(
        [
            (
                "profile",
                "plain",
                activation,
                initialiser,
                depth,
                "sgd",
                replicate,
                update,
                f"fc{place}",
                place,
                "relative_gradient",
                -lost(initialiser, depth, update, replicate) * (depth - place),
            )
            for initialiser in initialisers
            for depth in hidden
            for update in updates
            for replicate in range(3)
            for place in range(1, depth + 1)
        ]
    )


def lenet(arrived, accuracy=0.8, optimiser="sgd", activation="tanh"):
    """`arrived`: replicates x units."""
    head = ("convergence", "lenet5", activation, "lecun_normal", None, optimiser)
    rows = [
        (*head, replicate, 600, f"u{place}", place, "arrival", value)
        for replicate, values in enumerate(arrived)
        for place, value in enumerate(values, start=1)
    ]
    for replicate in range(len(arrived)):
        own = accuracy[replicate] if isinstance(accuracy, list) else accuracy
        rows += [(*head, replicate, 600, None, None, "test_accuracy", own)]
        rows += [(*head, replicate, 600, None, None, "chance", 1 / 12)]
    return frame(rows)


def test_slopes_and_losses_of_a_profile():
    data = chains(lambda initialiser, hidden, update, replicate: 0.5 + 0.1 * replicate)
    profile = relative_gradients(data, "sigmoid", initialiser="he_normal", hidden=5, update=100)
    assert list(profile.columns) == [1, 2, 3, 4, 5]
    assert lost_per_unit(profile).tolist() == pytest.approx([0.5, 0.6, 0.7])
    assert lost_at_first(profile).tolist() == pytest.approx([2.0, 2.4, 2.8])


def test_what_was_not_measured_is_empty():
    data = chains(lambda *_: 1.0)
    assert not len(
        lost_at_first(relative_gradients(data, "relu", initialiser="he_normal", hidden=5, update=0))
    )
    for name in CONTRASTS:
        assert len(gradient_values(data, name)) == (3 if name.startswith("c1_sigmoid") else 0)
        assert not len(gradient_values(data.iloc[:0], name))


def test_weak_is_the_average_before_training_and_strong_the_least_of_all():
    data = chains(
        lambda initialiser, hidden, update, r: (
            SCALED.index(initialiser) + hidden / 10 + (update == 0) * 3
        )
    )
    assert vanishing(data, "sigmoid").tolist() == pytest.approx([1 + 0.75 + 3] * 3)
    assert gradient_values(data, "c1_sigmoid_strong").tolist() == pytest.approx([0.5] * 3)
    assert gradient_values(data, "c1_sigmoid_first").tolist() == pytest.approx(
        [4 * (1 + 0.5 + 3) - 1] * 3
    )


def test_a_diverged_unit_is_left_out_of_the_slope():
    data = chains(lambda *_: 1.0)
    data.loc[(data["position"] == 2) & (data["replicate"] == 1), "value"] = np.nan
    profile = relative_gradients(data, "sigmoid", initialiser="he_normal", hidden=5, update=0)
    assert lost_per_unit(profile).tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize(
    ("arrived", "slope"),
    [
        ([10000, 1000, 100, 10, 1], 1.0),  # early layers are the slowest
        ([1, 10, 100, 1000, 10000], -1.0),  # bottom-up
        ([100, np.nan, 10, np.nan, 1], 0.5),
    ],
)
def test_early_layers_are_slowest_where_arrivals_fall_with_position(arrived, slope):
    data = lenet([arrived, arrived])
    assert early_slowest(data, "tanh", "sgd").tolist() == pytest.approx([slope] * 2)
    assert gradient_values(data, "c2_tanh_sgd").tolist() == pytest.approx([slope] * 2)


def test_nets_that_did_not_learn_and_units_that_did_not_move_do_not_count():
    data = lenet([[5, 4, 3, 2, 1]] * 2 + [[5, np.nan, np.nan, np.nan, 1]], accuracy=[0.8, 0.1, 0.8])
    assert list(arrivals(data, "tanh", "sgd").index) == [0, 2]
    assert list(early_slowest(data, "tanh", "sgd").index) == [0]
    nothing = lenet([[5, 4, 3, 2, 1]], accuracy=0.08)
    assert not len(early_slowest(nothing, "tanh", "sgd"))


def test_the_cost_of_freezing_is_paired_with_the_whole_net():
    head = ("freezing", "lenet5", "tanh", "lecun_normal", None, "sgd")
    rows = [(*head, r, 300, None, None, "test_logit", 2.0 + r) for r in range(2)]
    rows += [
        (*head, r, at, f"u{place}", place, "test_logit", 2.0 + r - cost * (at == 50) - 1)
        for r in range(2)
        for at in (0, 50)
        for place, cost in enumerate([0.4, 0.3, 0.2, 0.1, 9.0], start=1)
    ]
    data = frame(rows)
    assert freezing_cost(data, "tanh", "sgd", 0).to_numpy() == pytest.approx(1)
    assert freezing_cost(data, "tanh", "sgd", 50).loc[1].tolist() == pytest.approx(
        [1.4, 1.3, 1.2, 1.1, 10]
    )
    assert freezing_slope(data, "tanh", "sgd").tolist() == pytest.approx([0.1, 0.1])
    assert freezing_slope(data, "tanh", "sgd", at=0).tolist() == pytest.approx([0, 0], abs=1e-9)
    assert gradient_values(data, "c2_freeze_tanh_sgd").tolist() == pytest.approx([0.1, 0.1])
