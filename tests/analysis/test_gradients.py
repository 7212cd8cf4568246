"""One number a replicate from made-up tables of probes with known slopes."""

import numpy as np
import pandas as pd
import pytest
from made_rows import made_gradients

from convtl.analysis.gradients import (
    MEASURES,
    arrival_slope,
    arrivals,
    decades_lost,
    freezing_cost,
    relative_gradients,
    slopes,
)


def test_measures_of_known_slopes() -> None:
    frame = made_gradients(lost=0.5, slope=0.1, cost=0.3)
    where = {"decades_lost": "sigmoid", "decades_lost_at_first": "sigmoid"}
    values = {name: MEASURES[name](frame, where.get(name, "tanh")) for name in MEASURES}
    assert {name: one.tolist() for name, one in values.items()} == {
        "decades_lost": pytest.approx([0.5] * 3),
        "decades_lost_at_first": pytest.approx([2.0] * 3),  # of the chains of five
        "arrival_slope": pytest.approx([0.1] * 3),
        "freezing_slope": pytest.approx([0.3] * 3),
    }


def test_nothing_was_measured_is_empty() -> None:
    for name in MEASURES:
        assert not len(MEASURES[name](made_gradients(), "relu"))
        assert not len(MEASURES[name](made_gradients()[:0], "tanh"))


def test_losses_are_averaged_over_chains_and_initialisers() -> None:
    frame = made_gradients(lost=0.5)
    frame.loc[frame["initialiser"] == "he_normal", "value"] *= 4
    assert decades_lost(frame, "sigmoid").tolist() == pytest.approx([1.0] * 3)
    assert decades_lost(frame, "sigmoid", ["he_normal"]).tolist() == pytest.approx([2.0] * 3)
    first = decades_lost(frame, "sigmoid", ["he_normal"], at_first=True)
    assert first.tolist() == pytest.approx([8.0] * 3)
    assert list(relative_gradients(frame, "sigmoid", "he_normal", 5)) == [1, 2, 3, 4, 5]


def test_a_diverged_unit_is_left_out_of_the_slope() -> None:
    frame = made_gradients(lost=0.5)
    frame.loc[(frame["position"] == 2) & (frame["replicate"] == 1), "value"] = np.nan
    assert decades_lost(frame, "sigmoid").tolist() == pytest.approx([0.5] * 3)


def test_a_slope_needs_three_numbers() -> None:
    table = pd.DataFrame({1: [3.0, np.nan], 2: [2.0, 1.0], 3: [1.0, 1.0]})
    assert slopes(table).to_dict() == pytest.approx({0: -1.0})


def test_nets_that_did_not_learn_and_units_that_did_not_move_do_not_count() -> None:
    frame = made_gradients()
    still = (frame["quantity"] == "arrival") & (frame["replicate"] == 2) & (frame["position"] > 2)
    frame.loc[still, "value"] = np.nan
    assert list(arrival_slope(frame, "tanh").index) == [0, 1]
    frame.loc[frame["quantity"] == "test_accuracy", "value"] = 0.1
    assert not len(arrivals(frame, "tanh"))
    assert not len(freezing_cost(frame, "tanh"))


def test_the_cost_of_freezing_is_paired_with_the_whole_net() -> None:
    frame = made_gradients(cost=0.3)
    at_first = frame[(frame["probe"] == "freezing") & frame["unit"].notna()].assign(
        update=0, value=1.0
    )
    frame = pd.concat([frame, at_first])
    frame.loc[(frame["quantity"] == "test_logit") & (frame["replicate"] == 1), "value"] += 5
    assert freezing_cost(frame, "tanh").loc[1].tolist() == pytest.approx([1.2, 0.9, 0.6, 0.3, 0.0])
    equal = freezing_cost(frame, "tanh", update=0).loc[0]
    assert equal.tolist() == pytest.approx([equal[1]] * 5)
    assert not len(freezing_cost(frame, "tanh", "adam"))
