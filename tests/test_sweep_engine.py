"""Sweep files against W&B's own engine (PyPI `sweeps`). It needs NumPy 1: .ci/run gives it an environment of its own.

So nothing of convtl is imported here.
"""

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own, of the pydantic that it was written for
    # by its inner name: the folder of this name, beside tests/, is something else
    engine = pytest.importorskip(
        "sweeps.config.cfg", reason="W&B's sweep engine is not here: pip install sweeps"
    )
    import sweeps

FILES = sorted((Path(__file__).parent.parent / "sweeps").glob("*.yaml"))


def sweep_of(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def ended(point: dict[str, Any], history: list[float], state: str = "finished") -> Any:
    told = [{"study/mean_val_accuracy": value} for value in history]
    summary = told[-1] if state == "finished" else {}
    return sweeps.SweepRun(state=state, config=point, history=told, summary_metrics=summary)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_sweep_is_valid(path: Path) -> None:
    sweep = sweep_of(path)
    assert engine.schema_violations_from_proposed_config(sweep) == []
    sweeps.SweepConfig(sweep)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_grid_ends_after_each_of_its_points(path: Path) -> None:
    sweep = sweep_of(path)
    if sweep["method"] != "grid":
        pytest.skip("searches")
    seen, runs = [], []
    while (run := sweeps.next_run(sweep, runs)) is not None:
        seen.append({name: item["value"] for name, item in run.config.items()})
        runs.append(ended(run.config, [0.5]))
    assert len(seen) == math.prod(len(spec["values"]) for spec in sweep["parameters"].values())
    assert len({tuple(map(str, point.values())) for point in seen}) == len(seen)


@pytest.mark.filterwarnings("ignore")  # of the Gaussian process, about six points
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_search_stays_within_its_ranges_and_stops_what_lags_behind(path: Path) -> None:
    sweep = sweep_of(path)
    if sweep["method"] != "bayes":
        pytest.skip("is a grid")
    runs: list[Any] = []
    for step in range(6):
        point = sweeps.next_run(sweep, runs).config
        assert point.keys() == sweep["parameters"].keys()
        lr = sweep["parameters"]["lr"]
        assert lr["min"] <= point["lr"]["value"] <= lr["max"]
        for name in ("regime", "depth"):
            assert point[name]["value"] in sweep["parameters"][name]["values"]
        runs.append(ended(point, [0.1 * k for k in range(1, 8)] + [0.7 + 0.01 * step]))
    good, bad, young = (
        [0.1 * k for k in range(1, 5)],
        [0.05, 0.05, 0.06, 0.05],
        [0.01, 0.01, 0.01],
    )
    running = [ended(runs[0].config, history, "running") for history in (good, bad, young)]
    assert sweeps.stop_runs(sweep, [*runs, *running]) == [running[1]]
