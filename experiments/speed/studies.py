"""The default study against one PyTorch program, and waiting times of a user."""

import csv
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from comparing import Result, seconds
from training import Amounts

_RUN = [sys.executable, "-m", "convtl.run"]
_BATCH, _CLASSES = 32, 12


def study(amounts: Amounts, torch: bool) -> list[Result]:
    """Time the default study, sources cached; PyTorch trains the first replicate."""
    result = Result("study", "The default study, source nets cached: one PyTorch program", 4.0)
    if not torch:
        return [result]
    import torch_side

    words = ["+experiment=finetune_depth", f"cache={amounts.scratch / 'cache'}"]
    words += ["debug=smoke"] if amounts.smoke else []
    _run([*words, "depth=1", "n_per_class=2", f"out={amounts.scratch / 'sources'}"])
    out = amounts.scratch / "study"
    ours = seconds(lambda: _run([*words, f"out={out}"]))
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    theirs = work = 0.0
    for row in (row for row in rows if row["replicate"] == "0"):
        sizes = [int(row[name]) for name in ("depth", "n_train", "updates", "n_rates")]
        held_out = int(row["n_val"]) + int(row["n_test"])
        theirs += seconds(
            lambda sizes=sizes, held_out=held_out: torch_side.train_trial(
                *sizes, held_out, batch=_BATCH, classes=_CLASSES
            )
        )
        work += _updates(row)
    whole = theirs * sum(map(_updates, rows)) / work
    return [
        replace(
            result,
            ours=f"{ours:.0f} s for {len(rows)} trials",
            theirs=f"{whole:.0f} s",
            figures=(whole / ours,),
        )
    ]


def _updates(row: dict[str, str]) -> int:
    return int(row["updates"]) * int(row["n_rates"])


def start(amounts: Amounts, torch: bool) -> list[Result]:
    """Seconds to the help text, and to the first row of a study, sources cached."""
    helped = [seconds(lambda: _run(["--help"])) for _ in range(amounts.rounds)]
    words = ["+experiment=finetune_depth", "debug=smoke", f"cache={amounts.scratch / 'cache'}"]
    _run([*words, f"out={amounts.scratch / 'first'}"])
    waited = [
        _first_row(words, amounts.scratch / f"again{number}") for number in range(amounts.rounds)
    ]
    return [
        Result("help", "`python -m convtl.run --help`", 1.0, "-", "-", tuple(helped), True, " s"),
        Result(
            "first trial",
            "A smoke study, source nets and programs cached: until its first row",
            6.0,
            figures=tuple(waited),
            at_most=True,
            unit=" s",
        ),
    ]


def _run(words: Sequence[str]) -> None:
    subprocess.run([*_RUN, *words], check=True, capture_output=True)


def _first_row(words: Sequence[str], out: Path) -> float:
    """Return the seconds until a row is on disk; wait for the end of the study."""
    began = time.perf_counter()
    command = [*_RUN, *words, f"out={out}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not any(path.stat().st_size for path in (out / "rows").glob("*.jsonl")):
            if process.poll() is not None:
                raise RuntimeError("the study ended without a row")
            time.sleep(0.01)
        return time.perf_counter() - began
