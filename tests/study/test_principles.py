"""Claims become verdicts by the order of the protocol, and say what they lack."""

from dataclasses import replace

import numpy as np
import pytest

from convtl.analysis.arms import blocks, frame
from convtl.analysis.principles import judge
from convtl.config.schema import ClaimConfig

CLAIM = ClaimConfig(
    statement="deeper pays more",
    source="latin",
    n_low=2,
    n_high=50,
)
TIGHT = (-0.02, 0.01, 0.03, -0.01, 0.0, -0.01)


def row(n, depth, replicate, z, source="latin", **other):
    """A finished trial at exactly logit z (N is large)."""
    total = 10**7
    accuracy = ((total + 1) / (1 + np.exp(-z)) - 0.5) / total
    content = {
        "trial": f"{source}{n}-{depth}-{replicate}-{sorted(other.items())}",
        "model": "lenet5",
        "source": source,
        "target": "cyrillic",
        "regime": "fine_tune",
        "depth": depth,
        "depth_unit": f"u{depth}",
        "n_per_class": n,
        "n_train": 12 * n,
        "replicate": replicate,
        "updates": 300,
        "config": "c",
        "test_accuracy": accuracy,
        "n_test": total,
        "frozen_ok": True,
        "status": "done",
    }
    return {**content, **other}


def rows(growth, *, low=0.3, scratch=True, **other):
    """D(2) = low in every replicate, D(50) = low + growth of the replicate."""
    made = []
    for replicate, more in enumerate(growth):
        shift = 0.3 * replicate
        for n, benefit in ((2, low), (50, low + more)):
            made += [
                row(n, 1, replicate, shift, **other),
                row(n, 5, replicate, shift + benefit, **other),
            ]
            if scratch:
                made.append(row(n, 5, replicate, 0.0, source="scratch", **other))
    return made


def verdict(growth, claim=CLAIM, **other):
    return judge([claim], frame(rows(growth, **other)))[0]


def test_the_number_of_a_replicate_is_the_growth_of_its_depth_benefit():
    growth = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    found = verdict(growth)
    assert found.values == pytest.approx(growth)
    assert found.replicates == (0, 1, 2, 3, 4, 5)
    assert found.effect == pytest.approx(0.75)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.5, 1.0))
    assert found.interval.level == pytest.approx(0.96875)
    assert found.p == found.p_adjusted == 2 / 64


@pytest.mark.parametrize(
    ("growth", "direction", "outcome"),
    [
        ((0.5, 0.6, 0.7, 0.8, 0.9, 1.0), "positive", "supported"),
        ((0.5, 0.6, 0.7, 0.8, 0.9, 1.0), "negative", "contradicted"),
        ((-0.5, -0.6, -0.7, -0.8, -0.9, -1.0), "positive", "contradicted"),
        (TIGHT, "positive", "practically null"),
        (
            (0.05, 0.06, 0.07, 0.08, 0.09, 0.1),
            "positive",
            "practically null",
        ),  # p = .031, but too small to matter
        ((0.9, -0.5, 0.8, -0.4, 0.7, -0.1), "positive", "inconclusive"),
        ((0.5, 0.6, 0.7), "positive", "inconclusive"),
        ((0.5,), "positive", "inconclusive"),
    ],
)
def test_outcomes(growth, direction, outcome):
    assert verdict(growth, replace(CLAIM, direction=direction)).outcome == outcome


def test_an_open_verdict_says_how_many_replicates_would_decide():
    assert "about 6 replicates would decide" in verdict((0.5, 0.6, 0.7)).note
    assert "replicates" in verdict((0.9, -0.5, 0.8, -0.4, 0.7, -0.1)).note
    assert "cannot be foreseen" in verdict((0.5,)).note


def test_targets_are_averaged_inside_a_replicate_and_must_agree_in_sign():
    up, down = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5), (-0.2, -0.2, -0.2, -0.2, -0.2, -0.2)
    agree = judge([CLAIM], frame(rows(up) + rows(up, target="armenian")))
    assert len(agree) == 1
    assert (agree[0].m, agree[0].outcome) == (6, "supported")
    torn = judge([CLAIM], frame(rows(up) + rows(down, target="armenian")))[0]
    assert torn.values == pytest.approx([(a + b) / 2 for a, b in zip(up, down, strict=True)])
    assert torn.outcome == "inconclusive"
    assert "targets disagree" in torn.note
    assert dict(torn.by_target) == pytest.approx({"cyrillic": 1.25, "armenian": -0.2})


