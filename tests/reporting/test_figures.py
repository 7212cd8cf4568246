"""Every figure draws what `Conditions` says, and is left out where that is missing."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from convtl.analysis.claims import PartResult, Verdict
from convtl.analysis.conditions import Conditions
from convtl.analysis.statistics import sign_flip_interval
from convtl.config.claims import ClaimConfig, PartConfig, TermConfig
from convtl.config.domains import Jitter, TypedScriptConfig
from convtl.reporting.figures.drawing import looks, save
from convtl.reporting.figures.series import shift_name
from convtl.reporting.report import FIGURES
from convtl.reporting.samples import lacks_samples
from tests.made_rows import UNITS, Row, frame_of, made_gradients, made_rows

MAPS = "feature_maps"
BY_NAME = {figure.name: figure for figure in FIGURES}
N10 = "10 images a class"


def changed(**fields: Any) -> Any:
    return lambda row: {"axes": axes(), **fields}


def axes(**values: Any) -> Row:
    return {"upper_init": "source", "n_transferred": None, "shift.inversion": False} | values


def study() -> list[Row]:
    """Rows with everything that some figure shows."""
    every: dict[str, Any] = {"replicates": 3}
    short_only = {**every, "schedules": (300,), "sizes": (10,)}
    noisy = ("latin", "latin_clean", "latin_noisy")
    moved = {"moved": {unit: [0.1, 0.9] for unit in UNITS[:-1]} | {"fc5": [None, None]}}
    inverted = axes(**{"shift.inversion": True})
    fresh = {**short_only, "change": changed(axes=axes(upper_init="fresh"))}
    rivals = {**short_only, "sources": ("latin",), "depths": (5,)}
    return [
        *made_rows(
            sources=("latin", "textures", "noise", "scratch"), **every, change=changed(**moved)
        ),
        *made_rows(
            sources=("mixture",), similarities=(0.0, 0.5, 1.0), **short_only, change=changed()
        ),
        *made_rows(sources=("latin:shuffled", *noisy[1:]), **short_only, change=changed()),
        *made_rows(sources=("own", "self"), depths=(1, 2, 3, 4), **fresh),
        *made_rows(**rivals, change=changed(regime="lp_ft")),
        *made_rows(sources=("latin", "scratch"), **short_only, change=changed(axes=inverted)),
        *made_rows(**rivals, change=changed(axes=inverted, regime="first_unit_only", depth=1)),
    ]


def verdict(name: str, effects: dict[str, float], outcome: Any) -> Verdict:
    claim = ClaimConfig(says="so", means="this", parts=(PartConfig(terms=(TermConfig(),)),))
    parts = []
    for part, effect in effects.items():
        values = (effect - 0.1, effect, effect + 0.1)
        interval = sign_flip_interval(values)
        parts.append(PartResult(part, 0.0, values, effect, None, interval, 0.1, {}, False))
    return Verdict(name, claim, outcome, "", parts=tuple(parts))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures and feature maps as a study keeps them."""
    out = tmp_path_factory.mktemp("figures")
    draw = np.random.default_rng(0)
    letters, colours = (
        np.zeros((3, 8, 8, 1), np.uint8),
        draw.integers(0, 255, (2, 8, 8, 3), np.uint8),
    )
    letters[:, 2:6, 3:5] = 255
    pictures = {"cyrillic/images": letters, "cyrillic/labels": np.array(["Д", "Ж", "ሀ"])}
    pictures |= {"cats/images": colours, "cats/labels": np.array(["tabby", "a very long name"])}
    pictures |= {
        "hidden/images": draw.integers(0, 255, (3, 8, 8, 1)),
        "hidden/labels": np.array(list("abc")),
    }
    np.savez(out / "samples.npz", **pictures)
    return out


