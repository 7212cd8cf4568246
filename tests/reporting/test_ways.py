"""Ways of fine-tuning beside each other: only where they were, with the right numbers, nothing on top of another."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from PIL import Image
from principle_rows import Need, row

from convtl.analysis.arms import frame
from convtl.analysis.statistics import max_t
from convtl.keys import generator
from convtl.reporting import figures, principles, way_plots, ways
from convtl.reporting.way_plots import Arm, Point

RIVALS = {
    "lp_ft": (5, "conv1", 0.1, 40e6),
    "discriminative": (5, "conv1", 0.3, 75e6),
    "gradual": (5, "conv1", -0.2, 30e6),
    "l2_sp": (5, "conv1", 0.0, 75e6),
    "first_unit": (2, "conv1+fc5", -0.6, 55e6),
    "middle_units": (3, "conv2+fc3+fc5", 0.05, 20e6),
}
"""Regime -> depth, unit, logits above fine-tuning all layers, FLOPs an update."""
TARGETS = ("cyrillic",)


def options(
    counts=(2, 10, 50),
    replicates=6,
    targets=TARGETS,
    sources=("latin", "noise"),
    rivals_of=("latin",),
    **other,
):
    """Rows of a study of ways: fine-tuning by depth, its rivals, scratch, a control."""
    draw = generator(3, "ways", replicates)
    shared = draw.normal(0, 0.2, replicates)
    found = []

    def add(source, n, depth, z, **more):
        for target, replicate in itertools.product(targets, range(replicates)):
            value = z + shared[replicate] + draw.normal(0, 0.04)
            need = Need(source, n, depth, 300)
            trial = f"{need} {target} {replicate} {other} {more}"
            found.append(row(need, target, replicate, value, trial=trial, **{**other, **more}))

    for n in counts:
        size = np.log10(n)
        for source in sources:
            for depth in range(1, 6):
                add(source, n, depth, size - 0.15 * abs(depth - 2))
        add("scratch", n, 5, size - 1)
        add("latin:shuffled", n, 5, size - 0.8)
        add("latin:shuffled", n, 5, size - 0.8, regime="l2_sp")
        for source, (regime, (depth, unit, above, flops)) in itertools.product(
            rivals_of, RIVALS.items()
        ):
            more = {"regime": regime, "depth_unit": unit, "flops_per_update": flops}
            add(source, n, depth, size - 0.45 + above, **more)
    return found


def shifts(*settings, **more):
    plain = {"shift.inversion": False, "shift.noise": 0.0, "shift.blur": 0.0}
    return [one for axes in settings for one in options(axes={**plain, **axes}, **more)]


def found(rows, targets=TARGETS):
    return ways.compared(frame(rows), targets)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made but not rendered."""

    def save(figure, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (1, 1)).save(path)
        return path

    monkeypatch.setattr(figures, "save", save)


# --- what is compared -----------------------------------------------------------------------------------


def test_only_sources_that_were_trained_in_several_ways_and_no_controls():
    places = found(options())
    assert list(places) == ["latin"]
    assert [(place.n, place.setting, place.updates) for place in places["latin"]] == [
        (2, "", ""),
        (10, "", ""),
        (50, "", ""),
    ]
    arms = {(arm.regime, arm.depth) for arm in places["latin"][0].accuracy}
    assert arms == {("fine_tune", depth) for depth in range(1, 6)} | {
        (regime, rival[0]) for regime, rival in RIVALS.items()
    }


def test_nothing_is_said_of_one_regime_of_other_targets_and_of_no_rows(tmp_path, undrawn):
    assert ways.section(tmp_path, frame(options(rivals_of=())), TARGETS) == []
    assert ways.section(tmp_path, frame([]), TARGETS) == []
    assert not (tmp_path / "figures").exists()
    split = [one for one in options() if one["regime"] == "fine_tune"] + [
        {**one, "target": "armenian"} for one in options() if one["regime"] != "fine_tune"
    ]
    main = [one for one in split if one["regime"] == "fine_tune" or one["regime"] == "gradual"]
    assert found(main, ("cyrillic", "armenian")) == {}


