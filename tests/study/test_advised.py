"""Known effects give known advice, and what may be chance gives the cheaper one."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from convtl.analysis.advised import Advice, _advised_depth, advise, choose
from convtl.analysis.arms import Block, blocks, frame
from convtl.analysis.learning_curve import LearningCurve
from convtl.cli import compose
from convtl.keys import generator

COUNTS = (5, 10, 20, 40)
CLASSES = 3


def rows(
    points: dict[int, float],
    *,
    noise: float = 0.003,
    n_test: int = 1000,
    replicates: int = 3,
    **more: Any,
) -> list[dict[str, Any]]:
    """Finished trials: 16 % of errors at n=10 and the head, as 1 / sqrt(n); other depths so many points better."""
    draw, found = generator(0, "advised", *sorted(points), noise, replicates), []
    for n in COUNTS:
        for replicate in range(replicates):
            for depth, better in points.items():
                accuracy = 1 - 0.16 * (n / 10) ** -0.5 + better / 100 + draw.normal(0, noise)
                found.append(
                    {
                        "trial": f"{n}-{depth}-{replicate}",
                        "config": "c",
                        "model": "net",
                        "source": "far",
                        "target": "mine",
                        "regime": "fine_tune",
                        "depth": depth,
                        "depth_unit": f"unit{depth}",
                        "n_per_class": n,
                        "n_train": CLASSES * n,
                        "replicate": replicate,
                        "updates": 9,
                        "val_accuracy": 0.8 + 0.01 * replicate,
                        "n_val": 30,
                        "n_test": n_test,
                        "n_rates": 3,
                        "test_accuracy": round(accuracy * n_test) / n_test,
                        "status": "done",
                        "frozen_ok": True,
                    }
                    | more
                )
    return found


def block(*args: Any, **kwargs: Any) -> Block:
    (found,) = blocks(frame(rows(*args, **kwargs)))
    return found


def advice(*args: Any, **kwargs: Any) -> Advice:
    (found,) = advise([block(*args, **kwargs)])
    return found


def test_a_deeper_net_that_is_better_in_every_replicate_is_advised() -> None:
    now = advice({1: 0, 2: 4, 4: 4}).now
    assert (now.n, now.images, now.replicates, now.n_test, now.n_val) == (40, 120, 3, 1000, 30)
    assert (now.depth, now.enough) == (2, 2)
    assert now.advised.accuracy == pytest.approx(0.96, abs=0.005)
    assert now.advised.interval.low < 0.96 < now.advised.interval.high
    assert now.advised.against is None
    assert [arm.depth for arm in now.others] == [1, 4]
    head, deepest = (arm.against for arm in now.others)
    assert head.settled
    assert head.effect == pytest.approx(-0.04, abs=0.007)
    assert not deepest.settled
    assert deepest.effect == pytest.approx(0, abs=0.007)


def test_the_head_is_advised_where_depth_does_harm() -> None:
    now = advice({1: 0, 2: -3, 4: -6}).now
    assert (now.depth, now.enough) == (1, 1)
    assert now.arm(4).against.settled
    assert now.arm(4).against.effect == pytest.approx(-0.06, abs=0.007)


def test_a_gain_within_noise_is_not_worth_a_layer() -> None:
    """2 points that differ by 4 between replicates."""
    now = advice({1: 0, 4: 2.5}, noise=0.03).now
    assert (now.enough, now.depth) == (4, 1)
    assert not now.arm(4).against.settled
    assert now.arm(4).against.effect > 0


def test_a_settled_gain_below_the_tolerance_is_advised() -> None:
    """1.5 points at 92 % are .2 logit; the head is d*, and is settled to be worse in every replicate."""
    now = advice({1: 0, 2: 1.2, 3: 0.3}, noise=0.001, trained_weights=7, flops_per_update=9.0).now
    assert (now.enough, now.depth) == (1, 2)
    assert now.arm(1).against.settled
    assert now.arm(1).against.interval.high < 0
    assert [(arm.depth, arm.weights, arm.flops) for arm in now.arms] == [
        (1, 7, 9),
        (2, 7, 9),
        (3, 7, 9),
    ]


def test_the_advised_depth_is_never_one_that_is_not_told_from_a_better_one_by_noise_of_its_own() -> (
    None
):
    """Depth 2 is much worse on average, but so unsteady that depth 3 is not settled to be better than it."""
    unsteady = {0: 0.7, 1: 0.99, 2: 0.6}
    found = [
        row | {"test_accuracy": unsteady[row["replicate"]]} if row["depth"] == 2 else row
        for row in rows({1: 0, 2: 0, 3: 3}, noise=0.001)
    ]
    assert advise(blocks(frame(found)))[0].now.depth == 3


def test_where_depth_changes_nothing_the_head_is_advised() -> None:
    """2.5 % for each of two deeper depths, of studies; three replicates, noise of one point, test sets of their own."""
    draw, deeper, runs = generator(0, "no gain"), 0, 2000
    for _ in range(runs):
        table = pd.DataFrame(draw.normal(0.8, 0.01, (3, 3)), columns=[1, 2, 3])
        deeper += _advised_depth(table, 1000) != 1
    assert deeper / runs <= 0.055


def test_differences_are_no_larger_than_shares_can_differ() -> None:
    """Two replicates: 12.7 standard errors."""
    wild = [
        row | {"test_accuracy": 0.9 - 0.4 * row["replicate"]} if row["depth"] == 2 else row
        for row in rows({1: 0, 2: 0}, replicates=2)
    ]
    found = advise(blocks(frame(wild)))[0].now.arm(2).against.interval
    assert (found.low, found.high) == (-1, 1)


def test_a_gain_of_five_test_pictures_is_chance_however_steady() -> None:
    steady = {"noise": 0.0, "n_test": 100}
    assert advice({1: 0, 4: 5}, **steady).now.depth == 1
    assert advice({1: 0, 4: 6}, **steady).now.depth == 4


def test_an_accuracy_is_no_surer_than_its_test_images_make_it() -> None:
    """All of 18 test images right in every replicate: exact binomial, 0.025 ** (1 / 18)."""
    now = advice({1: 40}, noise=0.0, n_test=18, test_accuracy=1.0).now.advised
    assert (now.accuracy, now.interval.high) == (1, 1)
    assert now.interval.low == pytest.approx(0.025 ** (1 / 18))
    wide = advice({1: 0}, noise=0.03, n_test=10**6).now.advised.interval
    assert wide.high - wide.low > 0.02


def test_one_replicate_settles_nothing() -> None:
    found = advice({1: 0, 4: 6}, replicates=1)
    assert (found.now.depth, found.now.enough) == (1, 4)
    assert not found.now.arm(4).against.settled
    assert "at least 2 replicates" in found.curve


def test_the_curve_is_that_of_the_advised_depth() -> None:
    found = advice({1: 0, 2: 4}, replicates=4)
    assert isinstance(found.curve, LearningCurve)
    assert (found.now.depth, found.curve_depth) == (2, 2)
    assert found.curve.images == (15, 30, 60, 120)
    assert [images for images, _ in found.measured] == [15, 30, 60, 120]
    np.testing.assert_allclose(found.curve.measured[:, -1], found.measured[-1][1])
    assert np.mean(found.measured[-1][1]) == pytest.approx(found.now.advised.accuracy)


OWN_GRID = {1: COUNTS, 2: (10, 20, 40), 3: (40,)}
"""Depths and sizes of `my_pictures`."""


def on_grid(
    points: dict[int, float], grid: dict[int, tuple[int, ...]] = OWN_GRID, **more: Any
) -> Advice:
    found = [row for row in rows(points, **more) if row["n_per_class"] in grid[row["depth"]]]
    return advise(blocks(frame(found)))[0]


def test_the_grid_of_the_experiment_gives_a_curve_whichever_depth_is_advised() -> None:
    content = compose(["+experiment=my_pictures", "path=/nowhere"])
    sizes = {part["depth"]: part["n_per_class"] for part in content["blocks"].values()}
    assert sizes == {1: [5, 10, 20, "all"], 2: [10, 20, "all"], 3: "all"}
    for advised, points, depth in ((1, (0, 0, 0), 1), (2, (0, 4, 4), 2), (3, (0, 3, 6), 2)):
        found = on_grid(dict(zip((1, 2, 3), points, strict=True)), noise=0.001)
        assert found.now.depth == advised
        assert isinstance(found.curve, LearningCurve)
        assert found.curve_depth == depth
        assert len(found.measured) == len(found.curve.images) == (4 if depth == 1 else 3)


def test_a_depth_with_one_size_has_the_curve_of_the_head() -> None:
    """The grid that `my_pictures` had: depth 2 at `all` only."""
    found = on_grid({1: 0, 2: 4}, {1: COUNTS, 2: (40,)}, noise=0.001)
    assert (found.now.depth, found.curve_depth) == (2, 1)
    assert found.curve.images == (15, 30, 60, 120)


def test_without_a_curve_at_any_depth_the_reason_is_that_of_the_advised_one() -> None:
    found = on_grid({1: 0, 2: 4}, {1: (20, 40), 2: (40,)}, noise=0.001)
    assert (found.now.depth, found.curve_depth) == (2, 2)
    assert "at least 3 numbers of images, and there are 1" in found.curve


def test_the_net_is_chosen_on_validation_images() -> None:
    lucky = [
        row | {"test_accuracy": 0.99} if (row["replicate"], row["depth"]) == (0, 2) else row
        for row in rows({1: 0, 2: 4})
    ]
    (found,) = advise(blocks(frame(lucky)))
    assert (found.best.replicate, found.best.trial) == (2, "40-2-2")
    assert found.best.validation == pytest.approx(0.82)
    assert found.best.test < 0.99


def test_every_pretrained_source_of_every_setting_has_its_advice() -> None:
    scratch = [row | {"source": "scratch", "trial": f"s{row['trial']}"} for row in rows({4: -9})]
    near = rows({1: 0, 4: 5}) + rows({1: 0, 4: -9}, source="near", config="c", trial="") + scratch
    found = advise(blocks(frame(near)))
    assert [(one.source, one.now.depth) for one in found] == [("far", 4), ("near", 1)]
    assert advise(blocks(frame(scratch))) == []


def test_depths_are_compared_within_replicates_that_have_them_all() -> None:
    short = [row for row in rows({1: 0, 2: 4}) if (row["depth"], row["replicate"]) != (2, 1)]
    (found,) = blocks(frame(short))
    assert choose(found, "far", 40).replicates == 2
    assert choose(found, "far", 41) is None
