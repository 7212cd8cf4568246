"""Numbers as text, and tables in their three forms."""

from types import SimpleNamespace

import pytest

from convtl.analysis.claims import Verdict
from convtl.analysis.statistics import Interval
from convtl.config.claims import ClaimConfig
from convtl.reporting import tables
from convtl.reporting.tables import Cell, table

NAN = float("nan")


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (tables.signed, 0.424, "+0.42"),
        (tables.signed, -1.3, "−1.30"),
        (tables.signed, -0.001, "0.00"),
        (tables.signed, NAN, "–"),
        (tables.percent, 0.6134, "61.3%"),
        (tables.percent, None, "–"),
        (tables.points, -0.0123, "−1.2"),
        (tables.p_value, 0.0004, "<0.001"),
        (tables.p_value, 0.03125, "0.031"),
        (tables.p_value, NAN, "–"),
        (tables.duration, 48.0, "48 s"),
        (tables.duration, 720.0, "12 min"),
        (tables.duration, 12240.0, "3.4 h"),
        (tables.listed, [], ""),
        (tables.listed, [2], "2"),
        (tables.listed, (2, 10, 50), "2, 10 and 50"),
    ],
)
def test_numbers_as_text(function, value, text: str) -> None:
    assert function(value) == text


@pytest.mark.parametrize(
    ("depth", "text"), [(1, "the last layer"), (3, "the last 3 layers"), (5, "all layers")]
)
def test_layers(depth: int, text: str) -> None:
    assert tables.layers(depth, 5) == text


def test_intervals() -> None:
    assert tables.span(Interval(-0.1, 0.523, 0.95)) == "[−0.10,\N{NO-BREAK SPACE}+0.52]"


@pytest.fixture
def small() -> tables.Table:
    return table(
        [
            {"a|b": "x | y", "n": Cell("**2**", "number", 2)},
            {"a|b": "<b>\nnew", "n": Cell("10", "number", 10)},
        ]
    )


def test_markdown_cells_may_hold_any_text(small) -> None:
    assert (
        small.markdown() == "| a\\|b | n |\n| --- | --- |\n| x \\| y | **2** |\n| <b> new | 10 |\n"
    )


def test_html_cells_get_their_classes_when_they_are_made(small) -> None:
    html = small.html({"n": 'images "a class"'})
    assert '<th scope="col" title="images &#34;a class&#34;">n</th>' in html
    assert '<td class="number" data-order="2"><strong>2</strong></td>' in html
    assert "&lt;b&gt;" in html
    assert "\n\n" not in html  # which would end a block of HTML in Markdown


def test_plain_lines_are_aligned(small) -> None:
    assert small.plain().splitlines()[:2] == ["a|b      n", "x | y    2"]


def test_a_table_without_rows_is_false() -> None:
    assert not table([])


def test_replicates_of_a_claim_are_those_of_its_smallest_part() -> None:
    parts = [SimpleNamespace(name=str(m), m=m, by_target={}, effect=0.5) for m in (12, 10)]
    parts = [
        SimpleNamespace(**vars(one), points=None, interval=Interval(0, 1, 0.95)) for one in parts
    ]
    claim = ClaimConfig(says="s", means="m", parts=[{"terms": {"source": "latin"}}])
    verdict = Verdict("x", claim, "supported", "", 0.01, 0.04, tuple(parts))
    assert tables.verdicts(SimpleNamespace(verdicts=[verdict], second_verdicts={})).frame[
        "m"
    ].tolist() == [10]
