"""Eight devices: the rows of one, and an eighth of the memory on each. In processes of their own, for a CPU is as
many devices as it is told to be before it is used."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny

from convtl.storage.cache import default_root
from convtl.study.store import RowStore

STUDY = ("source=[latin,scratch]", "depth=[1,3,5]", "replicates=3", "batch_size=8", "lr_extend=0")


def _rows(out: Path, *words: str) -> dict[str, Mapping[str, Any]]:
    command = [sys.executable, "-m", "convtl.run", *tiny.WORDS, *STUDY, *words]
    done = subprocess.run(
        [*command, f"out={out}", f"cache={default_root()}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return {name: tiny.untimed(row) for name, row in RowStore(out).read().items()}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Mapping[str, Any]]:
    return _rows(tmp_path_factory.mktemp("one") / "o", "devices=1")


@pytest.mark.slow
def test_trials_over_eight_devices_are_those_of_one(tmp_path, one) -> None:
    """Bit for bit: each device has as many lanes as the one."""
    assert _rows(tmp_path / "o", "devices=8") == one


@pytest.mark.slow
def test_batches_over_eight_devices_are_those_of_one(tmp_path, one) -> None:
    """The order of sums apart: probabilities of single test images move by less than a thousandth."""
    spread = _rows(tmp_path / "o", "devices={count: 8,split: batch}")
    assert spread.keys() == one.keys()
    for name, row in spread.items():
        assert row["test_nll"] == pytest.approx(one[name]["test_nll"], rel=1e-3)
        assert (row["lr"], row["status"], row["frozen_ok"]) == (one[name]["lr"], "done", True)


_MEMORY = """
import json, sys
import jax
jax.config.update("jax_num_cpu_devices", 8)
sys.path.insert(0, sys.argv[1])
import numpy as np
from dataclasses import replace
from small_nets import LENET, recipe, run
from convtl.training.loop import Trainer
from convtl.training.devices import Layout

def taken(split, count, width, batch):
    given = replace(recipe(LENET, 5, updates=4, runs_per_device=width, steps_per_call=2), batch_size=batch)
    trainer = Trainer(given, Layout(tuple(jax.devices()[:count]), split))
    (phase,) = given.plan.phases
    program, seen = trainer._programs[phase], []
    def watched(*arguments):
        seen.append(program.lower(*arguments).compile().memory_analysis())
        return program(*arguments)
    trainer._programs[phase] = watched
    own = run(LENET, 0)
    def batches(first, stop):
        return np.zeros((stop - first, batch, 28, 28, 1), np.float32), np.zeros((stop - first, batch), np.int32)
    trainer.train([replace(own, batches=batches)] * trainer.width)
    return trainer.width, seen[0].temp_size_in_bytes, seen[0].argument_size_in_bytes

print(json.dumps({"trials": [taken("trials", 1, 8, 16), taken("trials", 8, 1, 16)],
                  "batch": [taken("batch", 1, 1, 512), taken("batch", 8, 1, 512)]}))
"""


@pytest.mark.slow
def test_memory_on_each_device_falls(tmp_path) -> None:
    script = tmp_path / "memory.py"
    script.write_text(_MEMORY, encoding="utf-8")
    command = [sys.executable, str(script), str(Path(__file__).parent / "training")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (wide, all_there, all_given), (same, a_share_there, a_share_given) = found["trials"]
    assert wide == same == 8  # eight runs at once, on one device and on eight
    assert a_share_given < all_given / 7
    assert a_share_there < all_there / 2
    (_, all_there, all_given), (_, a_share_there, a_share_given) = found["batch"]
    assert a_share_there < all_there / 4
    assert a_share_given < all_given / 3  # weights are on each
