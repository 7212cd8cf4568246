"""One condition, its numbers by replicate, and differences between conditions, of studies with known effects."""

import re

import numpy as np
import pandas as pd
import pytest
from made_rows import frame_of, made_conditions, made_gradients, made_rows

from convtl.analysis.conditions import Conditions, MissingCondition
from convtl.study.rows import COLUMNS

NEAR = {"source": "latin", "target": "greek", "n_per_class": 10}
EXACT = {"sd": 0.0, "replicates": 3}


@pytest.fixture(scope="module")
def conditions() -> Conditions:
    return made_conditions(**EXACT)


def of(rows: list[dict]) -> Conditions:
    return Conditions(frame_of(rows))


def mean(values) -> float:
    return float(values.mean())


# --- one condition ------------------------------------------------------------------------


def test_the_coordinates_that_there_are(conditions) -> None:
    assert conditions.sources == ("latin", "noise", "scratch")
    assert conditions.targets == ("cyrillic", "greek")
    assert conditions.sizes == (2, 10, 50)
    assert conditions.depths == (1, 2, 3, 4, 5)
    assert conditions.schedules == (300, 1200)
    named = Conditions(
        conditions.frame, main_targets=["greek"], order=["scratch", "digits", "noise"]
    )
    assert named.targets == ("greek",)
    assert named.sources == ("scratch", "noise", "latin")


def test_one_number_a_replicate_in_their_order() -> None:
    rows = made_rows(replicates=4)
    values = of(rows[::-1]).values("test_nll", **NEAR, depth=2, updates=300)
    assert values.index.name == "replicate"
    expected = {
        row["replicate"]: row["test_nll"]
        for row in rows
        if all(row[key] == value for key, value in {**NEAR, "depth": 2, "updates": 300}.items())
    }
    assert values.to_dict() == pytest.approx(expected)
    assert list(values.index) == [0, 1, 2, 3]


def test_all_is_the_depth_of_the_whole_net_of_its_own_model() -> None:
    deeper = {"model": "resnet18", "n_units": 9}
    rows = made_rows(**EXACT) + made_rows(**EXACT, depths=[1, 5], change=lambda row: deeper)
    conditions = of(rows)
    whole = conditions.values("depth", **NEAR, depth="all", model="lenet5")
    assert set(whole) == {5}
    if "n_units" in COLUMNS:
        assert not conditions.has(**NEAR, depth="all", model="resnet18")
    assert conditions.has(**NEAR, depth=5, model="resnet18")


def test_left_out_the_shortest_schedule_and_plain_fine_tuning_are_meant() -> None:
    rows = made_rows(**EXACT, schedules=[1200, 300])
    other = made_rows(**EXACT, schedules=[300], change=lambda row: {"regime": "lp_ft"})
    conditions = of(other + rows)
    assert set(conditions.values("updates", **NEAR, depth=1)) == {300}
    assert conditions.summary(**NEAR, depth=1)["regime"] == "fine_tune"
    assert conditions.summary(**NEAR, depth=1, regime="lp_ft")["regime"] == "lp_ft"
    assert Conditions(frame_of(other)).summary(**NEAR, depth=1)["regime"] == "lp_ft"


@pytest.mark.parametrize(
    ("where", "line"),
    [
        (
            {"source": "latin", "target": "greek", "depth": 1},
            "several conditions: n_per_class 2, 10, 50",
        ),
        ({**NEAR}, "several conditions: depth 1, 2, 3, 4, 5"),
        ({**NEAR, "depth": 7}, "no trials; there are depth 1, 2, 3, 4, 5"),
        ({**NEAR, "depth": 1, "updates": 5}, "no trials; there are updates 300, 1200"),
        ({**NEAR, "source": "digits"}, "no trials; there are source latin, noise, scratch"),
        ({**NEAR, "depth": 1, "similarity": 0.5}, "no trials; there are similarity none"),
        ({**NEAR, "depth": 1, "shift.noise": 0.4}, "no trials differ in shift.noise"),
    ],
)
def test_missing_conditions_are_one_line_with_what_there_is(conditions, where, line) -> None:
    assert not conditions.has(**where)
    with pytest.raises(MissingCondition, match=re.escape(line)) as error:
        conditions.values(**where)
    assert str(error.value).startswith("source ")
    assert "\n" not in str(error.value)


