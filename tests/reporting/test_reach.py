"""What a study can say and what it cannot: sources' accuracies, seeds that had been seen, programs, rates."""

from dataclasses import replace

import pytest
from principle_rows import Need, row

from convtl.analysis.arms import frame
from convtl.analysis.declared import Claim, claims_of
from convtl.analysis.scorecard import Score, scorecard, settings_of
from convtl.reporting import caveats, reach
from convtl.reporting.view import views


def rows() -> list[dict]:
    """A dial whose ends are rows of named sources, and a mixture that learned its kinds unequally well."""
    named = [
        row(Need(name, 10, 1, 300), "cyrillic", r, 0.0, source_accuracy_by_part=[0.9])
        for name in ("own", "noise")
        for r in (0, 1)
    ]
    ends = [
        one | {"source": "mixture", "similarity": share}
        for one in named
        for share in [{"own": 1.0, "noise": 0.0}[one["source"]]]
    ]
    inner = [
        row(
            Need("mixture@0.5", 10, 1, 300),
            "cyrillic",
            r,
            0.0,
            source_accuracy=0.81,
            source_accuracy_by_part=[0.92 + r / 50, 0.7],
        )
        for r in (0, 1)
    ]
    return [*named, *ends, *inner]


def test_mixtures_have_their_own_accuracies_and_those_of_their_kinds() -> None:
    (said,) = caveats.learned(frame(rows()))
    assert (
        "(accuracy on their own validation images: own 90%, noise 90%, mixture@0.5 81% (near 93%, far 70%))"
        in said
    )


def test_rows_that_serve_as_a_mixtures_ends_are_named_once() -> None:
    assert caveats.stand_ins(frame(rows())) == {"mixture@1": "own", "mixture@0": "noise"}
    text = reach.box(frame(rows()), [], [], {})
    assert text.count("The same trials, run once: mixture@0 and noise; mixture@1 and own.") == 1
    apart = [one | {"trial": f"{one['trial']} {one['source']}"} for one in rows()]
    assert caveats.shared(frame(apart)) == []
    assert caveats.shared(frame([])) == []
    assert caveats.learned(frame([])) == []


def test_accuracies_of_sources_are_those_for_main_targets() -> None:
    others = [
        one | {"target": "cyrillic_round", "source_accuracy": 0.3, "trial": f"r{one['trial']}"}
        for one in rows()
    ]
    data = frame([*rows(), *others])
    said = reach.box(data, views(settings_of(data)), [], {})
    assert "own 90%, noise 90%" in said


def test_photographs_as_a_target_are_in_the_scope() -> None:
    facts = {
        "faces": "DejaVu Sans",
        "targets that are no letters": "textures (patches of photographs)",
    }
    text = reach.box(frame(rows()), [], [], facts)
    assert "and as targets textures (patches of photographs)" in text
    assert "or photographs" not in text
    assert "handwriting or photographs" in reach.box(
        frame(rows()), [], [], {"faces": "DejaVu Sans"}
    )


@pytest.fixture(scope="module")
def scores() -> list[Score]:
    return scorecard(["similarity"], frame(rows()))


def seen(scores: list[Score], *places: int) -> list[Score]:
    def known(claim: Claim, seed: int | None) -> Claim:
        return replace(claim, seen=seed)

    return [
        replace(score, claim=known(score.claim, 0 if number in places else None))
        for number, score in enumerate(scores, 1)
    ]


def box(scores: list[Score], **facts: object) -> str:
    return reach.box(frame(rows()), [], scores, facts)


def test_claims_with_a_look_at_a_seed_are_named_and_so_is_what_that_means_here(scores) -> None:
    assert len(scores) == len(claims_of(["similarity"])) >= 3
    own = box(seen(scores, 1, 3), seed=0)
    assert (
        "Claims 1 and 3 got their words or their numbers when some results of seed 0 had been seen, this study's own: "
        "here they are exploratory, and another seed tests them."
    ) in own
    other = box(seen(scores, 2), seed=4)
    assert (
        "Claim 2 got its words or its numbers when some results of seed 0 had been seen, while this study's is 4: this "
        "is its test."
    ) in other
    both = {"seed": 0, "run again with seed": 4}
    assert "and seed 4, below Table 1, tests them." in box(seen(scores, 1, 3), **both)
    assert "had been seen" not in box(seen(scores), seed=0)


def test_the_program_is_named_for_what_it_did(scores) -> None:
    facts = {"commit of this report": "0123456789", "rows made by": "commits a (2 rows) and b (1)"}
    said = box(scores, **facts)
    assert (
        "are part of the program (this report: commit 0123456789), and no result changes them"
        in said
    )
    assert "> - The rows were made by commits a (2 rows) and b (1)." in said
    assert "are part of the program, and no result changes them" in box(scores)
    assert "written down in the program" not in said
