"""The report of a study of declared claims: the scorecard first, and nothing that the rows do not say."""

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from principle_rows import MAIN, Need, cells, row, study
from synthetic_rows import pictures
from test_gradient_section import rows as probe_rows

from convtl.analysis.arms import blocks, frame
from convtl.analysis.declared import PRINCIPLES, claims_of
from convtl.analysis.scorecard import settings_of
from convtl.reporting import (
    data_plots,
    depth_plots,
    depth_table,
    figures,
    layer_plots,
    policy_plots,
    principles,
    similarity_plots,
)
from convtl.reporting.view import View, over_targets, views
from convtl.training.probes import COLUMNS

SCOPE = {
    "command": "python -m convtl.run +experiment=principles",
    "faces": "DejaVu Sans",
    "scripts": "cyrillic",
}


@pytest.fixture(scope="module")
def rows():
    return study(*PRINCIPLES)


@pytest.fixture(scope="module")
def view(rows) -> View:
    (found,) = views(settings_of(frame(rows), MAIN))
    return found


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made but not rendered."""

    def save(figure, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (1, 1)).save(path)
        return path

    monkeypatch.setattr(figures, "save", save)


def report(out, rows, names=PRINCIPLES, samples=None, left_out=(), probes=None):
    path, printed = principles.write_report(
        rows,
        out,
        title="principles",
        question="Which hold?",
        names=names,
        targets=MAIN,
        scope=SCOPE,
        samples=samples,
        left_out=left_out,
        probes=probes,
        uncached=lambda units: {1: 1e6, 3: 2e5} if units else {},
    )
    assert path == out / "report.html"
    return (out / "report.md").read_text(encoding="utf-8"), printed


def section(text: str, heading: str) -> str:
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.S | re.M)[1]


# --- the report -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full(rows, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    left_out = ["7 rows of another protocol (other updates, rates, seed, classes, ...)"]
    return out, *report(out, rows, samples=pictures(3), left_out=left_out)


def test_the_scorecard_comes_first(full):
    _, text, _ = full
    headings = re.findall(r"^## (.*)", text, re.M)
    assert headings == [
        "Scorecard",
        "How many layers",
        "Figures",
        "Methods",
        "Missing, diverged, failed, left out",
        "Reproduce",
    ]
    assert (
        text.index("| verdict |")
        < text.index("> **What this study can say**")
        < text.index("**Table 2.**")
    )
    assert not re.search(r"\bnan\b", text.lower())


def test_every_declared_claim_has_a_row_and_a_printed_line(full):
    _, text, printed = full
    claims = claims_of(PRINCIPLES)
    table = section(text, "Scorecard")
    assert len(re.findall(r"^\| \d+\\\. ", table, re.M)) == len(claims)
    assert [int(number) for number in re.findall(r"^(\d+)  ", printed, re.M)] == list(
        range(1, len(claims) + 1)
    )
    first = next(line for line in table.splitlines() if line.startswith("| 1\\."))
    cells_of_it = [cell.strip() for cell in first.strip("|").split(" | ")]
    assert re.match(
        r"D\(similarity 0\) - D\(similarity 1\), n=10 = \*\*\+1\.\d\d\*\* \[\+.*;\s96\.9%\]",
        cells_of_it[2],
    )
    assert cells_of_it[4] == "6; cyrillic, armenian"
    assert "**" not in printed


def test_the_limits_say_scope_and_schedule(full):
    _, text, _ = full
    box = "\n".join(line for line in text.splitlines() if line.startswith(">"))
    for said in (
        "Its scope is lenet5, scripts cyrillic, 12 classes",
        "new jitter of letters in known faces (DejaVu Sans)",
        "Short schedule only, for claims",
        "Sources are fixed, not redrawn",
        "Oracle validation (labels that are not counted in n) chose learning rates",
        "under another `seed`",
    ):
        assert said in box


def test_every_figure_has_its_data_and_is_small(full):
    out, text, _ = full
    drawn = {path.name: path.stat().st_size for path in (out / "figures").iterdir()}
    assert set(drawn) == {
        "layer_transfer.png",
        "accuracy_by_depth.png",
        "depth_benefit.png",
        "similarity_effect.png",
        "learning_curves.png",
        "learning_rates.png",
        "gain_by_distance.png",
        "measured_similarity.png",
        "predictors.png",
        "regret.png",
        "cost.png",
        "samples.png",
        "learning_curves_2.png",  # of textures as a target, with one depth
    }
    assert max(drawn.values()) < 200_000
    assert set(re.findall(r"\]\(figures/([^)]+)\)", text)) == set(drawn)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == len(drawn)
    assert not re.search(r"https?://|<script|<link", page)
    assert '<td colspan="7"' in page
    assert '<td style="background: rgba(0, 114, 178' in page  # G above 0 in Table 2


def test_probes_of_gradients_are_a_part(tmp_path, undrawn):
    probes = pd.DataFrame(
        [dict(zip(COLUMNS, line, strict=True)) for line in probe_rows()], columns=list(COLUMNS)
    )
    text, printed = report(tmp_path, [], names=("vanishing_gradients",), probes=probes)
    assert (
        text.index("## Scorecard")
        < text.index("## Gradients, unit by unit")
        < text.index("## Methods")
    )
    assert "(gradient_profile.png)" in text.replace("figures/", "")
    assert re.search(r"^1 .*<0\.01|^1 .*0\.0\d\d", printed, re.M)


DEGENERATE = {
    "no rows": [],
    "nothing done": [
        row(Need("latin", 10, 1, 300), "cyrillic", 0, 0.0, status="failed", test_accuracy=None)
    ],
    "one trial": [row(Need("latin", 10, 1, 300), "cyrillic", 0, 0.0)],
    "scratch only": [row(Need("scratch", 10, 5, 300), "cyrillic", r, 0.0) for r in range(3)],
    "one replicate": study("similarity", "data_size", "rule_of_thumb", "options", replicates=1),
    "no scratch": [
        item for item in study("similarity", replicates=2) if item["source"] != "scratch"
    ],
    "layers only": study("layer_transfer", replicates=2),
    "one target begun": [
        item
        for item in study("similarity", replicates=3)
        if item["target"] == "cyrillic" or item["depth"] == 1
    ],
    "ceiling": [{**item, "test_accuracy": 1.0} for item in study("rule_of_thumb", replicates=2)],
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_studies_have_a_report(name, tmp_path, undrawn):
    text, printed = report(tmp_path, DEGENERATE[name])
    assert not re.search(r"\bnan\b", text.lower())
    assert "not enough data" in text
    assert "scorecard" in printed


# --- pieces ---------------------------------------------------------------------------------------------


def test_a_view_averages_targets_inside_a_replicate(rows, view):
    assert view.targets == ("cyrillic", "armenian")
    assert view.names[:6] == ("own", "latin", "georgian", "hebrew", "textures", "noise")
    assert view.schedules == (300, 1200)
    z = frame(rows)
    own = z[
        (z["source"] == "latin")
        & (z["n_per_class"] == 10)
        & (z["updates"] == 300)
        & (z["depth"] == 1)
    ]
    wanted = own[own["target"].isin(view.targets)].groupby("replicate")["z"].mean()
    assert view.z("latin", 10, 1, 300).tolist() == pytest.approx(wanted.tolist())
    assert not len(view.z("greek", 10, 1, 300))
    assert (view.z("mixture@0", 10, 1, 300) == view.z("mixture@0", 10, 1, 300)).all()


def test_four_targets_have_an_interquartile_mean():
    index = pd.MultiIndex.from_product([list("abcd"), [0]], names=["target", "replicate"])
    assert over_targets(pd.Series([0.0, 1.0, 2.0, 90.0], index)).tolist() == [1.5]


def test_targets_with_other_sources_are_looked_at_apart():
    far = [row(Need("latin", 10, k, 300), "textures", r, 0.0) for k in (1, 5) for r in range(2)]
    near = [row(Need("noise", 10, k, 300), "cyrillic", r, 0.0) for k in (1, 5) for r in range(2)]
    assert [found.targets for found in views(settings_of(frame(far + near)))] == [
        ("textures",),
        ("cyrillic",),
    ]


def test_the_depth_that_suffices_and_its_gain(view):
    found = {(cell.source, cell.n, cell.updates): cell for cell in depth_table.depth_cells(view)}
    near, far = found["own", 10, 300], found["noise", 50, 300]
    assert near.likely == 1
    assert far.likely == 5
    assert near.gain == pytest.approx(1.2, abs=0.3)
    assert abs(far.gain) < 0.15
    assert near.settled
    text = depth_table.table(view, list(found.values()))
    assert re.search(r"\| own \| 300 \|.*\*\*1\*\*: \d\.\d\d.*; G \*\*\+1\.\d\d\*\*", text)
    assert "halves" in depth_table.legend(list(found.values()))


def test_cells_are_coloured_by_their_gain():
    page = depth_table.coloured(
        "<td><strong>1</strong>: 1.00; G <strong>+1.20</strong></td><td>5: 1; G −0.30 *</td>"
    )
    assert 'rgba(0, 114, 178, 0.50)"><strong>1' in page
    assert "rgba(213, 94, 0, 0.1" in page
    untouched = "<td>G(latin) - G(noise)</td>"
    assert depth_table.coloured(untouched) == untouched


def test_the_rule_has_no_regret_where_it_is_right(view):
    right = {("latin", 2): 1, ("latin", 50): 3, ("noise", 2): 5, ("noise", 50): 5}

    def score(need: Need) -> float:
        return 1.0 if need.depth == right[need.source, need.n_per_class] else 0.0

    needed = [Need(source, n, k, 300) for source, n in right for k in (1, 2, 3, 5)]
    (own,) = views(settings_of(frame(study(score=score, needed=needed))))
    found = {
        name: one.effect
        for name, (one, _) in policy_plots.mean_regrets(policy_plots.regrets(own)[0]).items()
    }
    assert found["the rule"] == pytest.approx(0, abs=0.02)
    assert found["always the last layer"] == pytest.approx(0.75, abs=0.05)
    assert found["always all layers"] == pytest.approx(0.5, abs=0.05)


def test_the_front_holds_what_nothing_beats():
    points = [
        (1.0, 0.5, "a", 1, 300),
        (2.0, 0.4, "a", 2, 300),
        (3.0, 0.9, "b", 3, 300),
        (3.0, 0.8, "a", 3, 300),
    ]
    assert policy_plots.front(points) == [points[0], points[2]]


def test_what_transfer_is_worth_in_labels(view):
    worth = {n: e for n, _, e in data_plots.equivalents(view, "latin", 300)}
    assert worth[2].log2_ratio > 1
    assert worth[max(worth)].censored == "right"
    assert data_plots.times(worth[max(worth)]).startswith("≥×")


def test_where_the_benefit_of_depth_crosses_zero(view):
    counts, place = depth_plots.crossings(view, "latin", 300)
    assert counts == [2, 10, 50]
    assert 2**place == pytest.approx(8, rel=0.6)  # -0.9 + log2(n) / 4 + 0.375 = 0
    assert depth_plots.crossings(view, "noise", 300)[1] == -np.inf


def test_measures_are_compared_with_outcomes(view):
    found = similarity_plots.correlations(view)
    assert found["mmd2", "G, all layers"].tau > 0.8
    assert found["mmd2", "D"].tau < -0.8


def test_specificity_and_difference_to_the_base():
    def score(need: Need) -> float:
        frozen = 5 - need.depth
        return {"self": 1.0, "own": 1.0 - 0.2 * frozen, "scratch": 0.5}.get(need.source, 0.0)

    needed = [*cells("layer_transfer"), Need("scratch", 300, 5, 900, "cyrillic")]
    found = layer_plots.splits(frame(study(score=score, needed=needed, noise=0.001)))
    random = next(split for split in found if split.target == "cyrillic")
    assert layer_plots.specificity(random).mean().tolist() == pytest.approx(
        [0.2, 0.4, 0.6, 0.8], abs=0.02
    )
    assert layer_plots.curves(random)["BnB"].mean().tolist() == pytest.approx([0.5] * 4, abs=0.02)


def test_units_that_were_kept_and_trained_on_are_lines_of_their_own():
    base = [row(Need("scratch", 300, 5, 900), "cyrillic", r, 0.0) for r in range(2)]
    kept = [
        row(
            Need("own", 300, 5, 900),
            "cyrillic",
            r,
            1.0,
            axes={"upper_init": "fresh", "n_transferred": j},
            trial=f"{j} {r}",
        )
        for j in (1, 2)
        for r in range(2)
    ]
    (split,) = layer_plots.splits(frame(base + kept))
    assert list(layer_plots.curves(split)["AnB+"]) == [1, 2]


# --- places of trials ------------------------------------------------------------------------------------


def test_a_trial_that_stands_for_two_sources_is_in_both_places():
    one = row(Need("noise", 10, 1, 300), "cyrillic", 0, 0.0)
    rows = [one, one | {"source": "mixture", "similarity": 0.0}, one]
    found = frame(rows)
    assert found["source"].tolist() == ["noise", "mixture"]
    (block,) = blocks(found)
    assert block.sources == ("noise", "mixture@0")


def test_blocks_are_named_by_what_tells_them_apart():
    def part(n, updates, target, **axes):
        axes = {"classes": 12, "n_transferred": None, "upper_init": "source"} | axes
        need = Need("latin", n, 1, updates)
        return [
            row(
                need,
                target,
                r,
                0.0,
                axes=axes,
                config=str(axes),
                trial=f"{target}{updates}{r}{axes}",
            )
            for r in (0, 1)
        ]

    rows = (
        part(10, 300, "cyrillic")
        + part(10, 1200, "cyrillic")
        + part(100, 300, "letter_pairs", classes=2)
    )
    rows += part(300, 900, "cyrillic", upper_init="fresh")
    assert [block.title for block in blocks(frame(rows))] == [
        "300 updates, target cyrillic",
        "1200 updates, target cyrillic",
        "300 updates, target letter_pairs",
        "900 updates, target cyrillic",
    ]