@pytest.fixture(scope="module")
def report(folder: Path) -> SimpleNamespace:
    frame = frame_of(study())
    conditions = Conditions(frame, made_gradients(), main_targets=("cyrillic", "greek"))
    domains = {
        name: TypedScriptConfig(script=name.partition("_")[0], jitter=Jitter(noise=noise))
        for name, noise in {
            "latin": 0.4,
            "latin_clean": 0.0,
            "latin_noisy": 0.8,
            "cyrillic": 0.4,
        }.items()
    }
    (folder / MAPS).mkdir()
    tuned = frame[
        (frame["source"] == "latin") & (frame["depth"] == 5) & (frame["n_per_class"] == 50)
    ]
    pair = np.ones((2, 1, 8, 8, 6))
    for trial in tuned["trial"]:
        arrays = {"kernels": np.ones((2, 6, 5, 5)), "maps/conv1": pair}
        np.savez(folder / MAPS / f"{trial}.npz", **arrays)
    verdicts = [
        verdict("deeper", {"effect": 0.5}, "supported"),
        verdict("two", {"a": 0.1, "b": -1.0}, "mixed"),
    ]
    again = SimpleNamespace(verdicts=[verdict("deeper", {"effect": 0.3}, "supported")])
    return SimpleNamespace(
        config=SimpleNamespace(domains=domains),
        conditions=conditions,
        verdicts=verdicts,
        folder=folder,
        replication=again,
    )


def empty(report: SimpleNamespace) -> SimpleNamespace:
    conditions = Conditions(frame_of([]), main_targets=("cyrillic",))
    nothing = {"verdicts": [], "replication": None, "folder": Path("nowhere")}
    return SimpleNamespace(**{**vars(report), "conditions": conditions, **nothing})


@pytest.mark.parametrize("name", BY_NAME)
def test_a_figure_draws_and_says_what_it_shows(
    report: SimpleNamespace, name: str, tmp_path: Path
) -> None:
    figure, before = BY_NAME[name], dict(matplotlib.rcParams)
    assert figure.needs(report)
    path = save(figure.draw(report), tmp_path / "figures" / f"{name}.png")
    with Image.open(path) as picture:
        assert 900 <= picture.width <= 1_000
        assert picture.height <= 3_000
    text = figure.caption_for(report)
    assert "{" not in text
    assert len(text) > 80
    assert figure.title
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in vars(matplotlib)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_figure_is_left_out_where_its_numbers_are_missing(
    report: SimpleNamespace, name: str
) -> None:
    assert not BY_NAME[name].needs(empty(report))


def test_accuracies_are_those_of_conditions_averaged_over_targets(report: SimpleNamespace) -> None:
    parts = BY_NAME["accuracy_by_depth"].data(report)
    assert list(parts) == ["2 images a class", N10, "50 images a class"]
    assert list(parts[N10]) == ["from latin", "from textures", "from noise", "scratch"]
    where = {
        "source": "latin",
        "n_per_class": 10,
        "depth": 2,
        "updates": 300,
        "upper_init": "source",
    }
    where |= {"regime": "fine_tune", "shift.inversion": False}
    by_target = [
        report.conditions.values("test_accuracy", target=target, **where)
        for target in ("cyrillic", "greek")
    ]
    drawn = parts[N10]["from latin"]["2\nfc4"]
    pd.testing.assert_series_equal(drawn, sum(by_target) / 2, check_names=False)
    assert list(drawn.index) == [0, 1, 2]


