"""The pages for users: commands compose, links lead somewhere, tables are those of conf/ and of the published study."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from convtl.cli import compose, points
from convtl.config.parsing import parse
from convtl.entry import options
from convtl.reporting import tables
from convtl.reporting.publish import RECORD, published

ROOT = Path(__file__).parent.parent
FRONT = ROOT / "README.md"
PAGES = [FRONT, *(ROOT / folder / "README.md" for folder in ("conf", "experiments", "sweeps"))]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """The words after `convtl.run` of every command in a block of code."""
    texts = "\n".join(map(text_of, PAGES))
    blocks = re.findall(r"^```bash\n(.*?)^```", texts, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if "convtl.run" in line]
    words = [shlex.split(line.split("python -m convtl.run")[-1], comments=True) for line in lines]
    return [given for given in words if given != ["--help"]]


@pytest.mark.parametrize("given", commands(), ids=" ".join)
def test_every_command_is_a_study(given: list[str]) -> None:
    for words in points(given[1:]) if given[0] == "-m" else [given]:
        parse(compose(words))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.parent.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", text_of(page))
    assert links
    assert not [link for link in links if not (page.parent / link).exists()]


def test_the_front_page_is_a_screen_and_a_half() -> None:
    assert len(text_of(FRONT).splitlines()) <= 120


def test_every_experiment_stands_there_with_its_question() -> None:
    row = re.compile(r"^\| \[`(\w+)`\]\(\S+\) \| (.+) \|$", re.MULTILINE)
    files = {
        path.stem: yaml.safe_load(path.read_text())
        for path in (ROOT / "conf/experiment").glob("*.yaml")
    }
    assert dict(row.findall(text_of(ROOT / "experiments/README.md"))) == {
        name: " ".join(content["question"].split()) for name, content in files.items()
    }


def test_every_model_stands_among_the_values_of_its_axis() -> None:
    (row,) = re.findall(r"^\| `model` \|.*$", text_of(ROOT / "conf/README.md"), re.MULTILINE)
    assert all(f"`{name}`" in row for name in options("models"))


def test_the_example_of_a_claim_is_one() -> None:
    (example,) = re.findall(
        r"^  ```yaml\n(.*?)^  ```", text_of(ROOT / "conf/README.md"), re.MULTILINE | re.DOTALL
    )
    content = compose([])
    content["claims"]["mine"] = yaml.safe_load(example)
    assert parse(content).claims["mine"].parts[0].terms[1].weight == -1


def front_verdicts() -> dict[str, str]:
    """Name of a claim -> its cell for letters in the table of verdicts."""
    row = re.compile(r"^\| \[[^\]]+\]\(conf/claims/(\w+)\.yaml\) \| ([^|]+) \|", re.MULTILINE)
    return dict(row.findall(text_of(FRONT)))


def test_the_front_page_has_the_primary_claims_and_the_number_of_the_others() -> None:
    claims = parse(compose([])).claims
    assert set(front_verdicts()) == {n for n, claim in claims.items() if claim.rank == "primary"}
    assert f"the other [{len(claims) - len(front_verdicts())}](conf/claims)" in text_of(FRONT)


def test_verdicts_are_those_of_the_published_study() -> None:
    """Until `principles` is published under the plan of today, the table says so."""
    folder = ROOT / "experiments/principles"
    if not (folder / RECORD).exists():
        assert set(front_verdicts().values()) == {"being run anew"}
        return
    report = published(folder)
    again = [pair for pair in report.pairs if pair.outcome == "replicated"]
    limits, count = report.limits, {0: "none"}
    floor, edges = limits["excluded"], limits["edge_conditions"]
    unjudged = sum(verdict.verdict == "not judged" for verdict in report.verdicts)
    text = " ".join(text_of(FRONT).split())
    assert f"of {len(report.pairs)} effects {len(again)} were found" in text
    assert f"Of the {limits['conditions']} conditions of `principles` {floor} are at floor" in text
    assert f"and {count.get(edges, edges)} has over a quarter of its learning rates" in text
    assert ("no claim went unjudged" in text) == (unjudged == 0)
    assert not limits["ceiling"]
    differ = [v for v in report.verdicts if report.second_verdicts[v.name] != v.verdict]
    assert {v.claim.rank for v in differ} == {"secondary"}
    assert f"{len(differ)} verdicts on secondary claims differ" in text
    for verdict in report.verdicts:
        if cell := front_verdicts().get(verdict.name):
            assert f"**{tables.outcome(verdict.verdict)}**" in cell
            shown = re.findall(r"[+\N{MINUS SIGN}]?\d+\.\d+", cell)
            assert set(shown) <= set(
                re.findall(r"[+\N{MINUS SIGN}]?\d+\.\d+", tables.effects(verdict))
            )
