"""Made-up rows of a large study, real in keys and sizes."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.keys import generator
from convtl.study.active import describe
from convtl.study.grid import Trial, distinct, expand
from convtl.study.rows import line_of
from convtl.study.store import Row, RowStore

_AXES = {
    "target": "cyrillic,greek,armenian,georgian,hebrew,lao,lisu,old_italic",
    "source": "latin,textures,scratch,noise,digits,own,latin:shuffled,latin:random_labels,random",
    "regime": "fine_tune,lp_ft,l2_sp",
    "n_per_class": "1,2,5,10,20,50",
    "updates": "300,1200",
}
_FEW_AXES = {"target": "cyrillic,greek", "source": "latin,textures,scratch", "n_per_class": "2,5"}
_FATES = {"interrupted": 0.01, "repeated": 0.02, "diverged": 0.002}
"""Shares of the trials; interrupted ones were resumed, repeated ones done by two processes."""
_TORN = b'{"axes": {}, "trial": "torn by a ki'


def words_for(rows: int) -> list[str]:
    """Return words for `convtl.run` that make a study of about `rows` trials."""
    axes = _AXES if rows >= 100_000 else _FEW_AXES
    words = ["+experiment=finetune_depth", "study=scale", "scorecard=[]"]
    words += [f"{name}=[{values}]" for name, values in axes.items()]
    one = len(distinct(expand(parse(compose([*words, "replicates=1"])))[1]))
    return [*words, f"replicates={max(2, round(rows / one))}"]


def write_rows(rows: int, out: Path, writers: int) -> dict[str, int]:
    """Write rows of all trials, as if by `writers` processes, a tenth of them killed.

    Returns:
      Numbers of trials, rows, files and bytes.
    """
    trials = distinct(expand(parse(compose(words_for(rows))))[1])
    folder = out / "rows"
    folder.mkdir(parents=True)
    count, size, share = 0, 0, -(-len(trials) // writers)
    draw, example = generator(0, "scale", len(trials)), _example()
    for number, first in enumerate(range(0, len(trials), share)):
        lines = [line_of(row) for row in _rows(trials[first : first + share], example, draw)]
        count += len(lines)
        content = b"".join(lines) + (_TORN if number % 10 == 0 else b"")
        (folder / f"node{number % 64:03}-{4000 + number}-{number:08x}.jsonl").write_bytes(content)
        size += len(content)
    return {"trials": len(trials), "rows": count, "files": number + 1, "bytes": size}


def _example() -> Row:
    """A row of the smoke study, for measured values under current keys."""
    with tempfile.TemporaryDirectory(prefix="convtl-scale-") as folder:
        command = [sys.executable, "-m", "convtl.run", "+experiment=finetune_depth", "debug=smoke"]
        subprocess.run(
            [*command, "depth=1", "n_per_class=2", "source=latin", f"out={folder}"],
            check=True,
            capture_output=True,
        )
        return dict(next(iter(RowStore(Path(folder)).read().values())))


def _rows(trials: list[Trial], example: Row, draw: np.random.Generator) -> Iterator[Row]:
    fates = draw.choice(
        [*_FATES, "done"], len(trials), p=[*_FATES.values(), 1 - sum(_FATES.values())]
    )
    for trial, fate, noise in zip(
        trials, fates, draw.normal(0, 0.25, (len(trials), 3)), strict=True
    ):
        z = 0.1 * trial.depth + 0.5 * np.log2(trial.n_per_class) - 0.8
        right = 1 / (1 + np.exp(-z - noise))
        measured = {
            "val_accuracy": round(240 * right[0]) / 240,
            "test_accuracy": round(720 * right[1]) / 720,
            "test_nll": float(2 - right[2]),
            "n_train": 12 * trial.n_per_class,
            "seconds": float(0.04 * trial.depth * np.exp(noise[2])),
        }
        row = example | describe(trial, "done") | measured
        if fate == "interrupted":
            yield describe(trial, "interrupted") | {"reason": "stopped from outside"}
        if fate == "repeated":
            yield row
        yield row | ({"status": "diverged", "lr": None} if fate == "diverged" else {})