def test_a_column_that_no_row_has_is_missing(conditions) -> None:
    with pytest.raises(MissingCondition, match="no column moved_by"):
        conditions.values("moved_by", **NEAR, depth=1)


def test_axes_are_coordinates_by_their_keys_whatever_the_type_of_a_value() -> None:
    rows = [
        row
        for noise in (0, 0.4, "x")
        for row in made_rows(
            **EXACT,
            sources=["latin"],
            change=lambda row, noise=noise: {"axes": {"shift.noise": noise}, "lr": len(str(noise))},
        )
    ]
    conditions = of(rows)
    for noise, length in ((0, 1), (0.0, 1), ("0", 1), (0.4, 3), ("x", 1)):
        assert set(conditions.values("lr", **NEAR, depth=1, **{"shift.noise": noise})) == {length}
    with pytest.raises(MissingCondition, match=r"several conditions: shift\.noise 0, 0\.4, x"):
        conditions.values(**NEAR, depth=1)


def test_left_out_what_most_rows_have_is_meant() -> None:
    """A part of a study on a shorter schedule, or budgeted, changes no number of the rest."""
    usual = made_rows(**EXACT, schedules=(300,), change=lambda row: {"axes": BESIDE})
    latin = {**EXACT, "sources": ("latin",)}
    brief = made_rows(**latin, schedules=(75,), depths=(5,), change=lambda row: {"axes": BESIDE})
    budgeted = made_rows(**latin, schedules=(300,), depths=(1, 5), change=_budgeted)
    whole, part = of([*usual, *brief, *budgeted]), of(usual)
    assert mean(whole.measured("depth_benefit", **NEAR)) == pytest.approx(
        mean(part.measured("depth_benefit", **NEAR))
    )
    assert mean(whole.values("updates", **NEAR, depth=5)) == 300
    assert mean(whole.values("test_accuracy", **NEAR, depth=5, validation="within")) == 0.25
    assert part.values(**NEAR, depth=5, **BESIDE).equals(part.values(**NEAR, depth=5))
    no_axis = made_conditions(**EXACT, schedules=(300,))
    assert len(no_axis.values(**NEAR, depth=5, **BESIDE)) == 3  # no axis, but all rows are so
    with pytest.raises(MissingCondition, match="no trials differ in validation"):
        no_axis.values(**NEAR, depth=5, validation="within")


BESIDE = {"validation": "beside"}


def _budgeted(row: dict) -> dict:
    return {"axes": {"validation": "within"}, "test_accuracy": 0.25}


def test_mixtures_are_told_apart_by_their_similarity() -> None:
    conditions = made_conditions(
        **EXACT, sources=["mixture", "scratch"], similarities=[0.0, 0.5, 1.0]
    )
    where = {**NEAR, "source": "mixture"}
    benefits = [
        mean(conditions.measured("depth_benefit", **where, similarity=s)) for s in (0, 0.5, 1)
    ]
    assert benefits == pytest.approx([0.6, 0.2, -0.2], abs=1e-6)
    assert mean(conditions.measured("transfer_gain", **where, similarity=0.5)) == pytest.approx(
        0.6, abs=1e-6
    )
    with pytest.raises(MissingCondition, match=r"similarity 0\.0, 0\.5, 1\.0"):
        conditions.measured("depth_benefit", **where)


def test_rows_of_other_recipes_never_mix() -> None:
    pair = made_rows(**EXACT, sizes=[10], classes=2, change=lambda row: {"config": "pair"})
    conditions = of(made_rows(**EXACT) + pair)
    with pytest.raises(
        MissingCondition, match="several conditions: config c0ffee, pair; n_classes"
    ):
        conditions.values(**NEAR, depth=1)
    assert len(conditions.values(**NEAR, depth=1, config="c0ffee")) == 3
    assert set(conditions.values("n_train", **NEAR, depth=1, n_classes=2)) == {20}
    gain = conditions.measured("transfer_gain", **NEAR, n_classes=2)
    assert mean(gain) == pytest.approx(1.2, abs=1e-6)
    assert set(gain.index) == {0, 1, 2}


