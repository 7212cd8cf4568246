"""README.md: its commands compose, its links lead somewhere, its experiments are those of conf/experiment."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from convtl.cli import compose, points
from convtl.config.parsing import parse
from convtl.entry import options

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """The words after `convtl.run` of every command in a block of code."""
    blocks = re.findall(r"^```bash\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if "convtl.run" in line]
    words = [shlex.split(line.split("python -m convtl.run")[-1], comments=True) for line in lines]
    return [given for given in words if given != ["--help"]]


@pytest.mark.parametrize("given", commands(), ids=" ".join)
def test_every_command_is_a_study(given: list[str]) -> None:
    for words in points(given[1:]) if given[0] == "-m" else [given]:
        parse(compose(words))


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    reports = {f"experiments/{name}/README.md" for name in options("experiment")}
    missing = [link for link in links if link not in reports and not (ROOT / link).exists()]
    assert links
    assert not missing


def test_every_experiment_stands_there_with_its_question() -> None:
    row = re.compile(r"^\| \[`(\w+)`\]\(experiments/(\w+)/README\.md\) \| (.+) \|$", re.MULTILINE)
    told = {name: (folder, question) for name, folder, question in row.findall(TEXT)}
    files = {
        path.stem: yaml.safe_load(path.read_text())
        for path in (ROOT / "conf/experiment").glob("*.yaml")
    }
    assert told == {
        name: (name, " ".join(content["question"].split())) for name, content in files.items()
    }


def test_every_model_stands_among_the_values_of_its_axis() -> None:
    (row,) = re.findall(r"^\| `model` \|.*$", TEXT, re.MULTILINE)
    assert all(f"`{name}`" in row for name in options("models"))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def table_of_claims(text: str) -> dict[str, dict[str, str]]:
    """Statement, with its dagger -> the other cells of its row in the first table of claims, by heading."""
    start = text.index("| claim | reading |")
    lines = text[start : text.index("\n\n", start)].splitlines()
    heading, rows = cells(lines[0]), [cells(line) for line in lines[2:]]
    return {
        re.sub(r"^\d+\\\. ", "", row[0]): dict(zip(heading[1:], row[1:], strict=True))
        for row in rows
        if row[1]
    }


def test_the_scorecard_is_that_of_the_reference_run() -> None:
    told = table_of_claims(TEXT)
    reference = table_of_claims(
        (ROOT / "experiments/principles/README.md").read_text(encoding="utf-8")
    )
    seeds = {name for row in reference.values() for name in row if name.startswith("seed ")}
    for statement, own in told.items():
        row = reference.pop(statement)
        assert row["reading"].split(",")[0] == own["reading"]
        assert row["estimand: effect [interval, level]"].endswith(own["effect [95% interval]"])
        same = ("exact p (Holm)", "verdict", *seeds)
        assert [row[name] for name in same] == [own[name] for name in same], statement
    assert {row["reading"] for row in reference.values()} == {"secondary"}, (
        "a weak or strong reading is not told"
    )
