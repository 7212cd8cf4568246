"""Conjunctions in the order of the protocol, what stands beside a number, and the targets that it is about."""

import pytest
from cell_rows import MAIN, cells_of, row, rows
from test_scorecard import DIAL, cards, study, value, with_benefits

from convtl.analysis.arms import frame
from convtl.analysis.declared import DELTA, claims_of
from convtl.analysis.principles import how_many
from convtl.analysis.scorecard import scorecard

# --- practically null is asked of parts, first ----------------------------------------------------------


def benefits_of_size(few, many):
    """D of Latin with 2 and with 50 images a class."""

    def effect(need, target):
        return {2: few, 50: many}.get(need.n_per_class, 0.0) * (need.depth - 1) / 4

    return effect


def deeper(few, many, size=0.02):
    return cards(["data_size"], benefits_of_size(few, many), size=size)["data_size.deeper.strong"]


@pytest.mark.parametrize(
    ("few", "many", "outcome"),
    [
        (-0.8, 0.8, "supported"),
        (0.8, 1.6, "contradicted"),
        (-0.1, 0.8, "practically null"),  # below 0 by p, but too little to matter
        (0.1, 0.8, "practically null"),  # above 0 by p: null is asked before contradicted
        (-0.8, 0.1, "practically null"),
    ],
)
def test_a_conjunction_is_null_if_a_direction_that_it_asks_for_is_too_small(few, many, outcome):
    score = deeper(few, many)
    assert score.outcome == outcome
    assert max(min(part.p, part.p_contrary) for part in score.parts) <= 0.05  # sure of every sign


def test_the_part_that_is_null_is_named_and_shown():
    score = deeper(-0.1, 0.8)
    assert score.effect == pytest.approx(-0.1, abs=0.02)
    assert score.note.startswith("n=2 is -0.1")
    assert "practically null (within ±0.2 logit)" in score.note
    assert "n=50 +0.8" in score.note  # beside all parts' numbers
    assert dict(score.elsewhere) == {1200: "practically null"}


def first_layer_specific(need, target):
    """Layers cost more the later they are, the first one too much to be general, and alike for any kind of letters."""
    return 0.0 if need.source in ("self", "scratch") else 0.5 * (need.depth - 5) - 0.5


def frozen(effect):
    """The claims on frozen layers; those on gains only add nets from scratch."""
    return cards(["layer_transfer", "dissimilarity"], effect)["layer_transfer.strong"]


def test_null_comes_before_the_refutation_of_another_part():
    score = frozen(first_layer_specific)
    refuted = [part for part in score.parts if part.part.relation == "within"]
    assert max(len(score.parts) * part.p_contrary for part in refuted) <= 0.05
    assert score.outcome == "practically null"
    assert score.note.startswith(f"{score.parts[-1].part.name} is ")


def test_a_part_with_a_margin_of_its_own_is_not_asked_for_null():
    score = cards(["similarity"], with_benefits({"noise": 1.5, "mixture@0": 1.0}))[
        "similarity.strong"
    ]
    assert (
        abs(score.parts[0].effect) < 0.1
    )  # own, 2 layers against 3: well inside, and that is what it claims
    assert score.outcome == "supported"


def uneven(margin=0.0):
    """D of Latin with 2 images a class is the margin on average, and far from even; with 50 it is large."""

    def effect(need, target, replicate):
        few = margin + 0.02 + (0.45 if replicate % 2 else -0.45)
        return {2: few, 50: 2.0}.get(need.n_per_class, 0.0) * (need.depth - 1) / 4

    return effect


def test_replicates_that_would_decide_may_decide_for_null():
    data = frame(rows(cells_of(claims_of(["data_size"])), uneven()))
    score = by_name(scorecard(["data_size"], data, targets=MAIN))["data_size.deeper.strong"]
    assert score.outcome == "inconclusive"
    assert "cannot be foreseen" in how_many(score.values, 0.0)
    assert f"open: n=2; {how_many(score.values, DELTA)};" in score.note


def test_near_a_margin_no_number_of_replicates_decides_for_null():
    def lopsided(need, target, replicate):
        if need.source == "own":
            spread = 0.45 if replicate % 2 else -0.45
            return spread - 0.02 if need.depth == 2 else DELTA * (need.depth > 2)
        return {"mixture@0": 1.0, "noise": 3.0}.get(need.source, 0.0) * (need.depth - 1) / 4

    data = frame(rows(cells_of(claims_of(["similarity"])), lopsided))
    score = by_name(scorecard(["similarity"], data, targets=MAIN))["similarity.strong"]
    assert score.outcome == "inconclusive"
    assert score.effect == pytest.approx(-DELTA, abs=0.05)  # at its margin
    assert "cannot be foreseen" in score.note


