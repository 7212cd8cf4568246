"""Rates at the edge of those that were compared, and what they may cost."""

import math

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from convtl.analysis.edges import TunedArm, edges_of, tuned_arms
from convtl.study.grid import expand
from convtl.study.store import Row
from convtl.study.tuning import tuning_points

RATES = (0.001, 0.01, 0.1)


def row(*accuracies: float | None, beyond: float | None = None) -> Row:
    """A tuning trial with an accuracy at each rate of the grid, and at one above it."""
    scores = [[rate, accuracy, 1.0] for rate, accuracy in zip(RATES, accuracies, strict=True)]
    scores += [[1.0, beyond, 1.0]] if beyond is not None else []
    return {"status": "done", "n_val": 100, "scores": scores}


def arm(*rows: Row, whole: bool = True) -> TunedArm:
    return TunedArm(rows, RATES, whole)


def test_what_a_trial_gains_past_the_edge_is_the_loss() -> None:
    inside = arm(row(0.5, 0.7, 0.6), row(0.5, 0.7, 0.6))
    edge = arm(row(0.5, 0.6, 0.7, beyond=0.8), row(0.5, 0.6, 0.7), whole=False)
    found = edges_of([inside, edge])
    assert (found.arms, found.at_edge) == (2, 1)
    assert found.whole is None
    assert found.fewer is not None
    gained = math.log(80.5 / 20.5) - math.log(70.5 / 30.5)  # z = logit((correct + 1/2) / (N + 1))
    assert found.fewer.largest == pytest.approx(gained)
    assert found.fewer.mean == pytest.approx(found.fewer.largest / 2)
    assert found.fewer.trials == 2


def test_a_trial_that_diverged_at_the_rate_says_nothing() -> None:
    found = edges_of([arm(row(None, None, 0.7), row(0.6, None, None))])
    assert (found.arms, found.at_edge) == (1, 1), "no rate is shared: the lowest is taken"
    assert found.whole is not None
    assert found.whole.trials == 1
    assert edges_of([]).whole is None


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=4))
def test_losses_are_never_negative_and_no_mean_is_above_the_largest(trials) -> None:
    found = edges_of([arm(*(row(*own[:3], beyond=own[3]) for own in trials))])
    if found.whole is not None:
        assert 0 <= found.whole.mean <= found.whole.largest + 1e-12


def test_arms_are_those_of_the_rule_that_chooses_rates() -> None:
    content = tiny.content(
        *tiny.MORE,
        "target=[cyrillic,armenian]",
        "depth=[1,5]",
        "source=[latin,scratch]",
        "replicates=2",
        "tuning={targets: [cyrillic,armenian], replicates: 2}",
    )
    points, tuning = expand(content)[1], tuning_points(content)
    rows = {trial.id: row(0.5, 0.6, 0.7) for trial in tuning}
    found = tuned_arms(points, tuning, rows)
    assert len(found) == 6, "two targets of three arms, whatever the replicates"
    assert sum(one.whole for one in found) == 4
    assert {len(one.rows) for one in found} == {2}
    del rows[tuning[0].id]
    assert len(tuned_arms(points, tuning, rows)) == 5
    assert tuned_arms(expand(tiny.content())[1], [], {}) == []