def test_several_claims_are_adjusted_by_holm():
    data = frame(rows((0.5, 0.6, 0.7, 0.8, 0.9, 1.0)))
    both = judge([CLAIM, replace(CLAIM, statement="the other", direction="negative")], data)
    assert [item.p_adjusted for item in both] == pytest.approx([4 / 64] * 2)
    assert {item.outcome for item in both} == {"inconclusive"}
    assert "about 7 replicates" in both[0].note


def test_missing_data_are_named():
    made = rows(TIGHT)
    no_head = [item for item in made if not (item["depth"] == 1 and item["n_per_class"] == 50)]
    cases = {
        "no finished trial": [],
        "source latin, n_per_class 50: no finished trial of depth 1": no_head,
        "n_per_class 50: no finished trial of depth 1": [
            item for item in made if item["n_per_class"] == 2
        ],
        "only depth 1 was trained": [item for item in made if item["depth"] == 1],
    }
    for text, left in cases.items():
        found = judge([CLAIM], frame(left))[0]
        assert found.outcome == "not enough data"
        assert text in found.note
    apart = [item for item in made if (item["n_per_class"] == 2) == (item["replicate"] < 3)]
    assert "no replicate has depths 1 and all at both" in judge([CLAIM], frame(apart))[0].note


def test_a_missing_claim_takes_no_share_of_the_error():
    data = frame(rows((0.5, 0.6, 0.7, 0.8, 0.9, 1.0)))
    found = judge([CLAIM, replace(CLAIM, source="textures")], data)
    assert [item.outcome for item in found] == ["supported", "not enough data"]


def test_rows_that_must_not_count_do_not():
    good = rows((0.5, 0.6, 0.7, 0.8, 0.9, 1.0))
    bad = [
        row(50, 5, 9, 8.0, status="failed"),
        row(50, 5, 8, 8.0, status="diverged", test_accuracy=None),
        row(50, 5, 7, 8.0, frozen_ok=False),
        {**good[1], "test_accuracy": 0.0},  # a second row of a trial
    ]
    assert judge([CLAIM], frame(good + bad))[0].values == judge([CLAIM], frame(good))[0].values


def test_text_from_a_csv_file_means_the_same():
    made = rows((0.5, 0.6, 0.7, 0.8, 0.9, 1.0))
    text = [{name: str(value) for name, value in item.items()} for item in made]
    text.append({**text[0], "trial": "moved", "replicate": "11", "frozen_ok": "False"})
    assert judge([CLAIM], frame(text))[0].values == pytest.approx(
        judge([CLAIM], frame(made))[0].values
    )


def test_schedules_are_judged_apart_and_a_change_is_pointed_out():
    up = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
    short, long = rows(up), rows([0.001 * x for x in up], updates=1200)
    found = judge([CLAIM], frame(short + long))
    assert [item.setting for item in found] == ["updates 300", "updates 1200"]
    assert [item.outcome for item in found] == ["supported", "practically null"]
    assert all("depends on the setting" in item.note for item in found)


def test_regimes_share_the_scratch_of_another_regime():
    up = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    parts = blocks(frame(rows(up) + rows(up, scratch=False, regime="lp_ft")))
    assert [block.title for block in parts] == ["fine_tune", "lp_ft"]
    assert all(len(block.scratch_arm(2)) == 6 and block.full_known for block in parts)


def test_additional_axes_make_settings_of_their_own():
    up = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    both = rows(up, axes={"optim.clip": None}) + rows(up, axes={"optim.clip": 1.0})
    assert [block.title for block in blocks(frame(both))] == ["optim.clip=None", "optim.clip=1.0"]


def test_doubts_and_scope_are_said():
    found = verdict((0.5, 0.6, 0.7, 0.8, 0.9, 1.0), scratch=False)
    assert "no scratch trial confirms that depth 5 (u5) is the whole net" in found.note
    for text in (
        "cyrillic",
        "lenet5",
        "fine_tune",
        "300 updates (this schedule only)",
    ):
        assert text in found.scope
    low = rows((0.5, 0.6, 0.7, 0.8, 0.9, 1.0))
    floor = [{**item, "test_accuracy": 0.1 * item["test_accuracy"]} for item in low]
    assert (
        "n=2, target cyrillic: both arms are under twice chance"
        in judge([CLAIM], frame(floor))[0].note
    )
