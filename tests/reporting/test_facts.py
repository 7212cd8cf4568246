"""What reports state, on studies with known effects."""

import pytest
from made_rows import made_conditions

from convtl.reporting.facts import answers, limits


@pytest.fixture(scope="module")
def made():
    return made_conditions()


def test_an_answer_a_target_in_the_shortest_common_setting(made) -> None:
    found = answers(made)
    assert [one.target for one in found] == ["cyrillic", "greek"]
    assert [(line.source, line.n) for line in found[0].lines] == [
        (source, n) for source in ("latin", "noise") for n in (2, 10, 50)
    ]


def test_depths_that_suffice(made) -> None:
    """D is 0.6 + 0.2 u - 0.8 s along a line of depths: latin -0.66, -0.2, 0.26; noise 0.14, 0.6, 1.06."""
    answer = answers(made)[0]
    depths = {(line.source, line.n): line.suffices for line in answer.lines}
    assert depths["latin", 2] == depths["latin", 10] == 1
    assert depths["noise", 50] in (4, 5)
    assert answer.spoken == ["latin", "noise"]
    assert next(depth for depth, _ in answer.runs("latin")) == 1
    for line in answer.lines:
        assert sum(line.distribution.values()) == pytest.approx(1)


def test_differences_are_settled_small_or_open(made) -> None:
    lines = {(line.source, line.n): line for line in answers(made)[0].lines}
    assert lines["latin", 2].benefit.outcome == "less"
    assert lines["noise", 50].benefit.outcome == "more"
    assert lines["latin", 10].gain.outcome == "more"
    assert lines["noise", 50].gain.outcome == "small"  # its true value is 0
    assert lines["noise", 50].benefit.logits.effect == pytest.approx(1.06, abs=0.15)


@pytest.mark.parametrize(
    ("source", "depth", "replicates", "marked"),
    [
        ("latin", 3, 2, {("latin", 10)}),
        ("latin", 3, 1, set()),
        ("scratch", 5, 2, {("latin", 10), ("noise", 10)}),
    ],
    ids=["a depth", "at most a quarter", "scratch"],
)
def test_lines_with_rates_at_an_edge_are_marked(source, depth, replicates, marked) -> None:
    def change(row):
        place = (row["source"], row["depth"], row["n_per_class"])
        return {"lr_at_edge": place == (source, depth, 10) and row["replicate"] < replicates}

    lines = answers(made_conditions(change=change, targets=("cyrillic",)))[0].lines
    assert {(line.source, line.n) for line in lines if line.at_edge} == marked


@pytest.mark.parametrize(
    ("schedules", "sizes"), [((300, 1200), {10, 50}), ((300,), {2, 10, 50})], ids=["two", "one"]
)
def test_a_gain_over_scratch_that_is_not_flat_is_one_of_speed(schedules, sizes) -> None:
    """Four times the updates add 0.2 + 0.1 u: less than nothing at n=2; with one schedule nobody knows."""
    lines = answers(made_conditions(schedules=schedules, targets=("cyrillic",), sd=0.01))[0].lines
    assert {line.n for line in lines if line.source == "latin" and line.gain.speed} == sizes
    assert not any(line.gain.speed for line in lines if line.gain.logits.effect < 0)


def test_what_is_at_floor_is_in_no_sentence() -> None:
    bad = made_conditions(lambda source, *_: -3.5 if source == "noise" else 0.5)
    answer = answers(bad)[0]
    assert {line.flaw for line in answer.lines if line.source == "noise"} == {"floor"}
    assert answer.spoken == ["latin"]
    assert all(line.benefit.adjusted != line.benefit.adjusted for line in answer.lines if line.flaw)
    assert len(limits(bad)["floor"]) == 6


def test_depths_of_fewer_replicates_are_left_out() -> None:
    def late(row):
        return {"status": "failed"} if row["depth"] in (2, 3, 4) and row["replicate"] > 1 else {}

    line = answers(made_conditions(change=late))[0].lines[0]
    assert set(line.distribution) == {1, 5}
    assert line.m == 6


def test_without_depths_there_is_no_answer() -> None:
    assert answers(made_conditions(depths=(5,))) == []
    assert answers(made_conditions(sources=("scratch",))) == []


def test_limits_are_counted() -> None:
    def change(row):
        edge = row["source"] == "latin" and row["depth"] == 1 and row["replicate"] < 2
        moved = row["source"] == "noise" and row["depth"] == 2 and row["replicate"] == 0
        learned = (
            {}
            if row["source"] == "scratch"
            else {"source_accuracy": 0.9 if row["source"] == "latin" else 0.3}
        )
        return {"lr_at_edge": edge, "frozen_ok": not moved, **learned}

    limit = limits(made_conditions(change=change, targets=("cyrillic",), schedules=(300,)))
    assert (limit["edges"], limit["edge_conditions"], limit["conditions"]) == (6, 3, 33)
    assert limit["moved"] == 3
    assert limit["unmatched"]
    assert limit["sources"] == pytest.approx({"latin": 0.9, "noise": 0.3})
    assert limit["validation"] == [(2, 20.0), (10, 20.0), (50, 20.0)]
    assert (limit["targets"], limit["schedules"], limit["m"]) == (["cyrillic"], [300], 6)


def test_sources_of_a_mixture_are_told_apart_and_labels_within_n_are_no_validation() -> None:
    def change(row):
        within = row["depth"] < 4
        share = 0.8 if row["similarity"] is None else 0.6 + 0.2 * row["similarity"]
        return {"source_accuracy": share} | ({"validation": "within", "n_val": 0} if within else {})

    sources, shares = ("latin", "mixture"), (0.0, 0.25)
    limit = limits(made_conditions(sources=sources, similarities=shares, change=change))
    assert limit["sources"] == pytest.approx({"latin": 0.8, "mixture@0": 0.6, "mixture@0.25": 0.65})
    assert limit["validation"] == [(2, 20.0), (10, 20.0), (50, 20.0)]
    assert limit["budgeted"]
