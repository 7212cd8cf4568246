"""Cells: what is looked up by name, what is missing by name, and what never enters."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from cell_rows import MAIN, rows

from convtl.analysis.arms import frame
from convtl.analysis.cells import (
    AtEdge,
    Cells,
    NotEnoughData,
    chosen_elsewhere,
    mean_of,
    mean_over,
    slope_of,
)
from convtl.analysis.needs import Need

CELLS = [
    Need(source, n, depth, updates)
    for source in ("latin", "noise")
    for n in (2, 10)
    for depth in (1, 2, 5)
    for updates in (300, 1200)
]
SCRATCH = [Need("scratch", n, 5, updates) for n in (2, 10) for updates in (300, 1200)]


def score(need, target, replicate):
    """Every cell, target and replicate adds something of its own."""
    return (
        {"latin": 1.0, "noise": 0.2, "scratch": 0.0}.get(need.source, 0.5)
        + 0.1 * need.depth
        + 0.01 * need.n_per_class
        + need.updates / 10_000
        + (0.001 if target == "armenian" else 0.0)
        + 0.03 * replicate
    )


def view(cells=(*CELLS, *SCRATCH), replicates=3, **other):
    return Cells(frame(rows(cells, score, replicates=replicates, **other)), MAIN)


def test_a_cell_is_one_number_a_target_and_replicate():
    found = view().z("latin", 10, 2, 300)
    assert found.index.names == ["target", "replicate"]
    assert list(found.index) == [(target, replicate) for target in MAIN for replicate in range(3)]
    expected = [score(Need("latin", 10, 2, 300), *place) for place in found.index]
    assert found.to_numpy() == pytest.approx(expected, abs=1e-6)
    assert set(view().z("latin", 10, 2, 300, target="armenian").index.get_level_values(0)) == {
        "armenian"
    }


def test_differences_are_taken_inside_a_target_and_replicate():
    cells = view()
    assert cells.D("latin", 10, 300).to_numpy() == pytest.approx([0.4] * 6, abs=1e-6)
    assert cells.G("noise", 2, 1, 300).to_numpy() == pytest.approx([0.2 - 0.4] * 6, abs=1e-6)
    assert cells.G("noise", 2, "all", 300).to_numpy() == pytest.approx([0.2] * 6, abs=1e-6)
    assert cells.L("latin", 10, 1200, 300).to_numpy() == pytest.approx([0.09] * 6, abs=1e-6)
    assert cells.full == 5


def test_what_is_missing_is_named():
    cells = view()
    with pytest.raises(
        NotEnoughData, match="target cyrillic, source latin, n_per_class 50, depth 1, 300 updates"
    ):
        cells.z("latin", 50, 1, 300)
    with pytest.raises(
        NotEnoughData,
        match="source latin, n_per_class 10, depth 2, 300 updates, upper layers fresh",
    ):
        cells.z("latin", 10, 2, 300, upper="fresh")
    with pytest.raises(NotEnoughData, match="target armenian"):
        Cells(frame(rows(CELLS, score, targets=["cyrillic"])), MAIN).z("latin", 10, 2, 300)
    with pytest.raises(NotEnoughData, match="no finished trial with val_accuracy"):
        view(val_accuracy=None).validated("latin", 10, (1, 2, "all"), 300)
    with pytest.raises(NotEnoughData, match="a target with finished trials"):
        Cells(frame(rows(CELLS, score)), ()).z("latin", 10, 2, 300)


def test_a_replicate_that_lacks_one_side_is_a_gap():
    data = frame(rows(CELLS, score, replicates=3))
    gap = (data["replicate"] == 1) & (data["depth"] == 1)
    benefit = Cells(data[~gap], MAIN).D("latin", 10, 300)
    assert benefit.isna().sum() == 2
    assert len(Cells(data[~gap], MAIN).curve("latin", 10, (1, 2, "all"), 300)) == 4


def test_mixtures_are_named_with_their_share_and_their_ends_are_the_rungs():
    dial = [Need(f"mixture@{share}", 10, 5, 300) for share in ("0.25", "0.5")]
    cells = view((*CELLS, *dial, Need("own", 10, 5, 300)))
    half = cells.z("mixture@0.5", 10, "all", 300)
    assert half.to_numpy() == pytest.approx(
        [score(Need("mixture@0.5", 10, 5, 300), *place) for place in half.index], abs=1e-6
    )
    assert cells.z("mixture@0", 10, "all", 300).equals(cells.z("noise", 10, "all", 300))
    assert cells.z("mixture@1", 10, "all", 300).equals(cells.z("own", 10, "all", 300))
    with pytest.raises(NotEnoughData, match=r"mixture@0\.75"):
        cells.z("mixture@0.75", 10, "all", 300)
    own_end = Need("mixture@1", 10, 5, 300)  # trials of the mixture itself come first
    both = rows([own_end], lambda *_: 3.0) + rows([Need("own", 10, 5, 300)], score)
    assert Cells(frame(both), MAIN).z("mixture@1", 10, 5, 300).to_numpy() == pytest.approx(
        [3.0] * 24, abs=1e-6
    )


def test_a_share_that_went_through_a_csv_file_is_the_same():
    made = rows([Need("mixture@0.5", 10, 5, 300)], score, replicates=2)
    text = [{name: str(value) for name, value in item.items() if name != "axes"} for item in made]
    assert Cells(frame(text), MAIN).z("mixture@0.5", 10, 5, 300).to_numpy() == pytest.approx(
        Cells(frame(made), MAIN).z("mixture@0.5", 10, 5, 300).to_numpy()
    )


def test_fresh_upper_layers_are_other_cells():
    apart = [replace(need, upper="fresh") for need in CELLS]
    both = rows(CELLS, score) + rows(apart, lambda need, *place: 5.0 + score(need, *place))
    cells = Cells(frame(both + rows(SCRATCH, score)), MAIN)
    plain = cells.z("latin", 10, 2, 300, target="cyrillic")
    frozen = cells.frozen("latin", 10, 3, 300, "cyrillic")
    assert (frozen - plain).to_numpy() == pytest.approx([5.0] * 12, abs=1e-5)
    kept = [
        {**item, "axes": {"upper_init": "fresh", "n_transferred": 3}}
        for item in rows(apart, lambda *_: 9.0)
    ]
    again = Cells(
        frame([{**item, "axes": {**item["axes"], "n_transferred": None}} for item in both] + kept),
        MAIN,
    )
    assert again.frozen("latin", 10, 3, 300, "cyrillic").equals(frozen)


def test_both_arms_under_twice_chance_are_floor():
    low = np.log(0.1 / 0.9)
    deep = Need("latin", 10, 5, 300)
    dead = frame(rows(CELLS, lambda *_: low))
    with pytest.raises(
        NotEnoughData, match="target cyrillic, source latin, n_per_class 10, 300 updates: floor"
    ):
        Cells(dead, MAIN).D("latin", 10, 300)
    one_works = frame(rows(CELLS, lambda need, *_: 0.0 if need == deep else low))
    assert Cells(one_works, MAIN).D("latin", 10, 300).to_numpy() == pytest.approx(
        [-low] * 24, abs=1e-5
    )
    two_classes = frame(
        rows(CELLS, lambda *_: 0.0, n_train=20)
    )  # twice chance is everything: not asked
    assert len(Cells(two_classes, MAIN).D("latin", 10, 300)) == 24


LOW, HIGH = np.log(0.1 / 0.9), np.log(0.99 / 0.01)


@pytest.mark.parametrize(("z", "edge"), [(LOW, "floor"), (HIGH, "ceiling")])
def test_cells_at_an_edge_enter_no_test_of_gain_or_schedule(z, edge):
    cells = Cells(frame(rows((*CELLS, *SCRATCH), lambda *_: z)), MAIN)
    for contrast in (
        lambda: cells.G("latin", 10, 2, 300),
        lambda: cells.L("latin", 10, 1200, 300),
        lambda: cells.check("latin", 10, 300),
    ):
        with pytest.raises(AtEdge, match=f"source latin, n_per_class 10, .*: {edge}") as what:
            contrast()
        assert (what.value.edge, what.value.cell) == (edge, "latin to cyrillic at n=10")
    assert len(cells.gain("latin", 10, 2, 300)) == 24  # for pictures


def test_what_a_cell_is_compared_with_does_not_put_it_at_floor():
    dead_scratch = rows(CELLS, lambda *_: 0.0) + rows(SCRATCH, lambda *_: LOW)
    assert Cells(frame(dead_scratch), MAIN).G("latin", 10, 2, 300).to_numpy() == pytest.approx(
        [-LOW] * 24, abs=1e-5
    )
    learned = rows(CELLS, lambda *_: HIGH) + rows(SCRATCH, lambda *_: 0.0)
    assert len(Cells(frame(learned), MAIN).G("latin", 10, 2, 300)) == 24
    long = rows(CELLS, lambda need, *_: 0.0 if need.updates == 1200 else LOW)
    assert len(Cells(frame(long), MAIN).L("latin", 10, 1200, 300)) == 24


def test_a_cell_in_which_one_regime_learns_is_not_at_floor():
    others = [replace(need, regime="first_unit_only") for need in CELLS]
    made = rows(CELLS, lambda *_: LOW) + rows(others, lambda *_: 0.0)
    cells = Cells(frame(made), MAIN)
    cells.check("latin", 10, 300)
    cells.by("fine_tune").check("latin", 10, 300)
    with pytest.raises(AtEdge):
        Cells(frame(rows(CELLS, lambda *_: LOW)), MAIN).by("fine_tune").check("latin", 10, 300)


def test_a_mean_is_over_cells_that_are_not_at_an_edge():
    made = rows(
        (*CELLS, *SCRATCH),
        lambda need, *place: LOW if need.n_per_class == 2 else score(need, *place),
    )
    cells = Cells(frame(made), MAIN)
    parts = [lambda n=n: cells.G("latin", n, "all", 300) for n in (2, 10)]
    assert mean_over(cells, parts).equals(cells.G("latin", 10, "all", 300))
    assert [what.cell for what in cells.left_out] == ["latin to cyrillic at n=2"]
    with pytest.raises(AtEdge):
        mean_over(cells, parts[:1])
    assert cells.noting().left_out == []


def test_validation_chooses_within_a_replicate_and_the_smaller_depth_of_equals():
    made = rows(CELLS, score, replicates=3)
    best = {0: (0.9, 0.5, 0.1), 1: (0.5, 0.7, 0.7), 2: (0.2, 0.2, 0.3)}
    for item in made:
        item["val_accuracy"] = best[item["replicate"]][(1, 2, 5).index(item["depth"])]
    cells = Cells(frame(made), MAIN)
    found = cells.validated("latin", 10, (1, 2, "all"), 300)
    for (target, replicate), value in found.items():
        depth = {0: 1, 1: 2, 2: 5}[replicate]
        assert value == pytest.approx(
            score(Need("latin", 10, depth, 300), target, replicate), abs=1e-6
        )


def test_no_replicate_helps_to_choose_what_it_scores():
    places = pd.MultiIndex.from_product([["a"], [0, 1, 2]], names=["target", "replicate"])
    curve = pd.DataFrame({1: [9.0, 0.0, 0.0], 2: [0.0, 1.0, 1.0]}, index=places)
    # others of 0: column 2 (1 against 0); others of 1 and 2: column 1 (4.5 against .5)
    assert chosen_elsewhere(curve).to_list() == [0.0, 0.0, 0.0]
    two = pd.concat(
        {"a": curve.droplevel("target"), "b": curve.droplevel("target") * -1}, names=["target"]
    )
    two.index.names = ["target", "replicate"]
    assert chosen_elsewhere(two).loc["b"].to_list() == [-9.0, -1.0, -1.0]
    assert chosen_elsewhere(curve.iloc[:1]).isna().all()


def test_means_and_slopes_keep_gaps():
    places = pd.Index([0, 1], name="replicate")
    parts = [pd.Series(values, places) for values in ((1.0, 2.0), (3.0, np.nan), (8.0, 4.0))]
    assert mean_of(parts).to_list() == pytest.approx([4.0, np.nan], nan_ok=True)
    assert slope_of([1, 2, 3], parts).to_list() == pytest.approx([3.5, np.nan], nan_ok=True)


def test_nothing_but_the_test_scores_enters():
    made = rows((*CELLS, *SCRATCH), score)
    draw = np.random.default_rng(0)
    poisoned = [
        {
            **item,
            **{
                name: draw.random()
                for name in (
                    "lr",
                    "val_accuracy",
                    "test_nll",
                    "test_ece",
                    "seconds",
                    "source_accuracy",
                    "flops_per_update",
                    "trained_weights",
                )
            },
        }
        for item in made
    ]
    draw.shuffle(poisoned)
    clean, other = (Cells(frame(content), MAIN) for content in (made, poisoned))
    for number in (lambda c: c.D("latin", 10, 300), lambda c: c.G("noise", 2, 1, 1200)):
        assert number(clean).equals(number(other))
