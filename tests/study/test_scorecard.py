"""The scorecard's rules: order of outcomes, the family, strong after weak, schedules, reuse, settings."""

import hashlib
import math
import re

import pandas as pd
import pytest
from cell_rows import MAIN, cells_of, row, rows
from test_declared import table

from convtl.analysis.arms import frame
from convtl.analysis.declared import CLAIMS, LADDER, PRINCIPLES, claims_of
from convtl.analysis.scorecard import Score, scorecard

FLOOR = 2 / 4096
"""The smallest p of 12 replicates."""
RISING = {name: index / 5 for index, name in enumerate(LADDER)}
"""Depth benefit by source, as the first principle has it."""


def noise(need, target, replicate, size):
    text = f"{need} {target} {replicate}"
    return size * (int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**31 - 1)


def study(names, effect, *, size=0.05, keep=lambda need: True, **other):
    """A complete study of some principles: `effect(need, target)` plus noise within +-size and the replicate's own."""
    cells = [need for need in cells_of(claims_of(names)) if keep(need)]
    return rows(
        cells,
        lambda need, target, replicate: (
            effect(need, target) + noise(need, target, replicate, size) + 0.1 * replicate
        ),
        **other,
    )


def cards(names, effect, **other) -> dict[str, Score]:
    data = frame(study(names, effect, **other))
    return {score.name: score for score in scorecard(names, data, targets=MAIN)}


def with_benefits(benefits, base=0.5, few=0.0):
    """z: training everything adds the source's benefit, each layer its share of it."""

    def effect(need, target):
        return (
            base
            + benefits.get(need.source, 0.0) * (need.depth - 1) / 4
            + few * (need.depth in (2, 3))
        )

    return effect


DIAL = {**RISING, "mixture@0": 1.0, "mixture@1": 0.0}


# --- the order of outcomes ----------------------------------------------------------------------------


def test_supported_with_everything_that_a_row_says():
    score = cards(["similarity"], with_benefits(DIAL))["similarity.weak"]
    assert (score.outcome, score.verdict, score.reading, score.setting) == (
        "supported",
        "supported",
        "weak",
        "",
    )
    assert score.effect == pytest.approx(1.0, abs=0.05)
    assert score.interval.low < score.effect < score.interval.high
    assert score.interval.level == pytest.approx(0.95, abs=0.001)
    assert score.p == score.p_adjusted == FLOOR
    assert (score.m, score.targets, score.unit, score.schedule) == (12, MAIN, "logit", 300)
    assert score.estimand == "D(similarity 0) - D(similarity 1), n=10"
    assert score.agrees.startswith("agrees with Yosinski et al. 2014: ")
    assert "targets cyrillic, armenian; net lenet5; regime fine_tune; 300 updates" in (score.scope)
    for text in (
        "at the same time z(k=1) changes by ",
        " and z(k=all) changes by +1.",
        "generalises over sources",
        "with 1200 updates: supported",
    ):
        assert text in score.note


@pytest.mark.parametrize(
    ("benefit", "size", "outcome"),
    [
        ({"mixture@0": 1.0}, 0.05, "supported"),
        ({"mixture@1": 1.0}, 0.05, "contradicted"),
        ({}, 0.05, "practically null"),
        (
            {"mixture@0": 0.1},
            0.01,
            "practically null",
        ),  # p is at its floor, but too small to matter
        ({"mixture@0": 0.2}, 1.0, "inconclusive"),
    ],
)
def test_outcomes_of_a_difference(benefit, size, outcome):
    score = cards(["similarity"], with_benefits(benefit), size=size)["similarity.weak"]
    assert score.outcome == outcome
    if outcome == "inconclusive":
        assert "replicates would decide" in score.note
        assert score.agrees.startswith("open; Yosinski")


def test_a_negative_direction_is_supported_by_negative_numbers():
    def harm(need, target):
        return -1.0 if need.source == "noise" and need.depth == 1 else 0.0

    assert cards(["dissimilarity"], harm)["dissimilarity.frozen"].outcome == "supported"


def test_targets_must_agree_in_sign():
    def torn(need, target):
        return (3.0 if target == "cyrillic" else -0.5) * (need.source == "mixture@0") * (
            need.depth == 5
        ) + 0.5

    score = cards(["similarity"], torn)["similarity.weak"]
    assert score.outcome == "inconclusive"
    assert score.p_adjusted == FLOOR
    assert "targets disagree in sign (cyrillic +3." in score.note
    assert dict(score.by_target)["armenian"] == pytest.approx(-0.5, abs=0.1)