# --- what stands beside ---------------------------------------------------------------------------------


def test_what_stands_beside_is_a_sentence():
    note = cards(["similarity"], with_benefits(DIAL))["similarity.weak"].note
    assert "at the same time z(k=1) changes by +0.0" in note
    assert " and z(k=all) changes by +1.0" in note
    assert "not tested" in note
    [care] = [claim for claim in claims_of(["ways"]) if claim.name == "ways.care"]
    note = cards(["ways"], lambda need, target: 0.5 * (need.regime == "lp_ft"))["ways.care"].note
    assert "for comparison, not tested: lp_ft +0.5" in note
    assert all(part.name in note for part in care.beside)


# --- main targets ---------------------------------------------------------------------------------------


def with_other_target(name="photographs", gain=0.0):
    """Gains and reuse of +.6 on the main targets; on another one, `gain`."""
    main = study(["dissimilarity"], value(latin=0.6), size=0.01)
    cells = [need for need in cells_of(claims_of(["dissimilarity"])) if not need.target]
    other = rows(cells, lambda need, target, r: gain * (need.source == "latin"), targets=[name])
    return frame(main + other)


def by_name(found):
    return {score.name: score for score in found}


def test_other_targets_of_a_study_are_not_averaged_in():
    data = with_other_target()
    reuse = by_name(scorecard(["dissimilarity"], data, targets=MAIN))["dissimilarity.reuse.latin"]
    assert (reuse.outcome, reuse.targets) == ("supported", MAIN)
    assert reuse.effect == pytest.approx(0.6, abs=0.02)
    diluted = by_name(scorecard(["dissimilarity"], data))["dissimilarity.reuse.latin"]
    assert diluted.effect < 0.5


def test_main_targets_can_be_named():
    data = frame(study(["similarity"], with_benefits(DIAL)))
    assert scorecard(["similarity"], data, targets=["armenian"])[0].targets == ("armenian",)


@pytest.mark.parametrize("targets", [None, (), ("greek",)])
def test_without_rows_of_the_main_targets_all_are_main(targets):
    data = frame(study(["similarity"], with_benefits(DIAL)))
    assert scorecard(["similarity"], data, targets=targets)[0].targets == MAIN


def test_a_setting_without_main_targets_does_not_promote_others():
    other = [
        {**item, "regime": "lp_ft", "target": "photographs", "trial": f"{item['trial']} lp"}
        for item in study(["dissimilarity"], value(), targets=["cyrillic"])
        if item["target"] == "cyrillic"
    ]
    plain = [{**item, "regime": "fine_tune", "trial": f"{item['trial']} ft"} for item in other]
    data = frame(study(["dissimilarity"], value()) + other + plain)
    weak = [
        s
        for s in scorecard(["dissimilarity"], data, targets=MAIN)
        if s.name == "dissimilarity.weak"
    ]
    assert [(score.setting, score.targets) for score in weak] == [("regime fine_tune", MAIN)]


def test_claims_that_name_their_targets_see_them_whatever_is_main():
    found = cards(
        ["data_size"], lambda need, target: 0.2 * need.depth * (need.n_per_class == 10_000)
    )
    assert found["data_size.pair"].targets == ("letter_pairs",)
    assert found["data_size.pair"].outcome == "supported"
    assert "targets letter_pairs;" in found["data_size.pair"].scope


def test_every_target_that_a_claim_names_is_in_its_scope():
    found = frozen(first_layer_specific)
    assert len(found.claim.targets) == 2
    assert found.targets == found.claim.targets
    assert f"targets {', '.join(found.claim.targets)};" in found.scope


def test_a_secondary_claim_on_a_target_that_is_not_in_the_data_has_no_row():
    def flat(need, target):
        return 0.0

    there = cards(["data_size"], flat)
    gone = cards(["data_size"], flat, keep=lambda need: need.target != "letter_pairs")
    assert set(there) - set(gone) == {"data_size.pair_longer"}
    assert gone["data_size.pair"].outcome == "not enough data"  # weak: what is missing is said
    one = row(
        next(n for n in cells_of(claims_of(["data_size"])) if n.target), "letter_pairs", 0, 0.0
    )
    begun = by_name(scorecard(["data_size"], frame([one]), targets=MAIN))
    assert begun["data_size.pair_longer"].outcome == "not enough data"
