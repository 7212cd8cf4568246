"""Validation accuracy over a study, as a sweep sees it."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convtl.study.watcher import CurvePoint
from convtl.tracking import RunningAccuracy

MEAN = "study/mean_val_accuracy"


def row(trial: str, accuracy: float | None, **more: Any) -> dict[str, Any]:
    return {
        "trial": trial,
        "status": "done",
        "val_accuracy": accuracy,
        "test_accuracy": 0.99,
    } | more


def point(
    trial: str, rate: float, accuracy: float, update: int = 3, loss: float = 1.0
) -> CurvePoint:
    return CurvePoint(trial, rate, update, 6, loss, accuracy)


def test_nothing_is_told_of_nothing() -> None:
    assert RunningAccuracy().values() == {"study/trials": 0}


def test_a_trial_in_flight_counts_with_its_best_rate_and_then_with_its_row() -> None:
    means = RunningAccuracy()
    means.add_row(row("a", 0.5))
    means.add_points([point("b", 1e-3, 0.1), point("b", 1e-2, 0.3)])
    assert means.values()[MEAN] == pytest.approx(0.4)
    means.add_points(
        [point("b", 1e-3, 0.2), point("b", 1e-2, 0.1)]
    )  # as it is now, not as it was at its best
    assert means.values()[MEAN] == pytest.approx(0.35)
    means.add_row(row("b", 0.7))
    assert means.values()[MEAN] == pytest.approx(0.6)
    assert means.values()["study/trials"] == 2


def test_what_is_finished_is_not_in_flight_again() -> None:
    means = RunningAccuracy()
    means.add_row(row("a", 0.5))
    means.add_points([point("a", 1e-3, 0.1)])
    assert means.values()[MEAN] == 0.5


def test_diverged_trials_are_counted_and_left_out() -> None:
    means = RunningAccuracy()
    means.add_points([point("a", 1e-3, 0.9), point("b", 1e-3, math.nan)])
    means.add_row({"trial": "a", "status": "diverged"})
    means.add_row(row("c", 0.25))
    means.add_row({"trial": "d", "status": "failed"})
    assert means.values() == {
        "study/trials": 2,
        MEAN: 0.25,
    }


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), max_size=20), st.randoms())
def test_the_end_does_not_depend_on_order_or_on_what_was_in_flight(
    rows: list[Any], random: Any
) -> None:
    final = {f"t{number}": accuracy for number, accuracy in rows}
    plain, told = RunningAccuracy(), RunningAccuracy()
    for trial, accuracy in final.items():
        plain.add_row(row(trial, accuracy))
    for trial in random.sample(sorted(final), len(final)):
        told.add_points([point(trial, 1e-3, random.random())])
        told.add_row(row(trial, final[trial]))
        told.add_row(row(trial, final[trial]))
    assert told.values() == plain.values()
