"""What claims say of their own past: old words and the numbers that they gave, checked against git."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import yaml

from convtl.analysis.claims import claims_of, judge
from convtl.analysis.conditions import Conditions
from convtl.analysis.contrasts import contrasts_of
from convtl.analysis.frame import of_study, read_rows
from convtl.analysis.statistics import sign_flip_interval
from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.study.grid import expand
from convtl.study.store import planned

ROOT = Path(__file__).parent.parent
CLAIMS = sorted((ROOT / "conf/claims").glob("*.yaml"))
PUBLISHED = ("40fb676", "5d595eb", "c3ab3a1", "5b0e8c2")
"""Commits that published results under analysis plan 1."""
MOVED, ROWS = "96715f4", "5456559"
"""The commit that moved learning rates, and the one with the rows of `principles` before."""
SIGNED = re.compile(r"[+-]\d+\.\d\d\b(?: \[[+-]?\d+\.\d\d, [+-]?\d+\.\d\d\])?")


def content(*words: str) -> bytes:
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, check=True).stdout


def git(*words: str) -> str:
    return content(*words).decode()


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
        assert entry["commit"] == MOVED or number in pages(), number


@complete
def test_numbers_before_rates_were_moved_are_those_of_the_rows(tmp_path, monkeypatch) -> None:
    names = git("ls-tree", "-r", "--name-only", ROWS, "experiments/principles/rows").splitlines()
    (tmp_path / "rows").mkdir()
    for name in names:
        (tmp_path / "rows" / Path(name).name).write_bytes(content("show", f"{ROWS}:{name}"))
    (tmp_path / "conf/experiment").mkdir(parents=True)
    experiment = git("show", f"{ROWS}:conf/experiment/principles.yaml")
    (tmp_path / "conf/experiment/before.yaml").write_text(experiment, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    config, trials = expand(parse(compose(["+experiment=before"])))
    frame, _ = of_study(read_rows(tmp_path), pd.DataFrame(planned(trials)))
    conditions = Conditions(frame, main_targets=config.target, order=config.source)
    verdicts = {one.name: one for one in judge(claims_of(config), conditions, config.claims)}
    entries = [(name, entry) for name, entry in changes() if entry["commit"] == MOVED]
    for name, entry in entries:
        gave = plain(entry["gave"])
        assert gave.startswith(verdicts[name].verdict)
        if verdicts[name].excluded:
            assert f"{verdicts[name].why.split(', such')[0]} at the lowest rate" in gave
        effects = contrasts_of(verdicts[name].claim, conditions)
        ends = [sign_flip_interval(one.values) for one in effects]
        texts = {
            f"{one.effect:+.2f} [{end.low:+.2f}, {end.high:+.2f}]"
            for one, end in zip(effects, ends, strict=True)
        }
        assert set(SIGNED.findall(gave)) == texts
    assert len(entries) == 12


def test_every_claim_that_replaces_one_of_plan_1_tells_what_it_gave() -> None:
    assert len(changes()) >= 30
    assert all(set(entry) == {"commit", "was", "gave", "why"} for _, entry in changes())