def test_places_of_the_same_trials_are_one_condition() -> None:
    rows = made_rows(**EXACT, sources=["scratch"])
    twice = frame_of(rows)
    twice = pd.concat(
        [twice.assign(upper=upper) for upper in ("source", "fresh")], ignore_index=True
    )
    assert len(Conditions(twice).values(source="scratch", target="greek", n_per_class=10)) == 3


def test_unfinished_diverged_and_thawed_trials_do_not_count() -> None:
    fates = {0: {"status": "failed"}, 1: {"status": "diverged"}, 2: {"frozen_ok": False}}
    conditions = of(made_rows(replicates=5, change=lambda row: fates.get(row["replicate"], {})))
    assert list(conditions.values(**NEAR, depth=1).index) == [3, 4]
    assert conditions.summary(**NEAR, depth=1)["m"] == 2
    nothing = of(made_rows(replicates=2, change=lambda row: fates[0]))
    assert nothing.table().empty
    with pytest.raises(MissingCondition, match="no trial is done"):
        nothing.values(**NEAR, depth=1)


# --- numbers of several conditions ----------------------------------------------------------


def test_known_effects_come_back(conditions) -> None:
    for n, u in ((2, np.log2(0.2)), (10, 0), (50, np.log2(5))):
        where = {**NEAR, "n_per_class": n}
        assert mean(conditions.measured("depth_benefit", **where)) == pytest.approx(
            -0.2 + 0.2 * u, abs=1e-6
        )
        assert mean(conditions.measured("transfer_gain", **where)) == pytest.approx(1.2, abs=1e-6)
        assert mean(conditions.measured("transfer_gain", **where, depth=1)) == pytest.approx(
            1.4 - 0.2 * u, abs=1e-6
        )
        assert mean(
            conditions.measured("schedule_gain", low=300, high=1200, **where, depth=3)
        ) == pytest.approx(0.2 + 0.1 * u, abs=1e-6)


def test_differences_are_taken_within_replicates() -> None:
    conditions = made_conditions(sd=0.01, shared_sd=3.0)
    assert conditions.values(**NEAR, depth=1).std() > 1
    for values in (
        conditions.measured("depth_benefit", **NEAR),
        conditions.measured("transfer_gain", **NEAR),
    ):
        assert values.std() < 0.05
        assert len(values) == 6


def test_both_sides_of_a_difference_have_the_same_schedule() -> None:
    rows = [
        row
        for row in made_rows(**EXACT)
        if row["source"] == "scratch" or (row["depth"] == 5) == (row["updates"] == 1200)
    ]
    with pytest.raises(MissingCondition, match="no trials; there are depth 5"):
        of(rows).measured("depth_benefit", **NEAR)


def test_scratch_may_have_a_schedule_of_its_own(conditions) -> None:
    gain = conditions.measured("transfer_gain", scratch_updates=1200, **NEAR, updates=300)
    assert mean(gain) == pytest.approx(1.2 - 0.2, abs=1e-6)


def test_scratch_is_found_whatever_depth_and_regime_are_asked_for() -> None:
    tuned = made_rows(**EXACT, sources=["latin"], change=lambda row: {"regime": "lp_ft"})
    conditions = of(tuned + made_rows(**EXACT, sources=["scratch"]))
    assert mean(conditions.measured("transfer_gain", **NEAR, regime="lp_ft")) == pytest.approx(
        1.2, abs=1e-6
    )
    scratch = conditions.values(**{**NEAR, "source": "scratch"}, depth=1, regime="lp_ft")
    assert len(scratch) == 3


