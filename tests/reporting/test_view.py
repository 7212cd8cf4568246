"""Views: what is matched, what the only trained units are, which cells are at an edge; and the pictures of these."""

import math

import pytest
from principle_rows import Need, row

from convtl.analysis.arms import frame
from convtl.analysis.scorecard import settings_of
from convtl.reporting import principle_figures, similarity_plots
from convtl.reporting.depth_plots import benefit_map, benefit_map_caption, depth_benefits
from convtl.reporting.view import View, views

SOURCES = ("own", "latin", "georgian", "hebrew", "textures", "noise", "digits")


def view(rows: list[dict]) -> View:
    return views(settings_of(frame(rows)))[0]


def rows(
    depths=(1, 5), sources=SOURCES, counts=(10,), z=lambda need: 0.1 * need.depth, **other
) -> list[dict]:
    needs = [Need(source, n, depth, 300) for source in sources for n in counts for depth in depths]
    needs += [Need("scratch", n, 5, 300) for n in counts]
    made = [
        row(need, "cyrillic", r, z(need) + 0.01 * r, **other) for need in needs for r in range(4)
    ]
    return [
        one
        | {
            "source_classes": 10 if one["source"] == "digits" else 12,
            "source_images": 500 if one["source"] == "digits" else 3600,
        }
        for one in made
    ]


def test_unmatched_sources_are_in_no_correlation() -> None:
    found = view(rows())
    assert found.unmatched == ("digits",)
    assert {one.items for one in similarity_plots.correlations(found).values()} == {6}
    assert "left out of it, as not matched: digits" in similarity_plots.gain_by_distance_caption(
        found
    )


def test_fewer_than_five_sources_have_no_correlation() -> None:
    few = view(rows(sources=SOURCES[:4]))
    assert not similarity_plots.correlations(few)
    assert "(too few sources for a correlation)" in similarity_plots.gain_by_distance_caption(few)
    assert similarity_plots.constructed_caption(few) == ""


def test_the_strongest_predictor_is_one_that_is_evidence() -> None:
    taus = similarity_plots.correlations(view(rows()))
    assert any(measure == "linear_probe" for measure, _ in taus)
    said = similarity_plots.predictors_caption(taus)
    assert "linear_probe" not in said
    assert "= <" not in said


@pytest.mark.parametrize(
    ("depth", "units", "only"),
    [
        (1, "conv1", "conv1 alone"),
        (2, "conv1+fc5", "conv1+fc5"),
        (5, "", "all layers"),
        (1, "", "fc5 alone"),
    ],
)
def test_one_depth_is_named_by_what_is_trained_and_compared_with_no_other(
    depth, units, only
) -> None:
    made = rows((depth,), ("latin",), (2, 10, 50), trained_units=units)
    found = view(made)
    assert found.only == only
    names = [one.name for one in principle_figures.of_view(found, lambda units: {})]
    assert names == ["learning_curves"]
    assert view(rows()).only == ""


def test_a_benefit_that_is_there_from_the_smallest_n_on_is_no_crossing() -> None:
    rising = view(
        rows(counts=(10, 50), z=lambda need: 0.1 * need.depth * math.log(need.n_per_class))
    )
    said = benefit_map_caption(rising)
    assert "D is above 0 already at the smallest n (10): own (300 updates)" in said
    assert "D reaches 0" not in said
    lines = [line for axis in benefit_map(rising).axes for line in axis.get_lines()]
    assert not lines
    crossed = view(
        rows(counts=(10, 50), z=lambda need: (need.depth - 1) * (need.n_per_class - 30) / 100)
    )
    assert "D reaches 0 near n=" in benefit_map_caption(crossed)
    assert any(line for axis in benefit_map(crossed).axes for line in axis.get_lines())


def test_cells_at_floor_are_shown_and_not_tested() -> None:
    found = view(rows(z=lambda need: -4.0 if need.source == "noise" else 0.1 * need.depth))
    assert found.edge("noise", 10, 300) == "floor"
    assert found.edge("latin", 10, 300) == ""
    by_source = {one.source: one for one in depth_benefits(found)}
    assert by_source["noise"].at_edge
    assert by_source["noise"].sign == 0
    assert "† 1 cell at floor or ceiling: not tested." in benefit_map_caption(found)
    assert len(found.gain("noise", 10, "all", 300)) == 4