def test_a_target_without_the_cells_is_left_out_by_name():
    made = study(["similarity"], with_benefits(DIAL))
    lacking = [item for item in made if item["target"] == "cyrillic" or item["source"] != "mixture"]
    lacking = [
        item
        for item in lacking
        if item["target"] == "cyrillic" or item["source"] not in ("own", "noise")
    ]
    score = scorecard(["similarity"], frame(lacking))[0]
    assert (score.outcome, score.targets) == ("supported", ("cyrillic",))
    assert "left out: target armenian, source mixture@0, n_per_class 10" in score.note


def test_a_paper_s_direction_that_is_too_small_is_no_difference():
    def one_side(size):
        return lambda need, target: 0.5 + size * (need.regime == "first_unit_only")

    small, other = (
        cards(["input_shift"], one_side(size), size=0.01)["input_shift.weak"]
        for size in (0.1, -0.1)
    )
    assert small.outcome == other.outcome == "practically null"
    assert small.agrees.startswith(
        "same direction, smaller than the smallest effect of interest: Lee et al. 2022: "
    )
    assert other.agrees.startswith("differs from Lee et al. 2022: ")


def test_a_mean_over_parts_of_opposite_signs_says_so():
    def torn(need, target):
        return 0.5 + (need.regime == "first_unit_only") * {"inversion": 1.0, "rotation": -1.0}.get(
            need.shift, 0.0
        )

    score = cards(["input_shift"], torn)["input_shift.weak"]
    assert score.outcome == "practically null"
    assert score.agrees.endswith("; the parts differ: see claims 3, 4, 5 and 6")
    alike = cards(["input_shift"], lambda need, target: 0.5 + (need.regime == "first_unit_only"))
    assert "the parts differ" not in alike["input_shift.weak"].note


def test_claims_on_cells_at_floor_are_not_judged_or_judged_on_the_others():
    def effect(need, target):
        low = need.target == "textures" and need.source != "scratch" and need.n_per_class == 10
        return -3.5 if low else 0.5

    found = cards(["dissimilarity"], effect)
    reuse, gain = found["dissimilarity.reverse.reuse"], found["dissimilarity.reverse"]
    assert (reuse.outcome, reuse.edge, reuse.m) == ("not judged", "floor", 0)
    assert reuse.note.startswith(
        "target textures, source latin, n_per_class 10, 300 updates: floor"
    )
    assert (gain.outcome, gain.left_out) == (
        "practically null",
        "without latin to textures at n=10: floor",
    )
    assert (
        "left out: target textures, source latin, n_per_class 10, 1200 updates: floor" in gain.note
    )
    assert not found["dissimilarity.weak"].left_out


# --- the family ---------------------------------------------------------------------------------------


def test_the_family_are_the_primary_claims_that_were_run():
    effect = with_benefits(DIAL)
    alone = cards(["similarity"], effect)["similarity.weak"]
    both = cards(["similarity", "data_size"], effect)
    primary = [score for score in both.values() if score.claim.primary]
    assert len(primary) == 4  # similarity, deeper, longer, pair
    assert alone.p_adjusted == FLOOR
    assert both["similarity.weak"].p_adjusted == pytest.approx(4 * FLOOR)
    assert math.isnan(both["similarity.order"].p_adjusted)
    without = scorecard(["similarity", "layer_transfer"], frame(study(["similarity"], effect)))
    assert without[0].p_adjusted == FLOOR
    assert {score.outcome for score in without if score.claim.principle == "layer_transfer"} == {
        "not enough data"
    }


def test_everything_at_once_has_one_row_a_claim_in_the_declared_order():
    every = [name for name in PRINCIPLES if name != "vanishing_gradients"]
    found = cards(every, with_benefits(DIAL))
    assert list(found) == [claim.name for claim in CLAIMS if claim.principle in every]
    assert all(score.m == 12 for score in found.values())
    missing = scorecard(PRINCIPLES, frame([]))
    assert [score.name for score in missing] == [
        claim.name for claim in CLAIMS if claim.reading != "secondary" or not claim.targets
    ]
    assert {score.outcome for score in missing} == {"not enough data"}


# --- strong readings ----------------------------------------------------------------------------------


def strong(own_benefit=0.0, far=1.5, **other):
    benefits = {"own": own_benefit, "noise": far, "mixture@0": 1.0}
    return cards(["similarity"], with_benefits(benefits), **other)["similarity.strong"]


def test_a_strong_reading_holds_if_all_parts_do_and_its_p_is_the_largest():
    score = strong()
    assert score.outcome == "supported"
    assert len(score.parts) == 3
    assert score.p == max(part.p for part in score.parts) == FLOOR
    assert math.isnan(score.p_adjusted)
    assert "noise, all layers against 3 +0." in score.note


def test_one_open_part_leaves_a_strong_reading_open():
    score = strong(far=0.4)  # k=all against 3: about +0.2, the margin
    assert score.outcome == "inconclusive"
    assert "open: noise, all layers against 3" in score.note
    assert score.effect == pytest.approx(0.2, abs=0.05)
    assert score.p == max(part.p for part in score.parts) > 0.05