def test_each_replicate_chooses_its_depth_on_its_own_validation() -> None:
    best = {0: 1, 1: 3, 2: 5}

    def change(row):
        return {"val_accuracy": 0.9 if best[row["replicate"]] == row["depth"] else 0.5}

    conditions = of(made_rows(**EXACT, change=change))
    chosen = conditions.measured("chosen_depth", depths=[1, 2, 3, 4, "all"], **NEAR)
    expected = {r: conditions.values(**NEAR, depth=k)[r] for r, k in best.items()}
    assert chosen.to_dict() == pytest.approx(expected)
    equal = of(made_rows(**EXACT, change=lambda row: {"val_accuracy": 0.5}))
    assert equal.measured("chosen_depth", depths=[2, 3], **NEAR).equals(
        equal.values(**NEAR, depth=2).rename(None)
    )


# --- flaws --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logit", "classes", "flaw"),
    [
        (np.log(0.165 / 0.835), 12, "floor"),  # chance is 1/12
        (np.log(0.170 / 0.830), 12, None),
        (np.log(0.5), 2, None),  # two classes have no floor
        (np.log(29.5 / 1170.5) * -1, 12, "ceiling"),
        (np.log(30.5 / 1169.5) * -1, 12, None),
    ],
)
def test_floor_and_ceiling(logit, classes, flaw) -> None:
    rows = made_rows(
        lambda *place: logit, sd=0, shared_sd=0, replicates=2, classes=classes, sizes=[10]
    )
    assert of(rows).summary(**NEAR, depth=1)["flaw"] == (flaw or "")


def test_the_share_of_rates_at_an_edge() -> None:
    conditions = of(
        made_rows(replicates=4, change=lambda row: {"lr_at_edge": row["replicate"] == 0})
    )
    assert conditions.summary(**NEAR, depth="all")["at_edge"] == 0.25


@pytest.mark.parametrize(
    ("gains", "answer"),
    [([0.5, 0.5], (4800, False)), ([0.5, 0.049], (1200, True)), ([0.049, 0.5], (300, True))],
)
def test_scratch_is_flat_once_four_times_the_updates_gain_little(gains, answer) -> None:
    total = dict(zip((300, 1200, 4800), np.cumsum([0.0, *gains]), strict=True))
    conditions = made_conditions(
        lambda source, n, depth, updates, s: total[updates],
        **EXACT,
        sources=["scratch"],
        schedules=[300, 1200, 4800],
    )
    assert conditions.scratch_flat(target="greek", n_per_class=10) == answer
    with pytest.raises(MissingCondition, match="n_per_class"):
        conditions.scratch_flat(target="greek", n_per_class=3)


# --- all conditions -------------------------------------------------------------------------


def test_the_table_has_a_line_for_each_condition() -> None:
    conditions = made_conditions(replicates=4)
    table = conditions.table()
    assert len(table) == 2 * 2 * 3 * 5 * 2 + 2 * 3 * 2
    values = conditions.values(**NEAR, depth=3, updates=1200)
    line = conditions.summary(**NEAR, depth=3, updates=1200)
    assert (line["m"], line["n_val"], line["n_units"], line["n_classes"]) == (4, 240, 5, 12)
    assert (line["logit"], line["sd"]) == pytest.approx((values.mean(), values.std()))
    assert (line["flops"], line["flaw"], line["at_edge"]) == (3_000_000 * 1200, "", 0)
    fresh = conditions.summary(**{**NEAR, "source": "scratch"})
    assert np.isnan(fresh["source_accuracy"])


def test_gradients_are_looked_up_by_name() -> None:
    frame = made_conditions(**EXACT, sizes=[2]).frame
    conditions = Conditions(frame, made_gradients(lost=0.4))
    assert mean(conditions.gradient("decades_lost", activation="sigmoid")) == pytest.approx(0.4)
    with pytest.raises(
        MissingCondition,
        match="decades_lost with activation relu: not measured, or of nets at floor",
    ):
        conditions.gradient("decades_lost", activation="relu")
    with pytest.raises(MissingCondition, match="no table of gradients"):
        Conditions(frame).gradient("decades_lost", activation="sigmoid")
