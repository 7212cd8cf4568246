"""What claims say of their own past: old words and the numbers that they gave, checked against git."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CLAIMS = sorted((ROOT / "conf/claims").glob("*.yaml"))
PUBLISHED = ("40fb676", "5d595eb", "c3ab3a1", "5b0e8c2")
"""Commits that published results under analysis plan 1."""
SIGNED = re.compile(r"[+-]\d+\.\d\d\b(?: \[[+-]?\d+\.\d\d, [+-]?\d+\.\d\d\])?")


def git(*words: str) -> str:
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def changes() -> list[tuple[str, dict[str, str]]]:
    contents = [(path.stem, yaml.safe_load(path.read_text(encoding="utf-8"))) for path in CLAIMS]
    return [(name, entry) for name, content in contents for entry in content.get("history", ())]


def plain(text: str) -> str:
    """Text with literals that were broken over lines joined, and one kind of minus."""
    lines = re.sub(r"^[+\- ]", "", text, flags=re.MULTILINE)
    joined = re.sub(r"\"\s*\n\s*f?\"", "", lines)
    return re.sub(r"\s+", " ", joined).replace("\N{MINUS SIGN}", "-").replace("*", "")


@cache
def words_of(commit: str) -> str:
    """What a commit changed in the package, and the claims and the defaults as it left them."""
    paths = git("ls-tree", "-r", "--name-only", commit, "convtl").splitlines()
    places = ("study/declared", "config/schema.py")
    declared = [git("show", f"{commit}:{p}") for p in paths if any(place in p for place in places)]
    changed = git("show", "--format=", commit, "--", "convtl")
    return "\n".join(plain(text) for text in (changed, *declared))


@cache
def pages() -> str:
    names = [(commit, git("ls-tree", "-r", "--name-only", commit)) for commit in PUBLISHED]
    paths = [(c, path) for c, text in names for path in text.splitlines()]
    texts = [git("show", f"{c}:{path}") for c, path in paths if path.endswith("README.md")]
    return re.sub(r"; 9\d\.\d%", "", plain("\n".join(texts)))


complete = pytest.mark.skipif(
    not (ROOT / ".git").exists() or git("rev-parse", "--is-shallow-repository").strip() == "true",
    reason="needs the history of the repository",
)


@complete
@pytest.mark.parametrize(("name", "entry"), changes(), ids=lambda value: str(value)[:40])
def test_old_words_and_numbers_are_those_of_the_history(name: str, entry: dict[str, str]) -> None:
    assert plain(entry["was"]) in words_of(entry["commit"])
    for number in SIGNED.findall(plain(entry["gave"])):
        assert number in pages(), number


def test_every_claim_that_replaces_one_of_plan_1_tells_what_it_gave() -> None:
    assert len(changes()) >= 30
    assert all(set(entry) == {"commit", "was", "gave", "why"} for _, entry in changes())
