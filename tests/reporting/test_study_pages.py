"""The short pages of the studies of letters: they render from made-up rows of their studies, whatever came out."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_rows import frame_of, logit, made_gradients, row_of

from convtl.analysis.frame import of_study
from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.entry import options
from convtl.reporting.publish import page_of
from convtl.reporting.report import Report, make_report
from convtl.reporting.tables import outcome
from convtl.study.grid import Trial, distinct, expand
from convtl.study.store import planned

EXPERIMENTS = Path(__file__).parent.parent.parent / "experiments"
PAGES = sorted(
    {path.parent.name for path in EXPERIMENTS.glob("*/page.md.j2")} & set(options("experiment"))
)


def made_row(trial: Trial, rng: np.random.Generator, effect: float) -> dict[str, Any]:
    """A row with the effects of `made_rows.logit` times `effect`, and those of axes left out."""
    place = {name: getattr(trial, name) for name in ("source", "target", "n_per_class", "depth")}
    place |= {name: getattr(trial, name) for name in ("updates", "similarity", "replicate")}
    source = trial.source if trial.source in ("latin", "noise", "scratch") else "latin"
    mean = logit(source, trial.n_per_class, trial.depth, trial.updates, trial.similarity)
    z = effect * mean + rng.normal(0, 0.1)
    others = {"trial": trial.id, "regime": trial.regime, "axes": dict(trial.axes)}
    return row_of(place, z, z, 2 if trial.target == "letter_pairs" else 12) | others


def report_of(name: str, effect: float, seed: int = 0) -> Report:
    words = [f"+experiment={name}", "replicates=8", f"seed={seed}"]
    config, trials = expand(parse(compose(words)))
    rng = np.random.default_rng(seed)
    points = pd.DataFrame(planned(trials)) if trials else None
    frame, _ = of_study(
        frame_of([made_row(trial, rng, effect) for trial in distinct(trials)]), points
    )
    gradients = made_gradients(replicates=8) if "gradients" in config.measure else None
    record = {"command": f"python -m convtl.run +experiment={name}", "seconds": 100.0}
    return make_report(frame, config, record, EXPERIMENTS / name, gradients)


@pytest.mark.parametrize(
    ("name", "effect"),
    [(name, 1.0) for name in PAGES] + [("finetune_depth", -1.0), ("rule_of_thumb", 0.0)],
)
def test_a_page_says_what_came_out_of_each_claim(name: str, effect: float) -> None:
    report = report_of(name, effect)
    page = page_of(report, EXPERIMENTS / name)
    assert page.startswith(f"# {name}\n\n**Question.** ")
    assert len(page.splitlines()) <= 150
    findings = re.findall(r"^- .*\(\*\*([\w δ]+)\*\*", page, re.MULTILINE)
    probed = () if name == "vanishing_gradients" else scorecard_of("vanishing_gradients")
    judged = [one for one in report.verdicts if one.name not in probed]  # these have their own page
    assert sorted(findings) == sorted(outcome(one.verdict) for one in judged)
    settled = [one for one in report.verdicts if one.verdict in ("supported", "contradicted")]
    of_settled = [(p["finds"], one.verdict) for one in settled for p in one.claim.papers]
    against = [pair for pair in of_settled if "mixed" not in pair and len(set(pair)) > 1]
    assert page.count("This study differs from it") == len(against)
    assert f"+experiment={name}" in page
    assert not re.search(r"\bNone\b|\bnan\b|\{\{|\}\}", page)


@pytest.mark.parametrize("effect", [1.0, -1.0, 0.0])
def test_the_page_of_principles_begins_with_the_primary_claims(effect: float) -> None:
    report = report_of("principles", effect)
    first = page_of(report, EXPERIMENTS / "principles").split("## Every claim")[0]
    verdicts = re.findall(r"^\d\. .*?\(\*\*([\w δ]+)\*\*", first, re.MULTILINE)
    primary = [one for one in report.verdicts if one.claim.rank == "primary"]
    assert sorted(verdicts) == sorted(outcome(one.verdict) for one in primary)
    assert "| source | n |" in first
    assert not re.search(r"^- ", first, re.MULTILINE)


@pytest.mark.parametrize(("effect", "seed", "where"), [(1.0, 1, "inside"), (-1.0, 1, "outside")])
def test_a_page_says_what_another_seed_gave(effect: float, seed: int, where: str) -> None:
    first, second = report_of("principles", 1.0), report_of("principles", effect, seed)
    page = page_of(replace(first, replication=second), EXPERIMENTS / "principles")
    again = {one.name: one.verdict for one in second.verdicts}
    differ = [one for one in first.verdicts if again[one.name] != one.verdict]
    for one in differ:
        change = f"({outcome(one.verdict)}; under seed {seed}: {outcome(again[one.name])})"
        assert f"{one.name.replace('_', ' ')} {change}" in page
    probed = scorecard_of("vanishing_gradients")
    beside = re.findall(
        rf"^- .*; under seed {seed}: [\w δ]+\)\.( Of its parts .*)?$", page, re.MULTILINE
    )
    assert len(beside) == len([one for one in differ if one.name not in probed])
    assert "as they are not in logits, are the effects of: gradients vanish in sigmoid" in page
    envelope = pd.read_csv(EXPERIMENTS / "calibration/results.csv").set_index(["check", "m"])
    low, high = envelope.loc[("mean z2", 12), ["low", "high"]]
    assert f": {where} the 95 % envelope of {low:.2f} to {high:.2f} that" in page


def scorecard_of(name: str) -> tuple[str, ...]:
    return parse(compose([f"+experiment={name}"])).scorecard


def test_every_study_of_letters_has_a_page() -> None:
    of_photographs = ("imagenet_", "my_")
    studies = [name for name in options("experiment") if not name.startswith(of_photographs)]
    assert sorted(studies) == PAGES
