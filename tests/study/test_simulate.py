"""Simulated studies: the tests keep what the protocol promises of them."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from convtl.analysis import statistics as s
from convtl.study import simulate
from convtl.study.simulate.__main__ import main


@pytest.mark.parametrize("shape", ["normal", "heavy", "skewed"])
def test_contrasts_have_the_spread_and_the_correlation_that_were_asked_for(shape):
    x = simulate.contrasts(np.array([0.0, 0.5]), 6, 4000, sd=0.3, shared=0.4, shape=shape)
    assert x.shape == (4000, 2, 6)
    assert x.mean(axis=(0, 2)) == pytest.approx([0, 0.5], abs=0.01)
    assert x.std(axis=(0, 2)) == pytest.approx([0.3, 0.3], abs=0.01)
    assert np.corrcoef(x[:, 0].ravel(), x[:, 1].ravel())[0, 1] == pytest.approx(0.4, abs=0.03)


def test_what_is_peculiar_to_a_source_is_the_same_in_all_replicates():
    x = simulate.ladders(0.1, 6, 3000, sd=0.0, source_sd=0.2)
    assert np.ptp(x, axis=1).max() < 1e-12
    assert x.std(axis=0).mean() == pytest.approx(0.2, abs=0.01)
    assert np.diff(x.mean(axis=(0, 1))) == pytest.approx([0.1] * 5, abs=0.02)


@pytest.mark.parametrize(("m", "level"), [(5, 0), (6, 2 / 64), (8, 12 / 256), (12, 204 / 4096)])
def test_the_level_that_flips_can_attain(m, level):
    assert simulate.attainable(m) == pytest.approx(level)


def test_a_check_compares_an_interval_with_what_was_expected():
    happened = np.arange(1000) < 50
    assert simulate.checked("x", 6, "", happened, "=", 0.05).holds
    assert simulate.checked("x", 6, "", happened, "<=", 0.04).holds
    assert not simulate.checked("x", 6, "", happened, "<=", 0.01).holds
    assert not simulate.checked("x", 6, "", happened, ">", 0.05).holds
    assert simulate.checked("x", 6, "", happened, "<", 0.95).holds
    assert simulate.checked("x", 6, "", happened).holds is None


def test_bootstrap_intervals_are_those_of_scipy_for_each_study():
    x = np.array([np.arange(6.0), np.arange(6.0) + 10])
    for method in ("percentile", "BCa"):
        assert simulate.bootstrap_covers(x, 2.5, method).tolist() == [True, False]


def test_power_grows_with_the_effect_and_verdicts_are_shares():
    found = simulate.power_table(200, effects=(0.0, 0.3, 0.6), spreads=(0.2,))
    verdicts = ["supported", "practically_null", "contradicted", "inconclusive"]
    assert found[verdicts].sum(axis=1).to_numpy() == pytest.approx(np.ones(len(found)))
    for _, part in found.groupby(["design", "others"]):
        assert part["supported"].is_monotonic_increasing
        assert part["practically_null"].is_monotonic_decreasing
    one = found[found["design"] == "default"].set_index("effect")
    x = simulate.contrasts(np.array([0.3]), 6, 200, sd=0.2, stream=("power", "default", "", "0.2"))[
        :, 0
    ]
    expected = [
        s.sign_flip_p(row) <= 0.05 and row.sum() > 0 and not s.equivalent(row, 0.2) for row in x
    ]
    assert one.loc[0.3, "supported"] == pytest.approx(np.mean(expected))


@pytest.mark.slow
def test_the_protocols_promises_hold():
    """Every check of the calibration, among them: level, coverage, Holm's floor at m = 6, the ladder of sources."""
    table = simulate.calibration_table(2000)
    broken = table[table["holds"].eq(False)]
    assert not len(broken), broken.to_string()

    def rates(check: str, setting: str = "") -> pd.Series:
        rows = table[(table["check"] == check) & table["setting"].str.contains(setting)]
        return rows.set_index(["m", "setting"])["rate"]

    assert rates("any rejection, Holm").tolist() == [0]  # two claims of any size at m = 6
    assert rates("any rejection, step-down max-T").tolist() == [1]
    assert rates("false positives, sign flip of slopes", "source 0.3").max() > 0.5
    assert rates("false positives, source permutation").max() < 0.06
    assert rates("coverage, BCa bootstrap of level .95").loc[6].max() < 0.89
    null = rates("practically null", "effect 0,")
    assert max(null.loc[:, "effect 0, delta 0.1, sd 0.25"]) < 0.2  # no power at feasible m
    assert null.loc[12, "effect 0, delta 0.2, sd 0.25"] > 0.5


@pytest.mark.slow
def test_the_command_writes_what_it_prints(tmp_path):
    command = [
        sys.executable,
        "-m",
        "convtl.study.simulate",
        "studies=100",
        f"out={tmp_path / 'new'}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    results = pd.read_csv(tmp_path / "new" / "results.csv")
    assert done.stdout.count("\n") > len(results) + len(pd.read_csv(tmp_path / "new" / "power.csv"))
    assert set(results["check"]) >= {
        "false positives, sign flip",
        "false positives, source permutation",
    }


@pytest.mark.parametrize("word", ["studies=5", "studies=many", "where=x", "out="])
def test_a_wrong_word_is_one_plain_line(word, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["simulate", word])
    assert main() == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "accepted" in shown
