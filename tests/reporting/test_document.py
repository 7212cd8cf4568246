"""The report says what is in the rows, whatever the rows are."""

import html.parser
import re
from dataclasses import replace

import pytest
from PIL import Image
from synthetic_rows import CLAIM, TRUTH, pictures, row, study

from convtl.reporting import figures
from convtl.reporting.document import headline, results_of, to_html, write_report

SCOPE = {
    "command": "python -m convtl.run +experiment=finetune_depth",
    "classes": 12,
    "faces": "DejaVu Sans",
}


def report(
    tmp_path,
    rows,
    *,
    claims=(CLAIM,),
    scope=SCOPE,
    samples=None,
    left_out=(),
    title="How many layers",
):
    path = write_report(
        results_of(rows, claims, scope),
        tmp_path,
        title=title,
        question="How many?",
        scope=scope,
        samples=samples,
        left_out=left_out,
    )
    assert path == tmp_path / "report.html"
    assert not [
        item for item in tmp_path.rglob("*") if item.name.startswith(".") or item.suffix == ".part"
    ]
    return (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made but not rendered: for tests of words, which are then ten times as fast."""

    def save(figure, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (1, 1)).save(path)
        return path

    monkeypatch.setattr(figures, "save", save)


def section(text, heading):
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.S | re.M)[1]


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    text = report(out, study(), samples=pictures(), left_out=["3 rows of another protocol"])
    return out, text


def test_a_study_of_one_rate_is_reported_without_a_warning(tmp_path):
    rows = [
        {**row, "lr": 1e-3, "lr_at_edge": False} for row in study(3) if row["n_per_class"] == 10
    ]
    assert "## Figures" in report(tmp_path, rows)


def test_sections_come_in_order(full):
    headings = re.findall(r"^## (.*)", full[1], re.M)
    assert headings == [
        "Answer",
        "Declared claim",
        "Headline table",
        "Figures",
        "Methods",
        "Missing, diverged, failed, left out",
        "Reproduce",
    ]
    assert full[1].index("> **What this study can say**") < full[1].index("## Declared claim")


def test_the_answer_says_the_effects_that_were_put_in(full):
    answer = section(full[1], "Answer")
    sentences = re.findall(r"^- ", answer, re.M)
    assert 3 <= len(sentences) <= 6
    assert "From latin, only the last layer (out) at n=2 and 10" in answer
    assert "the last 3 (fc3 and above) at n=50" in answer
    assert re.search(r"from latin it loses at n=2 \(4\d% to \d\d%\) and n=10", answer)
    assert re.search(r"from textures it gains at n=2 \(\d\d% to \d\d%\), n=10", answer)
    gain = re.search(r"Transfer instead.*", answer)[0]
    assert re.search(r"from latin it gains at n=2 \(\+\d+\.\d points\), n=10 .* and n=50", gain)
    assert "from textures it makes no settled difference at n=2" in gain
    assert "850 of 61,706 weights" in answer
    assert "**supported**" in answer


def test_sentences_turn_with_the_data(tmp_path, undrawn):
    turned = {key: tuple(-z for z in reversed(curve)) for key, curve in TRUTH.items()}
    turned |= {("latin", 50): (1.2, 0.6, 0.4, 0.2, 0.0), ("latin", 2): (-0.9, -0.5, 0.0, 0.3, 0.5)}
    turned |= {("scratch", n): (2.0,) for n in (2, 10, 50)}
    answer = section(report(tmp_path, study(truth=turned)), "Answer")
    assert "**contradicted**" in answer
    assert re.search(r"from latin it gains at n=2 .*loses at .*n=50", answer)
    assert re.search(r"Transfer instead.*from latin it loses at n=2", answer)


def test_the_limits_are_computed(full, tmp_path, undrawn):
    box = full[1][full[1].index("> **What") : full[1].index("## Declared claim")]
    for text in (
        "2 sources (latin, textures) on 1 target (cyrillic), n = 2, 10, 50",
        "6 replicates",
        "smallest possible two-sided p is 0.031",
        "One claim was declared before the results, and its p is unadjusted",
        "nothing here shows that it holds for targets other than cyrillic",
        "One schedule only (300 updates whatever n)",
        "Oracle validation (20 labels a class that are not counted in n)",
        "new jitter of letters in known faces (DejaVu Sans)",
    ):
        assert text in box
    rows = study(2) + study(2, target="armenian", updates=1200)
    other = report(tmp_path, rows, claims=(), scope={})
    for text in ("One target only", "One schedule only", "known faces"):
        assert text not in other
    assert "No claim was declared" in other


def test_the_headline_table_holds_the_effects(full):
    table = section(full[1], "Headline table")
    line = next(line for line in table.splitlines() if line.startswith("| textures | 50 "))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    benefit = float(re.match(r"\+([\d.]+)", cells[7])[1])
    assert benefit == pytest.approx(TRUTH["textures", 50][4] - TRUTH["textures", 50][0], abs=0.15)
    assert cells[7].endswith("\\*")
    assert cells[3] == "5 (conv1, all)"
    assert "level 96.9%" in table


def test_the_depth_is_chosen_on_validation_and_never_on_test(tmp_path, undrawn):
    truth = {key: curve for key, curve in TRUTH.items() if key[1] == 10}
    rows = study(truth=truth)
    for item in rows:
        item["val_accuracy"] = 0.9 if item["depth"] == 4 else 0.5
    text = report(tmp_path, rows, claims=())
    lines = [
        line for line in section(text, "Headline table").splitlines() if line.startswith("| latin")
    ]
    assert "| 4 (conv2) |" in lines[0]


def test_the_page_needs_no_other_file(full):
    out, text = full
    page = (out / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|src=\"(?!data:)|<link|<script|@import|url\(", page)
    assert page.count("data:image/png;base64,") == len(list((out / "figures").glob("*.png")))
    assert set(re.findall(r"\]\(figures/([^)]+)\)", text)) == {
        p.name for p in (out / "figures").iterdir()
    }
    html.parser.HTMLParser().feed(page)
    assert '<meta name="viewport"' in page
    assert "| --- |" not in page


def test_figures_are_small(full):
    figures = {path.name: path.stat().st_size for path in (full[0] / "figures").iterdir()}
    assert set(figures) == {
        "accuracy_by_depth.png",
        "depth_benefit.png",
        "learning_curves.png",
        "cost.png",
        "learning_rates.png",
        "calibration.png",
        "samples.png",
    }
    assert max(figures.values()) < 150_000


def test_captions_are_computed(full):
    text = section(full[1], "Figures")
    assert "Depth matters most from textures at n=50" in text
    assert re.search(r"training all layers is better in \d, worse in 2", text)
    assert "differs 10-fold between depths (0.01 at depth 1, 0.001 at depth 5)" in text
    assert "6 of 198 chosen rates are at the edge" in text
    assert "smallest at depth 1 (0.030) and largest at depth 5 (0.110)" in text


def test_what_is_missing_is_named(tmp_path, undrawn):
    rows = [
        item
        for item in study()
        if (item["source"], item["depth"], item["replicate"]) != ("latin", 2, 3)
    ]
    for item in rows:
        place = (item["source"], item["n_per_class"], item["depth"], item["replicate"])
        if place == ("textures", 10, 4, 1):
            item |= {"status": "diverged", "test_accuracy": None}
        if place == ("textures", 50, 5, 2):
            item |= {"status": "failed", "reason": "disk | full"}
        if place == ("latin", 50, 5, 0):
            item |= {"frozen_ok": False}
    text = section(
        report(tmp_path, rows, left_out=["4 rows of another seed"]), "Missing, diverged.*?"
    )
    assert "| diverged | textures to cyrillic, n=10, depth 4, replicate 1 |" in text
    assert "| failed: disk \\| full | textures to cyrillic, n=50, depth 5, replicate 2 |" in text
    assert "| frozen weights moved | latin to cyrillic, n=50, depth 5, replicate 0 |" in text
    assert "| not run | latin to cyrillic, n=2, depth 2 (fc4): 1 replicate |" in text
    assert "| left out | 4 rows of another seed |" in text
    assert text.count("| not run |") == 3


def test_a_complete_study_misses_nothing(tmp_path, undrawn):
    assert "Nothing: every trial of the grid" in report(tmp_path, study(2))


DEGENERATE = {
    "no rows": [],
    "nothing done": [row("latin", 2, 1, 0, 0.0, status="failed", test_accuracy=None, lr=None)],
    "one trial": [row("latin", 2, 1, 0, 0.0)],
    "scratch only": [row("scratch", n, 5, r, 0.1 * n) for n in (2, 10) for r in range(3)],
    "one depth": study(3, truth={("latin", 2): (0.5,), ("scratch", 2): (0.1,)}),
    "one source, one n": study(3, truth={("latin", 2): TRUTH["latin", 2], ("scratch", 2): (-1.6,)}),
    "no scratch": [item for item in study(3) if item["source"] != "scratch"],
    "one replicate": study(1),
    "no spread": study(6, noise=0.0, truth={("latin", 2): (0.0, 0.0), ("latin", 50): (0.0, 0.0)}),
    "bare rows": [
        {
            key: item[key]
            for key in (
                "source",
                "depth",
                "n_per_class",
                "replicate",
                "test_accuracy",
                "n_test",
                "status",
            )
        }
        for item in study(2)
    ],
    "ceiling": [{**item, "test_accuracy": 1.0} for item in study(2)],
    "many n": study(2, truth={("latin", n): (0.1 * n, 0.2 * n) for n in (1, 2, 3, 5, 8, 13, 21)}),
    "many sources": study(2, truth={(f"$odd_{k}^漢", 2): (0.1, 0.2) for k in range(10)}),
}


SLOW = ("no scratch", "no spread", "many n", "many sources")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in DEGENERATE],
)
def test_degenerate_studies_have_a_report(name, tmp_path):
    rows = DEGENERATE[name]
    text = report(tmp_path, rows, scope={})
    assert "nan" not in text.lower()
    assert re.findall(r"^- ", section(text, "Answer"), re.M)
    if name in ("no rows", "nothing done"):
        assert "No trial is finished yet" in text
        assert "No trial is finished yet" in headline(results_of(rows, (CLAIM,), {}))
    if name not in ("one replicate", "no spread", "ceiling", "bare rows", "no scratch"):
        assert "not enough data" in text
    assert headline(results_of(rows, (CLAIM,), {}))


def test_several_settings_are_reported_apart(tmp_path, undrawn):
    rows = (
        study(3) + study(3, target="armenian") + study(3, regime="lp_ft") + study(3, updates=1200)
    )
    rows += [item for item in study(3, regime="discriminative") if item["source"] != "scratch"]
    text = report(tmp_path, rows)
    titles = re.findall(r"^### (.*)", section(text, "Headline table"), re.M)
    assert len(titles) == len(set(titles)) == 5
    assert titles[1] == "fine_tune, 300 updates, target armenian"
    assert len(re.findall(r"^- ", section(text, "Answer"), re.M)) <= 6
    assert (tmp_path / "figures" / "accuracy_by_depth_5.png").exists()
    assert not (tmp_path / "figures" / "cost_2.png").exists()


def test_the_order_of_sources_is_as_given(tmp_path, undrawn):
    text = report(tmp_path, study(2), scope={"sources": ["textures", "latin", "scratch"]})
    table = section(text, "Headline table")
    assert table.index("| textures |") < table.index("| latin |")


def test_user_text_is_not_markup(tmp_path, undrawn):
    claim = replace(CLAIM, statement="a | b <b>")
    text = report(tmp_path, study(2), claims=(claim,), title="<script>alert(1)</script>")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "a | b &lt;b&gt;" in page
    assert "a \\| b <b>" in text


def test_a_report_can_be_written_again(tmp_path):
    rows = study(2, truth={key: curve for key, curve in TRUTH.items() if key[1] == 10})
    first = report(tmp_path, rows)
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert report(tmp_path, rows) == first
    assert pictures == {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}


def test_headline_is_plain_text():
    lines = headline(results_of(study(), (CLAIM,), {})).splitlines()
    assert lines[0] == "target cyrillic"
    assert lines[1].split()[:2] == ["source", "n"]
    assert sum(line.startswith(("latin", "textures")) for line in lines) == 6
    assert "supported" in lines[-1]
    assert "**" not in "\n".join(lines)
    assert "No trial is finished yet" in headline(results_of([], (), {}))


def test_of_many_settings_the_first_are_drawn_and_the_tables_have_all(tmp_path, undrawn) -> None:
    rows = [row for updates in range(100, 1400, 100) for row in study(2, updates=updates)]
    text = report(tmp_path, rows)
    assert "The first 4 of 13 settings are drawn; the tables have them all." in text
    assert len(list((tmp_path / "figures").glob("learning_curves*.png"))) == 4
    assert "1300 updates" in section(text, "Headline table")
    assert "drawn; the tables" not in report(tmp_path / "fewer", rows[: 12 * len(rows) // 13])


def test_markdown_without_pictures_becomes_a_page(tmp_path):
    page = to_html("# A\n\n**contradicted**\n", "A & B", tmp_path)
    assert '<strong class="outcome contradicted">' in page
    assert "<title>A &amp; B</title>" in page


def test_differences_that_few_replicates_cannot_settle_are_called_so(tmp_path, undrawn):
    answer = section(report(tmp_path, study(replicates=3)), "Answer")
    assert "no settled difference" not in answer
    assert re.search(
        r"from latin it makes a difference that 3 replicates are too few to settle at n=2 \(",
        answer,
    )