def test_numbers_are_those_of_the_rows():
    rows = options(counts=(10,), targets=("cyrillic", "armenian"))
    (place,) = found(rows, ("cyrillic", "armenian"))["latin"]
    data = frame(rows)
    own = data[(data["source"] == "latin")]
    by_replicate = own.groupby(["regime", "depth", "replicate"])[["z", "test_accuracy"]].mean()
    for arm, accuracy in place.accuracy.items():
        expected = by_replicate.loc[(arm.regime, arm.depth)]
        np.testing.assert_allclose(accuracy, expected["test_accuracy"])
        if arm in place.changes:
            np.testing.assert_allclose(
                place.changes[arm], expected["z"] - by_replicate.loc[("fine_tune", 5)]["z"]
            )
    assert place.reference == next(arm for arm in place.accuracy if arm.name == "fine_tune 5")
    assert place.cost[place.reference].iloc[0] == pytest.approx(75e6 * 300)
    values = np.array(list(place.changes.values()))
    np.testing.assert_allclose(list(place.adjusted.values()), max_t(values))
    assert len(place.scratch) == 6


def test_an_arm_that_lacks_a_target_is_left_out():
    rows = options(counts=(10,), targets=("cyrillic", "armenian"))
    rows = [one for one in rows if one["target"] == "cyrillic" or one["regime"] != "l2_sp"]
    (place,) = found(rows, ("cyrillic", "armenian"))["latin"]
    assert "l2_sp" not in {arm.regime for arm in place.accuracy}


def test_without_training_of_all_layers_at_one_rate_nothing_is_tested(tmp_path, undrawn):
    rows = [
        one
        for one in options()
        if one["regime"] != "fine_tune" or one["depth"] < 5 or one["source"] == "scratch"
    ]
    (places,) = found(rows).values()
    assert all(place.reference is None and not place.changes for place in places)
    text = "\n".join(ways.section(tmp_path, frame(rows), TARGETS))
    assert "nothing to test them against" in text
    assert "*" not in re.sub(r"\*\*|\\\* adjusted", "", text)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"axes.shift.inversion": "True", "axes.shift.noise": "0.0"}, "inversion"),
        ({"axes.shift.inversion": "False", "axes.shift.noise": "0.3"}, "noise 0.3"),
        ({"axes.shift.inversion": "True", "axes.shift.noise": "0.30"}, "inversion, noise 0.3"),
        ({"axes.shift.inversion": "False", "axes.shift.noise": "0"}, "no shift"),
        ({"axes.shift.inversion": "False", "axes.n_transferred": "3"}, "n transferred 3"),
        ({"axes.shift.inversion": "False", "axes.n_transferred": "2"}, "as usual"),
        ({}, ""),
    ],
)
def test_settings_in_short_words(content, name):
    assert ways.setting_name(content, {"axes.n_transferred": "2"}) == name


def test_settings_are_kept_apart():
    places = found(shifts({"shift.inversion": True}, {"shift.noise": 0.3}, counts=(10, 50)))[
        "latin"
    ]
    assert [place.title for place in places] == [
        "inversion, n=10",
        "inversion, n=50",
        "noise 0.3, n=10",
        "noise 0.3, n=50",
    ]


# --- the section ----------------------------------------------------------------------------------------


def test_the_section_of_one_setting(tmp_path, undrawn):
    text = "\n".join(ways.section(tmp_path, frame(options()), TARGETS))
    assert (tmp_path / "figures" / "ways.png").exists()
    assert "](figures/ways.png)" in text
    assert text.startswith("## Ways of fine-tuning compared")
    assert "from latin" in text
    assert "in the tables only" not in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert table[0] == "| way, trained layers | trained units | n=2 | n=10 | n=50 |"
    assert len(table) == 2 + 11
    assert re.search(
        r"\| discriminative 5 \| conv1 \| \d\d\.\d%; \+0\.\d\d \[\+0\.\d\d,\s\+0\.\d\d\] \\\* \|",
        table[2 + 5],
    )
    assert re.fullmatch(r"\| fine_tune 5 \| conv1 \|( \d\d\.\d% \|){3}", table[2 + 4])
    assert not re.search(r"\bnan\b", text)
    said = re.search(
        r"Of 30 differences from fine_tune with all layers, (\d+) hold .*: (\d+) above it, (\d+)",
        text,
    )
    assert said
    assert int(said[1]) == text.count(" \\* |") == int(said[2]) + int(said[3]) > 0


def test_the_caption_names_the_highest_arm_of_each_panel(tmp_path, undrawn):
    rows = [
        one
        for one in options(counts=(10, 50))
        if (one["n_per_class"], one["depth"], one["regime"]) != (50, 2, "fine_tune")
    ]
    places = found(rows)["latin"]
    said = ways.caption(places, 1)
    for place in places:
        means = {arm.name: values.mean() for arm, values in place.accuracy.items()}
        name = max(means, key=means.__getitem__)
        assert re.search(rf"{name} \([^)]*{place.title}: {100 * means[name]:.1f}%", said)


