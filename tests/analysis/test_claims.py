"""Verdicts on made-up replicates with known answers, and what is refused before anything is trained."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
from made_rows import frame_of, made_conditions, made_gradients, made_rows

from convtl.analysis.claims import check, claims_of, decide, judge
from convtl.analysis.conditions import Conditions
from convtl.analysis.contrasts import contrasts_of
from convtl.analysis.replication import mean_z2, replication
from convtl.cli import compose, is_slice
from convtl.config.parsing import parse
from convtl.config.schema import Config
from convtl.errors import UserError
from convtl.study.grid import expand

PATTERN = np.array([1, -1, 0.5, -0.5, 0.2, -0.2, 0.8, -0.8, 0.6, -0.6, 0.3, -0.3])
BASE = compose([])


def config(scorecard=None, words=(), **claims) -> Config:
    """A config with these claims, given without their prose."""
    nodes = {name: {"says": "s", "means": "m", **claim} for name, claim in claims.items()}
    content = compose(list(words)) if words else BASE
    names = list(claims) if scorecard is None else scorecard
    return parse({**content, "claims": nodes, "scorecard": names})


def numbers(m=12, **logits) -> Conditions:
    """One condition a source: a mean and a spread, or (mean, spread) by target; a list of values as it is."""
    rows = []
    for source, given in logits.items():
        by_target = given if isinstance(given, dict) else {"cyrillic": given, "greek": given}
        for target, values in by_target.items():
            if isinstance(values, tuple):
                values = values[0] + values[1] * PATTERN[:m]
            rows += [
                {"source": source, "target": target, "replicate": r, "logit_accuracy": z}
                for r, z in enumerate(values)
            ]
    frame = pd.DataFrame(rows)
    same = {"model": "lenet5", "regime": "fine_tune", "n_per_class": 10, "updates": 300, "depth": 5}
    same |= {"depth_unit": "conv1", "n_units": 5, "config": "c", "similarity": np.nan}
    same |= {"test_accuracy": 0.5, "val_accuracy": 0.5, "source_accuracy": 0.5, "n_test": 1000}
    same |= {"n_val": 100, "n_classes": 12, "flops_per_update": 1, "seconds": 1.0}
    return Conditions(frame.assign(**same, trial=frame.index, lr_at_edge=False, usable=True))


def part(test, source, margin=0.0, **more):
    return {"name": source, "test": test, "margin": margin, "terms": {"source": source}, **more}


def judged(conditions, **claims):
    return judge(claims_of(config(**claims)), conditions)


def verdict_of(parts, conditions, **more):
    return judged(conditions, x={"parts": parts, **more})[0]


def verdict(parts, conditions, **more) -> str:
    return verdict_of(parts, conditions, **more).verdict


CLEAR, SMALL, TIGHT, NOISY = (0.5, 0.1), (0.1, 0.02), (0.03, 0.1), (0.2, 0.9)


def minus(values):
    return (-values[0], values[1])


SINGLE = [
    # test, margin, values -> verdict
    ("above", 0.0, CLEAR, "supported"),
    ("above", 0.0, minus(CLEAR), "contradicted"),
    ("above", 0.0, NOISY, "inconclusive"),
    ("above", 0.0, SMALL, "below"),  # settled, and smaller than what matters
    ("above", 0.0, TIGHT, "below"),
    ("below", 0.0, minus(CLEAR), "supported"),
    ("below", 0.0, CLEAR, "contradicted"),
    ("above", "delta", CLEAR, "supported"),
    ("above", "delta", minus(CLEAR), "contradicted"),
    ("above", "delta", TIGHT, "below"),
    ("above", 0.6, CLEAR, "contradicted"),
    ("within", 0.0, TIGHT, "supported"),  # the margin of `within` is delta
    ("within", "delta", SMALL, "supported"),  # no effect would do, so small is what is claimed
    ("within", "delta", CLEAR, "contradicted"),
    ("within", "delta", minus(CLEAR), "contradicted"),
    ("within", "delta", NOISY, "inconclusive"),
    ("below", "delta", TIGHT, "supported"),
    ("below", "delta", minus(CLEAR), "supported"),
    ("below", "delta", CLEAR, "contradicted"),
    ("above", "-delta", TIGHT, "supported"),
    ("above", "-delta", minus(CLEAR), "contradicted"),
    ("above", "-delta", (0.0, 0.9), "inconclusive"),
]


@pytest.mark.parametrize(("test", "margin", "values", "expected"), SINGLE)
def test_the_verdict_on_one_part(test, margin, values, expected) -> None:
    assert verdict([part(test, "a", margin)], numbers(a=values)) == expected


SEVERAL = [
    ([part("above", "a"), part("above", "b")], CLEAR, CLEAR, "supported"),
    ([part("above", "a"), part("above", "b")], CLEAR, minus(CLEAR), "mixed"),
    # +0.10 and -0.09 are no null: each is settled.
    ([part("above", "a"), part("above", "b")], SMALL, (-0.09, 0.02), "mixed"),
    ([part("above", "a"), part("above", "b")], SMALL, SMALL, "below"),
    ([part("above", "a"), part("above", "b")], CLEAR, SMALL, "supported"),
    ([part("above", "a"), part("above", "b")], CLEAR, NOISY, "inconclusive"),
    ([part("above", "a"), part("above", "b")], minus(CLEAR), NOISY, "contradicted"),
    # Opposite signs that the claim asks for are no contradiction in it.
    ([part("below", "a"), part("above", "b")], minus(CLEAR), CLEAR, "supported"),
    ([part("within", "a"), part("above", "b", "delta")], TIGHT, CLEAR, "supported"),
    # Each part has its own margin: one is settled to hold, the other to fail.
    ([part("within", "a"), part("above", "b", "delta")], CLEAR, CLEAR, "mixed"),
    ([part("within", "a"), part("above", "b", "delta")], TIGHT, TIGHT, "mixed"),
    ([part("within", "a"), part("above", "b", "delta")], CLEAR, NOISY, "contradicted"),
    ([part("above", "a", "-delta"), part("above", "b", "-delta")], CLEAR, minus(CLEAR), "mixed"),
    ([part("above", "a", "-delta"), part("above", "b", "-delta")], CLEAR, TIGHT, "supported"),
    ([part("above", "a", "delta"), part("above", "b", "delta")], TIGHT, SMALL, "below"),
    ([part("above", "a"), part("same_sign", "b")], CLEAR, SMALL, "supported"),
    ([part("above", "a"), part("same_sign", "b")], CLEAR, (0.02, 0.9), "supported"),
    ([part("above", "a"), part("same_sign", "b")], CLEAR, (-0.02, 0.9), "inconclusive"),
    ([part("above", "a"), part("same_sign", "b")], CLEAR, minus(CLEAR), "mixed"),
    ([part("above", "a"), part("same_sign", "b")], minus(CLEAR), minus(CLEAR), "contradicted"),
    ([part("above", "a"), part("same_sign", "b")], minus(CLEAR), (0.02, 0.9), "inconclusive"),
]


@pytest.mark.parametrize(("parts", "a", "b", "expected"), SEVERAL)
def test_the_verdict_on_several_parts(parts, a, b, expected) -> None:
    assert verdict(parts, numbers(a=a, b=b)) == expected


@pytest.mark.parametrize(
    ("b", "expected"),
    [(TIGHT, "supported"), (CLEAR, "contradicted"), ((0.2, 0.3), "inconclusive")],
)
def test_every_point_of_a_list_has_to_hold_and_one_refutes(b, expected) -> None:
    """One depth that is clearly better refutes that no depth is; the others do not make it mixed."""
    each = part("below", ["a", "b", "c"], "delta") | {"name": "each"}
    result = verdict_of(each, numbers(a=TIGHT, b=b, c=minus(CLEAR)))
    assert result.verdict == expected
    assert [one.name for one in result.parts] == [
        "each, source a",
        "each, source b",
        "each, source c",
    ]


def test_points_of_a_direction_are_parts_of_their_own() -> None:
    each = part("above", ["a", "b"]) | {"name": "each"}
    assert verdict(each, numbers(a=CLEAR, b=minus(CLEAR))) == "mixed"


def test_targets_have_to_agree_in_sign() -> None:
    split = {"cyrillic": (0.9, 0.1), "greek": (-0.1, 0.1)}
    result = verdict_of([part("above", "a")], numbers(a=split))
    assert result.verdict == "inconclusive"
    assert result.why == "targets disagree on a: cyrillic +0.90, greek -0.10"
    assert result.p_adjusted < 0.001
    assert verdict([part("above", "a", targets="cyrillic")], numbers(a=split)) == "supported"


def test_targets_are_averaged_in_a_replicate_and_listed() -> None:
    values = {"cyrillic": [1.0, 2, 3, 4, 5, 6], "greek": [3.0, 2, 1, 0, -1, -2]}
    [result] = verdict_of([part("above", "a")], numbers(6, a=values)).parts
    assert result.values == (2, 2, 2, 2, 2, 2)
    assert result.by_target == {"cyrillic": 3.5, "greek": 0.5}
    assert (result.m, result.p) == (6, 2 / 64)


@pytest.mark.parametrize(
    ("m", "values", "needed"),
    [(6, (0.4, 0.5), 8), (4, CLEAR, 6), (12, (0.02, 0.9), 93), (1, CLEAR, None)],
)
def test_how_many_replicates_would_decide(m, values, needed) -> None:
    result = verdict_of([part("above", "a")], numbers(m, a=values))
    assert result.verdict == "inconclusive"
    assert result.m_needed == (needed and pytest.approx(needed, rel=0.15))
    assert ("would decide" in result.why) == (needed is not None) or needed is None


def test_fewer_than_five_replicates_are_never_below() -> None:
    verdicts = [verdict([part("above", "a")], numbers(m, a=(0.0, 0.01))) for m in (4, 5)]
    assert verdicts == ["inconclusive", "below"]


def test_holm_runs_over_the_primary_claims_of_a_ground() -> None:
    claims = {
        name: {"parts": [part("above", name)], "rank": "primary", "ground": ground}
        for name, ground in (("a", "letters"), ("b", "letters"), ("c", "photographs"))
    } | {
        "d": {"parts": [part("above", "d")]},
        "e": {"parts": [part("above", "gone")], "rank": "primary"},
    }
    verdicts = judged(numbers(7, a=CLEAR, b=CLEAR, c=CLEAR, d=CLEAR), **claims)
    floor = 2 / 2**7
    assert [one.p for one in verdicts[:4]] == [floor] * 4
    assert [one.p_adjusted for one in verdicts[:4]] == [3 * floor, 3 * floor, floor, floor]
    assert verdicts[4].verdict == "not judged"  # and yet one of the family
    assert "no trials" in verdicts[4].why


def test_a_verdict_does_not_depend_on_what_else_a_study_judges() -> None:
    names, conditions = "abcd", numbers(7, a=CLEAR)
    claims = {name: {"parts": [part("above", name)], "rank": "primary"} for name in names}
    settings = config(scorecard=["a"], **claims)
    [result] = judge(claims_of(settings), conditions, settings.claims)
    assert (result.p_adjusted, result.verdict) == (4 * 2 / 2**7, "inconclusive")
    assert judge(claims_of(settings), conditions)[0].verdict == "supported"


def test_other_smallest_effects_move_the_margins_with_them() -> None:
    result = verdict_of([part("within", "a")], numbers(a=(0.15, 0.05)))
    assert (result.verdict, result.sensitivity) == (
        "supported",
        {0.1: "contradicted", 0.3: "supported"},
    )
    assert result.parts[0].margin == 0.2
    result = verdict_of([part("above", "a")], numbers(a=(0.15, 0.05)))
    assert (result.verdict, result.sensitivity) == ("below", {0.1: "supported", 0.3: "below"})


# --- conditions that may enter no claim -------------------------------------------------------------


def spoiled(**changes):
    """A study of which the rows of some conditions are spoiled."""

    def change(row):
        for where, value in changes.values():
            if all(row[key] == given for key, given in where.items()):
                return value
        return {}

    return made_conditions(change=change)


BENEFIT = {
    "terms": [
        {"measure": "depth_benefit", "source": "latin", "n_per_class": 10},
        {"measure": "depth_benefit", "weight": -1, "source": "latin", "n_per_class": 2},
    ]
}
HEAD, WHOLE = ({"source": "latin", "n_per_class": 10, "depth": depth} for depth in (1, 5))
FLOOR, CEILING = {"test_accuracy": 0.1}, {"test_accuracy": 0.99}


@pytest.mark.parametrize(
    ("changes", "excluded", "why"),
    [
        ({}, 0, None),
        ({"head": (HEAD, FLOOR)}, 0, None),  # one arm at floor is a result
        ({"head": (HEAD, FLOOR), "whole": (WHOLE, CEILING)}, 0, None),
        ({"head": (HEAD, FLOOR), "whole": (WHOLE, FLOOR)}, 4, "at floor"),
        ({"head": (HEAD, CEILING), "whole": (WHOLE, CEILING)}, 4, "at ceiling"),
        ({"head": (HEAD, {"lr_at_edge": True})}, 2, "at the edge of its learning rates"),
        ({"head": ({**HEAD, "replicate": 1}, {"lr_at_edge": True})}, 0, None),  # a sixth is little
        ({"other": ({"source": "noise"}, {"lr_at_edge": True})}, 0, None),
    ],
)
def test_a_claim_that_needs_a_marked_condition_is_not_judged(changes, excluded, why) -> None:
    [result] = judged(spoiled(**changes), x=BENEFIT)
    assert (result.verdict == "not judged") == bool(excluded)
    assert result.excluded == excluded
    if why:
        assert result.parts == ()
        assert re.match(
            rf"{excluded} of 8 conditions, such as latin to cyrillic, n=10, depth .*: {why}",
            result.why,
        )


def gain(**more):
    return {"terms": {"measure": "transfer_gain", "source": "latin", "n_per_class": 10, **more}}


def test_scratch_at_floor_makes_a_gain_a_lower_bound() -> None:
    conditions = spoiled(scratch=({"source": "scratch", "n_per_class": 10}, FLOOR))
    above, below = judged(conditions, x=gain(), y={**gain(), "test": "below", "margin": 9.0})
    assert above.verdict == "supported"
    assert above.parts[0].lower_bound
    assert below.verdict == "inconclusive"  # it may be any larger
    assert (below.m_needed, "it may be larger" in below.why) == (None, True)


@pytest.mark.parametrize("test", ["above", "within", "below"])
@pytest.mark.parametrize(
    ("values", "decided"),
    [
        (CLEAR, {"above": "supported", "within": "contradicted", "below": "contradicted"}),
        ((0.05, 0.01), {}),
        (minus(CLEAR), {}),
    ],
)
def test_a_lower_bound_is_never_small_and_never_too_low(test, values, decided) -> None:
    """However small it is, the true effect may be any larger."""
    claims = claims_of(config(x={"parts": [part(test, "a", "delta")]}))
    [measured] = contrasts_of(claims["x"], numbers(a=values))
    verdicts = decide(claims, {"x": [replace(measured, lower_bound=True)]})
    assert verdicts["x"].verdict == decided.get(test, "inconclusive")


def test_replicates_that_a_condition_lacks_are_counted() -> None:
    def change(row):
        return {"status": "failed"} if row["depth"] == 1 and row["replicate"] < 2 else {}

    complete, lacking = (
        judged(made_conditions(change=each, replicates=12), x=BENEFIT)[0]
        for each in (lambda row: {}, change)
    )
    assert "left out" not in complete.why
    assert lacking.why.endswith("replicates left out, as one of their conditions is missing: 2")
    assert lacking.parts[0].m == 10


def test_excluded_conditions_are_told_apart_by_their_axes() -> None:
    def beside_and_within(validation):
        return {"axes": {"validation": validation}, "validation": validation, "lr_at_edge": True}

    rows = [
        row
        for validation in ("beside", "within")
        for row in made_rows(
            sources=["latin"],
            schedules=[300],
            depths=[1, 5] if validation == "within" else [1, 2, 3, 4, 5],
            change=lambda row, validation=validation: beside_and_within(validation),
        )
    ]
    terms = [of_latin("depth_benefit", where={"validation": v}) for v in ("within", "beside")]
    [result] = judged(Conditions(frame_of(rows)), x={"terms": terms})
    assert result.why.startswith("8 of 8 conditions, such as latin to cyrillic, n=10, depth 5, ")
    assert ", validation within: at the edge" in result.why


@pytest.mark.parametrize(
    ("where", "has"), [({"validation": "beside"}, True), ({"validation": "within"}, False)]
)
def test_what_does_not_vary_is_a_coordinate_by_its_column(where, has) -> None:
    [result] = judged(made_conditions(), x={"terms": of_latin("depth_benefit", where=where)})
    assert (result.verdict != "not judged") == has
    assert has or "no trials differ in validation" in result.why


@pytest.mark.parametrize(("updates", "effect"), [("flat", 1.0), ("same", 1.2), (1200, 1.0)])
def test_a_gain_is_one_over_scratch_trained_long_enough(updates, effect) -> None:
    """In made rows four times the updates gain 0.2 with 10 images, for scratch, too: it never levels off."""
    conditions = made_conditions(sd=0.0, replicates=6)
    result = judged(conditions, x=gain(scratch_updates=updates))[0]
    assert result.parts[0].effect == pytest.approx(effect, abs=0.01)
    assert "gain of speed" in result.why


@pytest.mark.parametrize(("updates", "is_speed"), [("same", True), ("flat", False), (1200, False)])
def test_a_gain_over_scratch_that_has_levelled_off_is_none_of_speed(updates, is_speed) -> None:
    """Scratch gains half a logit up to 1200 updates, and then nothing."""

    def logit(source, n, depth, schedule, similarity):
        return 1.0 * (source != "scratch") + 0.5 * (schedule > 300)

    conditions = made_conditions(logit, schedules=[300, 1200, 4800], sd=0.01)
    [result] = judged(conditions, x=gain(scratch_updates=updates, updates=300))
    assert ("gain of speed" in result.why) == is_speed
    assert result.parts[0].effect == pytest.approx(1.0 if is_speed else 0.5, abs=0.02)


# --- measures ---------------------------------------------------------------------------------------


def of_latin(measure="logit_accuracy", n=10, **more):
    return {"measure": measure, "source": "latin", "n_per_class": n, **more}


@pytest.mark.parametrize(
    ("claim", "effect"),
    [
        ({"terms": of_latin("depth_benefit", 50)}, 0.2644),
        (BENEFIT, 0.4644),
        ({"terms": of_latin("schedule_gain", 50, depth="all", low=300, high=1200)}, 0.4322),
        (
            {"terms": of_latin("depth_benefit", [2, 10, 50]), "slope_over": "n_per_class"},
            0.9288,
        ),
        (
            {"terms": of_latin("depth_benefit", [2, 10, 50]), "slope_over": [0.0, 1.0, 2.0]},
            0.9288,
        ),
        ({"terms": [of_latin(depth=3), of_latin(depth=1, weight=-0.5)]}, 0.6),
        ({"terms": of_latin("chosen_depth", 50, depths=[1, "all"])}, 2.36),
        (
            {
                "terms": {
                    "measure": "gradient",
                    "name": "arrival_slope",
                    "where": {"activation": "tanh"},
                },
                "unit": "decades",
            },
            0.1,
        ),
    ],
)
def test_measures_of_terms(claim, effect) -> None:
    rows = made_conditions(sd=0.0, shared_sd=0.0, replicates=6)
    conditions = Conditions(rows.frame, made_gradients(replicates=6))
    [result] = judged(conditions, x=claim)[0].parts
    assert result.effect == pytest.approx(effect, abs=0.01)
    assert (result.points is None) == ("gradient" in str(claim))


def test_points_are_differences_of_accuracy() -> None:
    conditions = made_conditions()
    [result] = judged(conditions, x={"terms": of_latin("depth_benefit", 50)})[0].parts
    place = {"source": "latin", "n_per_class": 50}
    accuracies = [
        conditions.values("test_accuracy", **place, target=target, depth=depth).mean()
        for target in conditions.targets
        for depth in ("all", 1)
    ]
    assert result.points == pytest.approx(
        50 * (accuracies[0] - accuracies[1] + accuracies[2] - accuracies[3])
    )


# --- before anything is trained ---------------------------------------------------------------------

STUDY = (*tiny.WORDS, "depth=[1,2,3,4,5]", "n_per_class=[2,4]", "replicates=6", "target=cyrillic")
DEEPER = {
    "terms": [
        {"measure": "depth_benefit", "source": "latin", "n_per_class": 4},
        {"measure": "depth_benefit", "weight": -1, "source": "latin", "n_per_class": 2},
    ]
}


def checked(words=(), scorecard=None, whole=True, **claims):
    return check(*expand(config(scorecard, [*STUDY, *words], **claims)), whole=whole)


@pytest.mark.parametrize(
    ("words", "claims", "line"),
    [
        (
            ["n_per_class=2"],
            {"x": DEEPER},
            "claims.x: source latin, n_per_class 4, target cyrillic, depth all: no trials; there are n_per_class 2; "
            "without claims: scorecard=[]",
        ),
        (
            ["regime=[lp_ft,l2_sp]"],
            {"x": DEEPER},
            "claims.x: source latin, n_per_class 4, target cyrillic, depth all: several conditions: "
            "regime lp_ft, l2_sp; without claims: scorecard=[]",
        ),
        (
            ["replicates=5"],
            {"x": DEEPER},
            "claims.x: with 5 replicates no p is below 0.062; accepted: 6 or more; without claims: scorecard=[]",
        ),
        (
            [],
            {name: {**DEEPER, "rank": "primary"} for name in "xy"},
            "claims.x: with 6 replicates no p is below 0.062; accepted: 7 or more; without claims: scorecard=[]",
        ),
        (
            ["replicates=12"],
            {name: {**DEEPER, "rank": "primary"} for name in "vwxyz"},
            "claims: got 5 primary claims on letters; at most 4",
        ),
        (
            [],
            {"x": {"terms": {"measure": "gradient", "name": "arrival_slope"}}},
            "claims.x: no table of gradients (measure=gradients makes one); without claims: scorecard=[]",
        ),
        (
            ["measure=gradients"],
            {"x": {"terms": {"measure": "gradient", "name": "arrival"}}},
            "claims.x: gradient: got arrival; accepted: decades_lost, decades_lost_at_first, arrival_slope, "
            "freezing_slope; without claims: scorecard=[]",
        ),
        (
            ["measure=gradients"],
            {
                "x": {
                    "terms": {
                        "measure": "gradient",
                        "name": "arrival_slope",
                        "where": {"activatoin": "tanh"},
                    }
                }
            },
            "claims.x: gradient: arrival_slope: missing a required argument: 'activation'; "
            "without claims: scorecard=[]",
        ),
        (
            [],
            {"x": {"terms": of_latin("depth_benefit", 4, where={"validation": "within"})}},
            "claims.x: source latin, n_per_class 4, validation within, target cyrillic, depth all: "
            "no trials differ in validation; without claims: scorecard=[]",
        ),
        (
            [],
            {"x": {"terms": of_latin("chosen_depth", 4)}},
            "claims.x: chosen_depth: depths are needed, from which to choose; without claims: scorecard=[]",
        ),
        (
            [],
            {"x": {"terms": of_latin("depth_benefit", [2, 4]), "slope_over": "depth"}},
            "claims.x: effect: slope_over needs a number for each of 2 points; without claims: scorecard=[]",
        ),
        (
            [],
            {"x": {"terms": of_latin("depth_benefit", [2, 4], updates=[6, 7, 8])}},
            "claims.x: effect: its points need lists of one length; without claims: scorecard=[]",
        ),
        (
            [],
            {"x": {"parts": [part("same_sign", "latin")]}},
            "claims.x: the first part needs a test of its own; without claims: scorecard=[]",
        ),
    ],
)
def test_a_claim_that_cannot_be_decided_is_refused(words, claims, line) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(line)}$"):
        checked(words, **claims)


def test_a_primary_claim_needs_replicates_for_its_whole_family() -> None:
    claims = {name: {**DEEPER, "rank": "primary"} for name in "xyz"}
    with pytest.raises(UserError, match=r"no p is below 0\.094; accepted: 7 or more"):
        checked(scorecard=["x"], **claims)


def test_principles_of_the_first_version_are_no_claims() -> None:
    with pytest.raises(UserError, match=r"^scorecard: unknown name 'data_size'; known: x\.$"):
        checked(scorecard=["data_size"], x=DEEPER)


def test_a_study_that_has_all_says_what_it_can_find() -> None:
    line = "claim x: 6 replicates find an effect of 1.1 standard deviations of theirs four times in five"
    assert checked(x=DEEPER) == [line]
    beside = {
        **DEEPER,
        "terms": [{**term, "where": {"validation": "beside"}} for term in DEEPER["terms"]],
    }
    assert checked(x=beside) == [line]
    assert checked(x=DEEPER, y=beside) == [line.replace("claim x", "2 claims")]


def test_a_slice_and_a_cut_study_need_not_have_all() -> None:
    [line] = checked(["n_per_class=2"], whole=False, x=DEEPER)
    assert line.startswith("claim x is not judged: source latin, n_per_class 4, target cyrillic")
    [line] = checked(["replicates=5"], whole=False, x=DEEPER)
    assert (
        line == "claim x is not judged: with 5 replicates no p is below 0.062; accepted: 6 or more"
    )
    assert checked(["n_per_class=2", "debug=smoke"], x=DEEPER) == []
    assert is_slice("python -m convtl.run +experiment=finetune_depth 'n_per_class=[2,10]'")
    assert not is_slice("python -m convtl.run +experiment=finetune_depth lr=1e-3 out=x")


MINE = """
says: Digits are worth something.
means: G(digits) is above 0.3 with 10 images a class.
margin: 0.3
smallest_effect: 0.3
terms: {measure: transfer_gain, source: digits, n_per_class: 10, scratch_updates: same}
"""


def test_a_claim_of_ones_own_is_a_file_in_conf(tmp_path, monkeypatch) -> None:
    (tmp_path / "conf" / "claims").mkdir(parents=True)
    (tmp_path / "conf" / "claims" / "digits_help.yaml").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    words = ["source=[digits,scratch]", "depth=all", "n_per_class=10", "scorecard=digits_help"]
    settings, trials = expand(parse(compose(words)))
    assert "deeper_with_more_data" in settings.claims  # the package's are there, too
    [line] = check(settings, trials)
    assert line.startswith("claim digits_help: 6 replicates")


# --- a second seed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "margin", "outcome"),
    [
        ((0.5, 0.1), (0.6, 0.1), 0.0, "replicated"),
        ((0.5, 0.1), (1.0, 0.1), 0.0, "not replicated"),
        ((0.5, 0.2), (0.8, 0.2), 0.0, "not replicated"),  # it differs, by .3 or more or less
        ((0.1, 0.1), (-0.1, 0.1), 0.0, "not replicated"),
        ((0.02, 0.1), (-0.02, 0.1), 0.0, "undecided"),  # other signs, and no difference
        ((0.02, 0.1), (-0.02, 0.1), "delta", "undecided"),  # on whichever side of the margin
        ((0.15, 0.1), (0.25, 0.1), "delta", "replicated"),
        ((0.5, 0.5), (0.6, 0.5), 0.0, "undecided"),
    ],
)
def test_replication(first, second, margin, outcome) -> None:
    runs = [
        [verdict_of([part("above", "a", margin)], numbers(a=values))] for values in (first, second)
    ]
    [result] = replication(*runs)
    assert (result.outcome, result.claim) == (outcome, "x")
    assert result.difference == pytest.approx(second[0] - first[0])
    variance = sum(np.var(values[1] * PATTERN, ddof=1) / 12 for values in (first, second))
    assert result.z2 == pytest.approx(result.difference**2 / variance)
    still = replace(result, z2=float("nan"))  # an effect that varies under neither seed
    assert mean_z2([result, still]) == pytest.approx(result.z2)


def test_an_effect_of_several_claims_is_compared_once() -> None:
    terms = [{"source": "a"}, {"source": "b", "weight": -1}]
    other_sign = [{"source": "b"}, {"source": "a", "weight": -1}]
    claims = {
        "first": {"parts": [{"name": "a - b", "terms": terms}, part("above", "a")]},
        "again": {"parts": [{"name": "b - a", "test": "below", "terms": other_sign}]},
        "equal": {
            "parts": [part("above", "b")]
        },  # the numbers of another condition are no same effect
    }
    run = judged(numbers(a=CLEAR, b=CLEAR, c=NOISY), **claims)
    assert [(pair.claim, pair.part) for pair in replication(run, run)] == [
        ("first", "a - b"),
        ("first", "a"),
        ("equal", "b"),
    ]


def test_effects_in_other_units_have_no_limit_of_replication() -> None:
    run = [verdict_of([part("above", "a")], numbers(a=CLEAR), unit="decades")]
    assert replication(run, run) == []