@pytest.mark.parametrize(
    ("fields", "hollow"),
    [({}, []), ({"lr_at_edge": True}, [1]), ({"test_accuracy": 0.1}, [1])],
    ids=["fit", "edge", "floor"],
)
def test_unfit_conditions_are_hollow(fields: Row, hollow: list[int]) -> None:
    def change(row: Row) -> Row:
        place = row["source"], row["depth"], row["target"], row["n_per_class"]
        return fields if place == ("latin", 2, "greek", 10) else {}

    conditions = Conditions(frame_of(made_rows(replicates=3, change=change)))
    nothing = SimpleNamespace(conditions=conditions, config=SimpleNamespace(domains={}))
    panels = BY_NAME["accuracy_by_depth"].draw(nothing).axes
    white = [line for line in panels[1].lines if line.get_markerfacecolor() == "white"]
    assert [round(x) for line in white for x in line.get_xdata()] == hollow
    whites = [line for line in panels[0].lines if line.get_markerfacecolor() == "white"]
    assert not any(len(line.get_xdata()) for line in whites)


def test_benefits_and_gains_are_those_of_conditions(report: SimpleNamespace) -> None:
    benefits = BY_NAME["depth_benefit"].data(report)["cyrillic, greek"]
    gains = BY_NAME["gain_by_similarity"].data(report)[f"{N10} of cyrillic and greek"]
    latin, noise = (
        {n: values.mean() for n, values in benefits[f"from {source}"].items()}
        for source in ("latin", "noise")
    )
    assert latin[10] == pytest.approx(-0.2, abs=0.15)  # as the rows were made
    assert noise[50] - noise[2] == pytest.approx(0.2 * np.log2(25), abs=0.2)
    assert gains["all layers trained"]["latin"].mean() == pytest.approx(1.2, abs=0.15)
    places = list(gains["all layers trained"])
    assert places.index("latin:shuffled") == len(places) - 1
    assert "scratch" not in places
    dial = BY_NAME["depth_benefit_by_similarity"].data(report)["mixtures: difference"]
    line = {share: values.mean() for share, values in dial["all − last layer"].items()}
    assert line == pytest.approx({0.0: 0.6, 0.5: 0.2, 1.0: -0.2}, abs=0.2)


@pytest.mark.parametrize(
    ("distances", "order"),
    [
        ({"latin": 0.1, "own": 0.3, "noise": 0.2, "textures": 0.4}, "latin noise own textures"),
        ({"latin": 0.1, "own": 0.3, "noise": 0.2}, None),
        ({}, None),
    ],
    ids=["all measured", "one lacks it", "none measured"],
)
def test_sources_are_in_order_and_joined_only_if_all_distances_are_known(
    report: SimpleNamespace, distances: dict[str, float], order: str | None
) -> None:
    frame = frame_of(
        made_rows(sources=("latin", "own", "noise", "textures", "scratch"), sizes=(10,))
        + made_rows(sources=("mixture",), sizes=(10,), similarities=(0.0, 0.5, 1.0))
    )
    frame["mmd2"] = frame["source"].map(distances)
    conditions = Conditions(frame, main_targets=("cyrillic", "greek"))
    report = SimpleNamespace(**{**vars(report), "conditions": conditions})
    ladder, gain = BY_NAME["depth_benefit_by_similarity"], BY_NAME["gain_by_similarity"]
    places = (order or "latin own noise textures").split()
    for figure in (ladder, gain):
        title, part = next(iter(figure.data(report).items()))
        assert list(next(iter(part.values()))) == places
        texts = (figure.caption_for(report), title)
        assert ["near" in text.lower() and "far" in text for text in texts] == [
            order is not None
        ] * 2
    dashes = {
        axis.get_title(): {bars.lines[0].get_linestyle() for bars in axis.containers}
        for axis in ladder.draw(report).axes
    }
    assert len(dashes) == 4
    for title, styles in dashes.items():
        assert ("None" in styles) == (title.startswith("sources") and order is None)