def test_other_sources_have_a_table_but_no_figure(tmp_path, undrawn):
    rows = options(counts=(10,), rivals_of=("latin", "noise"))
    text = "\n".join(ways.section(tmp_path, frame(rows), TARGETS))
    assert text.count("![") == 1
    assert "is no control; the others" in text
    assert text.count("**From latin.**") == text.count("**From noise.**") == 1


def test_more_columns_than_are_readable_make_a_table_for_each_setting(tmp_path, undrawn):
    rows = shifts(
        {"shift.inversion": True}, {"shift.noise": 0.3}, {"shift.blur": 2.0}, replicates=2
    )
    text = "\n".join(ways.section(tmp_path, frame(rows), TARGETS))
    heads = [line for line in text.splitlines() if line.startswith("| way")]
    assert len(heads) == 3
    assert "blur 2, n=2 | blur 2, n=10 | blur 2, n=50 |" in heads[2]


def test_one_replicate_and_no_prices_still_make_a_table(tmp_path, undrawn):
    rows = [{**one, "flops_per_update": None} for one in options(replicates=1)]
    text = "\n".join(ways.section(tmp_path, frame(rows), TARGETS))
    assert "![" not in text
    assert "| l2_sp 5 |" in text
    assert "hold after adjustment" in text


def test_units_are_named_from_the_lowest_to_the_last(tmp_path):
    rows = [
        {
            **one,
            "trained_units": "conv1+conv2+fc3+fc4+fc5" if one["depth"] == 5 else one["depth_unit"],
        }
        for one in options(counts=(10,))
    ]
    units = {arm.name: arm.units for arm in found(rows)["latin"][0].accuracy}
    assert units["fine_tune 5"] == "conv1 to fc5"
    assert units["middle_units 3"] == "conv2+fc3+fc5"
    assert units["fine_tune 1"] == "fc5"


def test_it_follows_the_box_of_the_report(tmp_path, undrawn, monkeypatch):
    monkeypatch.setattr(principles, "_depths", lambda found: ["## How many layers\n"])
    monkeypatch.setattr(principles, "_figures", lambda *given: [])
    rows = options(counts=(10,), replicates=2)
    principles.write_report(
        rows,
        tmp_path,
        title="ways",
        question="Which?",
        names=(),
        targets=TARGETS,
        scope={},
        samples=None,
        left_out=(),
        probes=None,
        uncached=lambda units: {},
    )
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    order = [
        "## Scorecard",
        "What it cannot",
        "## Ways of fine-tuning compared",
        "## How many layers",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


# --- the picture ----------------------------------------------------------------------------------------


def test_no_label_lies_on_another():
    rows = shifts({"shift.inversion": True}, {"shift.noise": 0.3}, counts=(10,), replicates=2)
    panels = [ways._panel(place) for place in found(rows)["latin"]]
    figure = way_plots.ways(panels)
    figure.draw_without_rendering()
    for axis in figure.axes:
        boxes = [Text.get_window_extent(text) for text in axis.texts]  # without their leaders
        assert len(boxes) == 11
        assert not [(a, b) for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]


def test_the_front_holds_what_no_cheaper_arm_reaches():
    def point(cost, accuracy):
        return Point(cost, pd.Series([accuracy]))

    points = {
        Arm("fine_tune", 1, ""): point(1, 0.5),
        Arm("fine_tune", 2, ""): point(2, 0.4),
        Arm("gradual", 5, ""): point(3, 0.6),
        Arm("l2_sp", 5, ""): point(3, 0.7),
    }
    assert [arm.name for arm in way_plots.front(points)] == ["fine_tune 1", "l2_sp 5"]


@given(st.lists(st.floats(0, 1), max_size=25), st.floats(0.01, 0.2))
def test_labels_are_spaced_within_the_panel(heights, apart):
    heights = sorted(heights)
    spread = way_plots.spaced(heights, apart)
    assert len(spread) == len(heights)
    least = min(apart, 1 / max(1, len(heights) - 1))
    assert all(b - a > least - 1e-9 for a, b in itertools.pairwise(spread))
    assert all(-1e-9 <= height <= 1 + 1e-9 for height in spread)
    if all(b - a >= apart for a, b in itertools.pairwise(heights)):
        np.testing.assert_allclose(spread, heights, atol=1e-9)
