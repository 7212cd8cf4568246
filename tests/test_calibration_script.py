"""Studies drawn from rows: as the rows are, with the choice of rates inside; and what is counted on them."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_rows import made_rows, write_rows
from made_study import CLAIM
from pydantic import TypeAdapter

from convtl.cli import compose
from convtl.config.claims import Claims
from convtl.config.parsing import parse

sys.path.insert(0, str(Path(__file__).parent.parent / "experiments/calibration"))
import checks
import curves

CONFIG = parse(compose(["lr=[0.001,0.003,0.009]", "lr_extend=0"]))
CLAIMS = TypeAdapter(Claims).validate_python({"more": CLAIM})


def scores(row):
    """The middle rate is best, with errors of .02; of whole nets with 50 labels in a third of replicates the lowest."""
    whole, lowest = row["depth"] == 5 and row["n_per_class"] == 50, row["replicate"] % 3 == 0
    low = -0.1 if whole and lowest else 0.05
    tried = [
        [0.001, 0.75, 1.0 + low, 0.02],
        [0.003, 0.6, 1.0, 0.0],
        [0.009, 0.5, 1.4, 0.03],
    ]
    return {"scores": tried, "lr": 0.001 if low < 0 else 0.003}


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    out = tmp_path_factory.mktemp("made")
    write_rows(
        out, made_rows(schedules=(300,), targets=("cyrillic",), replicates=12, change=scores)
    )
    return curves.read_curves(out, CONFIG)


@pytest.fixture(scope="module")
def drawn(read):
    return curves.draw(read, 3000, np.random.default_rng(0))


def test_drawn_replicates_have_the_mean_and_the_spread_of_the_rows(read, drawn):
    rows, drawn = (table.query("depth < 5") for table in (pd.concat([c.rows for c in read]), drawn))
    key = ["source", "n_per_class", "depth"]
    before, after = (
        table.groupby(key)["logit_accuracy"].agg(["mean", "std"]) for table in (rows, drawn)
    )
    assert (len(before), len(read)) == (24, 33)
    np.testing.assert_allclose(after["mean"], before["mean"], atol=0.05)
    np.testing.assert_allclose(after["std"], before["std"], rtol=0.15)


def test_conditions_are_correlated_as_in_the_rows(drawn):
    wide = drawn.query("depth < 5").pivot(
        index="replicate", columns=["source", "n_per_class", "depth"], values="logit_accuracy"
    )
    assert wide.corr().to_numpy().min() > 0.6  # a spread of .3 is shared, one of .1 is not


def test_each_replicate_chooses_by_its_own_curve(read, drawn):
    whole = drawn.query("n_per_class == 50 and depth == 5")
    shares = whole["lr"].value_counts(normalize=True)
    assert shares[0.001] == pytest.approx(1 / 3, abs=0.08)
    assert shares[0.003] == pytest.approx(2 / 3, abs=0.08)
    assert (whole["lr_at_edge"] == (whole["lr"] == 0.001)).all()
    together = curves.draw(read, 120, np.random.default_rng(1), together=12)
    rates = together.query("source == 'latin' and n_per_class == 50 and depth == 5")["lr"]
    assert (np.ptp(rates.to_numpy().reshape(-1, 12), axis=1) == 0).all()
    assert rates.nunique() == 2


def test_noise_of_validation_pictures_is_not_taken_for_curves(tmp_path):
    """Curves that differ by no more than their standard errors are one curve."""
    draws = np.random.default_rng(2)

    def noisy(row):
        nll = 1.0 + 0.02 * draws.normal()
        return {
            "scores": [[0.001, 0.6, nll, 0.02], [0.003, 0.6, 1.0, 0.0], [0.009, 0.5, 1.4, 0.0]],
            "lr": 0.003,
        }

    made = {"schedules": (300,), "targets": ("cyrillic",), "sizes": (2,), "sources": ("latin",)}
    write_rows(tmp_path, made_rows(replicates=40, change=noisy, **made))
    spread = [one.nll[:, 0].std() for one in curves.read_curves(tmp_path, CONFIG)]
    assert np.mean(spread) < 0.01


def test_a_rate_that_few_replicates_needed_is_chosen_by_few(tmp_path):
    """One replicate in four went beyond the grid, as its lowest rate was best there."""

    def further(row):
        tried = [[0.001, 0.6, 1.4, 0.02], [0.003, 0.6, 1.0, 0.0], [0.009, 0.5, 1.4, 0.02]]
        if row["replicate"] % 4:
            return {"scores": tried, "lr": 0.003}
        tried[0][2] = 0.8
        return {"scores": [[0.0003333, 0.7, 0.7, 0.02], *tried], "lr": 0.0003333}

    made = {"schedules": (300,), "targets": ("cyrillic",), "sizes": (2,), "sources": ("latin",)}
    write_rows(tmp_path, made_rows(replicates=12, change=further, **made))
    config = replace(CONFIG, lr_extend=1)
    (read, *_) = curves.read_curves(tmp_path, config)
    drawn = curves.draw([read], 1000, np.random.default_rng(4))
    assert (drawn["lr"] == 0.0003333).mean() == pytest.approx(1 / 4, abs=0.08)
    assert (drawn["lr_at_edge"] == (drawn["lr"] == 0.0003333)).all()


def test_cross_validated_rows_have_the_pictures_of_training(tmp_path):
    made = {"schedules": (300,), "targets": ("cyrillic",), "sizes": (2,), "sources": ("latin",)}

    def read(n_val):
        def change(row):
            return scores(row) | {"n_val": n_val, "n_train": 40}

        out = tmp_path / str(n_val)
        write_rows(out, made_rows(replicates=5, change=change, **made))
        return curves.read_curves(out, CONFIG)

    for one, other in zip(read(40), read(0), strict=True):
        np.testing.assert_array_equal(one.logit, other.logit)
        np.testing.assert_array_equal(one.ahead, other.ahead)


def test_what_is_counted_is_what_is_promised(drawn):
    pool = checks.Population.of(CLAIMS, drawn.assign(lr_at_edge=False), ["cyrillic"])
    assert pool.judged == {"more"}
    studies = checks.studies_of(pool, 12, 400, np.random.default_rng(0))
    assert all(len(set(study)) == 12 for study in studies)
    shares = {row["check"]: row["value"] for row in checks.parts(pool, studies)}
    assert shares["coverage"] == pytest.approx(0.95, abs=0.04)
    assert shares["false positives"] == pytest.approx(1 - shares["coverage"], abs=0.01)
    assert shares["equivalence errors"] <= 0.1
    outcomes = {row["check"]: row["value"] for row in checks.verdicts(pool, studies[:20])}
    assert outcomes["supported"] == 1.0  # D grows by .93
    assert outcomes["any primary claim settled wrongly"] <= 0.2
    z2 = checks.envelope("mean z2", pool, pool.judged, studies)
    assert z2["value"] == pytest.approx(1.1, abs=0.3)
    assert z2["low"] < 0.1 < 3 < z2["high"]


def test_z2_leaves_out_an_odd_study_and_other_units(drawn):
    claims = CLAIMS | {"decades": replace(CLAIMS["more"], unit="decade")}
    pool = checks.Population.of(claims, drawn, ["cyrillic"])
    studies = checks.studies_of(pool, 12, 41, np.random.default_rng(0))
    z2 = checks.squared_differences(pool, set(claims), studies)
    assert len(z2) == 20
    np.testing.assert_array_equal(z2, checks.squared_differences(pool, {"more"}, studies[:40]))


def test_z2_counts_an_effect_of_several_claims_once(drawn):
    (part,) = CLAIMS["more"].parts
    less = replace(
        part, test="below", terms=tuple(replace(t, weight=-t.weight) for t in part.terms)
    )
    other = replace(part, terms=part.terms[:1])
    claims = {
        name: replace(CLAIMS["more"], parts=(one,))
        for name, one in [("a", part), ("b", less), ("c", other)]
    }
    pool = checks.Population.of(claims, drawn, ["cyrillic"])
    studies = checks.studies_of(pool, 12, 40, np.random.default_rng(0))
    a, c, ac, abc = (
        checks.squared_differences(pool, set(names), studies) for names in ("a", "c", "ac", "abc")
    )
    np.testing.assert_array_equal(abc, ac)
    np.testing.assert_allclose(ac, (a + c) / 2)


@pytest.mark.parametrize("registered", [False, True])
def test_claims_that_are_not_judged_stay_in_the_family_of_holm(drawn, registered):
    drawn = drawn.assign(lr_at_edge=False)
    alone = checks.Population.of(CLAIMS, drawn, ["cyrillic"])
    (part,) = CLAIMS["more"].parts
    other = replace(part, terms=(replace(part.terms[0], source=("absent",)),))
    others = {f"other{i}": replace(CLAIMS["more"], parts=(other,)) for i in range(3)}
    families = (CLAIMS, others) if registered else (CLAIMS | others, None)
    family = checks.Population.of(families[0], drawn, ["cyrillic"], families[1])
    assert family.judged == alone.judged == {"more"}
    studies = checks.studies_of(alone, 6, 10, np.random.default_rng(0))
    with_alone, with_family = (
        {line["check"]: line["value"] for line in checks.verdicts(pool, studies)}
        for pool in (alone, family)
    )
    assert with_alone["supported"] == 1.0
    assert with_family["supported"] == 0.0  # 4 x 2/64 > .05


def test_a_choice_shared_by_a_study_shows_in_its_seeds(read):
    """What the first plan of analysis did: intervals over replicates cannot see it."""
    shared = curves.draw(read, 1200, np.random.default_rng(3), together=12)
    pool = checks.Population.of(CLAIMS, shared.assign(lr_at_edge=False), ["cyrillic"])
    studies = np.arange(1200).reshape(-1, 12)
    assert checks.squared_differences(pool, pool.judged, studies).mean() > 1.5


def test_the_page_is_that_of_its_table():
    folder = Path(checks.__file__).parent
    page = runpy.run_path(str(folder / "run.py"))["page"]
    text = page(pd.read_csv(folder / "results.csv"), "principles")
    assert (folder / "README.md").read_text(encoding="utf-8") == text