def test_a_part_on_the_wrong_side_refutes_a_strong_reading():
    score = strong(own_benefit=2.0)  # two layers fall short of all by 1.5
    assert score.outcome == "contradicted"
    assert "refuted: own, 2 layers against all" in score.note
    assert score.effect == pytest.approx(-1.5, abs=0.05)
    assert score.p == pytest.approx(3 * FLOOR)  # any of three parts could have refuted it


def test_parts_too_must_agree_over_targets():
    def torn(need, target):
        far = {"cyrillic": 4.0, "armenian": 0.2}[target]
        return 0.5 + {"noise": far, "mixture@0": 1.0}.get(need.source, 0.0) * (need.depth - 1) / 4

    score = cards(["similarity"], torn)["similarity.strong"]
    assert score.outcome == "inconclusive"
    assert "noise, all layers against 3: targets disagree (cyrillic +2." in score.note


def test_a_strong_reading_waits_for_its_weak_one():
    found = cards(["similarity"], with_benefits({"noise": 1.5}), size=0.01)
    assert found["similarity.weak"].outcome == "practically null"
    score = found["similarity.strong"]
    assert (score.outcome, score.note) == (
        "not tested",
        "weak reading not supported (practically null)",
    )
    assert math.isnan(score.p)
    assert len(score.parts) == 3  # its numbers are there to be looked at
    assert score.agrees == ""


# --- principle 3: worthless, harmful, reused ------------------------------------------------------------


def value(latin=1.0, noise=0.0, shuffled=0.0):
    def effect(need, target):
        gains = {
            "latin": latin,
            "noise": noise,
            "latin:shuffled": shuffled,
            "noise:shuffled": shuffled,
        }
        return gains.get(need.source, 0.0)

    return effect


def test_of_little_value_means_null_beside_a_gain():
    found = cards(["dissimilarity"], value())
    assert found["dissimilarity.weak"].schedule == 1200
    assert found["dissimilarity.strong"].outcome == "supported"
    assert found["dissimilarity.strong"].agrees.startswith("differs from Zhai et al. 2019")
    assert (
        "reuse of features (G(latin) - G(latin:shuffled), k=all, n=10, 300 updates): the gain is above"
        in found["dissimilarity.weak"].note
    )


def test_a_gain_that_shuffled_weights_give_as_well_is_not_called_reuse():
    found = cards(["dissimilarity"], value(shuffled=1.0))
    assert found["dissimilarity.reuse.latin"].outcome == "practically null"
    assert found["dissimilarity.weak"].outcome == "supported"
    assert "not called reuse of features" in found["dissimilarity.weak"].note
    no_controls = cards(["dissimilarity"], value(), keep=lambda need: ":" not in need.source)
    assert "not called reuse of features" in no_controls["dissimilarity.weak"].note
    assert "k=all, n=10, 300 updates): that the gain" in no_controls["dissimilarity.weak"].note
    assert "was not run" in no_controls["dissimilarity.weak"].note


def test_gains_from_afar_refute_and_harm_is_told_from_worthlessness():
    gains = cards(["dissimilarity"], value(latin=2.0, noise=1.0))["dissimilarity.strong"]
    assert gains.outcome == "contradicted"
    assert gains.agrees.startswith("agrees with Zhai et al. 2019")
    assert "refuted: gain from noise;" in gains.note
    assert "reuse of features" in gains.note  # above its shuffled twin, which gains nothing
    harms = cards(["dissimilarity"], value(noise=-1.0))["dissimilarity.strong"]
    assert harms.outcome == "contradicted"
    assert "refuted: gain from noise, which does harm" in harms.note


# --- schedules ----------------------------------------------------------------------------------------


def test_a_verdict_that_another_schedule_does_not_share_is_one_about_speed():
    def fast(need, target):
        return 0.5 + (need.source == "mixture@0") * (need.depth == 5) * (need.updates == 300)

    score = cards(["similarity"], fast, size=0.02)["similarity.weak"]
    assert score.outcome == "supported"
    assert score.elsewhere == ((1200, "practically null"),)
    assert "with 1200 updates: practically null, so this is a conclusion about speed" in score.note


@pytest.mark.parametrize(
    ("updates", "text"), [(300, "short schedule only"), (1200, "long schedule only")]
)
def test_a_verdict_on_one_schedule_says_so(updates, text):
    score = cards(["dissimilarity"], value(), keep=lambda need: need.updates == updates)[
        "dissimilarity.weak"
    ]
    assert (score.outcome, score.schedule) == ("supported", updates)
    assert text in score.note
    assert "about speed" not in score.note