def test_only_figures_of_their_own_show_other_ways(report: SimpleNamespace) -> None:
    assert [*BY_NAME["regimes"].data(report)] == [f"from latin,\n{N10}"]
    [levels] = BY_NAME["corruption"].data(report).values()
    assert sorted(levels["last layer trained"]) == [0.0, 0.4, 0.8]
    seen = BY_NAME["shifts"].data(report)
    assert list(seen["inversion"][N10]) == [
        *(f"last {d}" for d in range(1, 6)),
        "first alone",
        "fresh net",
    ]
    carried = BY_NAME["layer_transfer"].data(report)["cyrillic, n=10, 300 updates"]
    assert {name: sorted(line) for name, line in carried.items() if name != "scratch"} == {
        "other classes, frozen": [1, 2, 3, 4],
        "the same classes, frozen": [1, 2, 3, 4],
    }


def test_a_second_seed_stands_beside_the_first(report: SimpleNamespace) -> None:
    [seeds] = BY_NAME["verdicts"].data(report).values()
    shown = {seed: {name: v.mean() for name, v in line.items()} for seed, line in seeds.items()}
    assert shown == {
        "": pytest.approx({"deeper ✔": 0.5, "two:\na ±": 0.1, "two:\nb ±": -1.0}),
        "another seed": pytest.approx({"deeper ✔": 0.3}),
    }


def test_gradients_are_read_by_unit(report: SimpleNamespace) -> None:
    costs = BY_NAME["freezing_costs"].data(report)["tanh, sgd"]["from update 50"]
    assert {unit: values.mean() for unit, values in costs.items()} == pytest.approx(
        {unit: 0.3 * (5 - place) for place, unit in enumerate(UNITS, 1)}
    )
    profile = BY_NAME["gradient_profile"].data(report)["sigmoid, update 0"]["he_normal"]
    assert profile[1].mean() == pytest.approx(-4.5)


def test_units_that_moved_stand_from_the_input_on(report: SimpleNamespace) -> None:
    change, alike = BY_NAME["movement"].data(report).values()
    assert list(change) == list(alike) == ["latin", "textures", "noise", "scratch"]
    for line in change.values():
        assert [unit for unit, values in line.items() if len(values)] == list(UNITS[:-1])
    assert {values.mean() for values in alike["latin"].values() if len(values)} == {0.9}


def test_noise_is_smoothed_where_it_hides_a_picture(report: SimpleNamespace) -> None:
    [drawing] = [BY_NAME["samples"].draw(report)]
    names = [axis.get_yticklabels()[0].get_text() for axis in drawing.axes]
    assert names == ["cyrillic", "cats", "hidden\n(smoothed)"]
    assert [t.get_text() for t in drawing.axes[1].get_xticklabels()] == ["tabby", "a very l…"]


def test_looks_are_told_apart_without_colour() -> None:
    chosen = looks(["last layer trained", "all layers trained", *"abcdef"])
    shown = [chosen[name] for name in ("last layer trained", "all layers trained", *"abcdef")]
    assert len({colour for colour, *_ in shown}) == len({marker for _, marker, _ in shown}) == 8
    assert looks(["scratch"])["scratch"] == looks(["a", "scratch"])["scratch"]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, ""),
        ({"upper_init": "fresh", "shift.inversion": False, "shift.noise": 0.0}, ""),
        ({"shift.inversion": True, "shift.noise": 0.3}, "inversion, noise 0.3"),
        (
            {"shift.inversion": "True", "shift.rotation": "60", "shift.blur": "0"},
            "inversion, rotation 60",
        ),
    ],
)
def test_shifts_are_named_alike_from_trials_and_tables(values: Row, name: str) -> None:
    assert shift_name(values) == name


def test_samples_lack_what_a_trial_sees_otherwise(folder: Path) -> None:
    def lacks(**fields: Any) -> bool:
        trial = SimpleNamespace(**{"target": "cyrillic", "source": "scratch", "axes": {}} | fields)
        return lacks_samples(folder, [trial], {"cats": 0, "dogs": 0})  # type: ignore[list-item]

    assert not lacks()
    assert not lacks(source="cats")
    assert lacks(source="dogs")
    assert lacks(axes={"shift.inversion": True})
    assert not lacks(source="imagenet")  # its pictures are not at hand