def test_other_numbers_of_updates_are_named():
    def later_is_worse(need, target):
        return 0.3 * need.depth * (need.source != "self")

    found = cards(
        ["layer_transfer", "dissimilarity"], later_is_worse, keep=lambda need: need.updates != 1800
    )
    score = found["layer_transfer.weak"]
    assert (score.m, score.only) == (12, "900 updates only")
    assert "900 updates only" in score.note


def test_what_spans_both_schedules_is_not_qualified_by_one():
    def longer(need, target):
        return math.log2(need.n_per_class) * (need.updates == 1200)

    score = cards(["data_size"], longer)["data_size.longer.weak"]
    assert score.outcome == "supported"
    assert score.effect == pytest.approx(math.log2(50) - math.log2(2), abs=0.05)  # end to end
    assert "schedule" not in score.note
    assert not score.only
    assert "updates only" not in score.note
    assert "300 and 1200 updates" in score.scope


# --- descriptive rows -----------------------------------------------------------------------------------


def test_the_order_of_sources_is_a_permutation_of_them():
    found = cards(["similarity"], with_benefits(DIAL))["similarity.order"]
    assert (found.outcome, found.effect) == ("supported", pytest.approx(1.0))
    assert found.p == pytest.approx(2 / 720)
    turned = dict(zip(RISING, [0.4, 1.0, 0.0, 0.8, 0.2, 0.6], strict=True))
    mixed = cards(["similarity"], with_benefits({**DIAL, **turned}))
    assert mixed["similarity.order"].outcome == "inconclusive"
    assert mixed["similarity.weak"].outcome == "supported"
    assert re.search(
        r"these sources only: their order \(.*n=10.*, 300 updates\) is inconclusive",
        mixed["similarity.weak"].note,
    )


def test_the_share_of_cells_is_described_not_tested():
    found = cards(["options"], lambda need, target: (need.depth == 3) * (need.source == "latin"))
    assert found["options.weak"].outcome == "supported"
    share = found["options.strong"]
    assert (share.outcome, share.effect) == ("described", 0.5)
    assert share.note.startswith("6 of 12 cells: latin, n=2 (cyrillic) +")
    assert math.isnan(share.p)


def test_gradients_are_judged_without_any_trial():
    probes = table(
        lambda activation, replicate: {"sigmoid": 0.8}.get(activation, 0.0) + 0.01 * replicate,
        lambda activation, place: 10.0 ** (1 + 0.1 * place),
    )
    twelve = pd.concat(
        [probes.assign(replicate=probes["replicate"] + 5 * block) for block in range(3)]
    )
    found = {score.name: score for score in scorecard(["vanishing_gradients"], frame([]), twelve)}
    assert found["vanishing_gradients.weak"].outcome == "supported"
    assert found["vanishing_gradients.weak"].p_adjusted == pytest.approx(2 * 2 / 2**15)
    assert found["vanishing_gradients.strong"].outcome == "contradicted"
    assert found["vanishing_gradients.slowest.weak"].outcome == "contradicted"
    assert found["vanishing_gradients.slowest.strong"].outcome == "not tested"
    assert found["vanishing_gradients.weak"].targets == ("fresh nets",)
    assert not any(score.only or "only" in score.note for score in found.values())


# --- settings and rows ----------------------------------------------------------------------------------


def test_nets_and_regimes_are_judged_apart_and_share_scratch():
    made = study(["dissimilarity"], value())
    other = [
        {**item, "regime": "lp_ft", "trial": f"{item['trial']} lp"}
        for item in study(["dissimilarity"], value(latin=0.0))
        if item["source"] != "scratch"
    ]
    found = scorecard(["dissimilarity"], frame(made + other))
    weak = {score.setting: score.outcome for score in found if score.name == "dissimilarity.weak"}
    assert weak == {"regime fine_tune": "supported", "regime lp_ft": "practically null"}


def test_a_setting_that_lacks_a_claim_s_cells_adds_no_row():
    made = study(["dissimilarity"], value())
    stray = row(
        cells_of(claims_of(["options"]))[0], "cyrillic", 0, 0.0, regime="lp_ft", trial="stray"
    )
    found = scorecard(["dissimilarity"], frame([*made, stray]))
    assert len(found) == len(claims_of(["dissimilarity"]))
    assert {score.setting for score in found} == {"regime fine_tune"}


def test_rows_that_must_not_count_do_not():
    made = study(["similarity"], with_benefits(DIAL))
    bad = [
        {**item, "trial": f"bad {item['trial']}", "replicate": 40, "test_accuracy": 0.99, **why}
        for item in made
        for why in ({"status": "failed"}, {"frozen_ok": False})
    ]
    # as text: from Python 3.13 on dataclasses with equal NaNs are not equal
    assert repr(scorecard(["similarity"], frame(made + bad))) == repr(
        scorecard(["similarity"], frame(made))
    )
