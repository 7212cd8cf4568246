"""Measure what a study of a million trials costs, with made-up rows.

usage: python experiments/scale/run.py [rows=1000000] [writers=1000] [out=outputs/scale]

Writes scale.csv into out, whose rows are replaced; they take 1.5 kB each.
"""

import csv
import multiprocessing
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from made_up import words_for, write_rows

from convtl.entry import folder, guarded
from convtl.errors import UserError
from convtl.keys import digest
from convtl.study.store import RowStore

_DEFAULTS = {"rows": "1000000", "writers": "1000", "out": "outputs/scale"}
_APPENDS = 200
_NAMES = ("study", "config", "model", "source", "target", "regime", "depth_unit", "trained_units")
_ROW = {
    **dict.fromkeys(_NAMES, "name"),
    **dict.fromkeys(("depth", "n_units", "n_per_class", "updates", "replicate"), 1),
    **{"validation": "beside", "similarity": None, "contents": {}, "axes": {}, "declared": []},
    **{"status": "interrupted", "reason": "x" * 950},
}
_SUMMARY = """
import pathlib, sys
from convtl.analysis.conditions import Conditions
from convtl.analysis.frame import read_rows
print(len(Conditions(read_rows(pathlib.Path(sys.argv[1]))).table()))
"""
_GOALS = {"rows are read and summarised": (60, 2), "convtl.report": (120, 4)}
"""Most seconds and GiB that a million rows may take."""


def main(words: list[str]) -> int:
    """Write the rows, run each command on them, and print the table.

    Raises:
      UserError: a word is not accepted, or `out` holds something else.
    """
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    given = dict(word.partition("=")[::2] for word in words)
    if set(given) - set(_DEFAULTS) or "" in given.values():
        accepted = ", ".join(f"{key}=..." for key in _DEFAULTS)
        raise UserError(f"got '{' '.join(words)}'; accepted: {accepted}")
    values = {**_DEFAULTS, **given}
    for key in ("rows", "writers"):
        if not values[key].isdecimal() or int(values[key]) < 1:
            raise UserError(f"{key}: got '{values[key]}'; accepted: a whole number from 1")
    out = folder("out", values["out"])
    if out.exists() and not (out / "scale.csv").exists() and any(out.iterdir()):
        raise UserError(f"out: got '{out}', which holds something else; accepted: a new folder")
    out.mkdir(parents=True, exist_ok=True)
    (out / "scale.csv").touch()
    shutil.rmtree(out / "rows", ignore_errors=True)
    rows = int(values["rows"])
    made = write_rows(rows, out, int(values["writers"]))
    lines = [(name, f"{number:,}", "") for name, number in made.items()]
    study = ["convtl.run", *words_for(rows), f"out={out}"]
    for name, command in (
        ("rows are read and summarised", ["-c", _SUMMARY, str(out)]),
        ("a dry run: axes to trials, and which of them are done", ["-m", *study, "dry_run=true"]),
        ("the same command on the finished study: results.csv and report", ["-m", *study]),
        ("convtl.report", ["-m", "convtl.report", f"out={out}"]),
    ):
        seconds, gib = _measured([sys.executable, *command])
        goals = _GOALS.get(name, (None, None))
        lines += [
            (f"{name}, seconds", f"{seconds:.1f}", _verdict(seconds, goals[0])),
            (f"{name}, GiB", f"{gib:.2f}", _verdict(gib, goals[1])),
        ]
    for name in ("results.csv", "report.html"):
        lines.append((f"{name}, MB", f"{(out / name).stat().st_size / 1e6:.1f}", ""))
    for writers in (1, 8, 32):
        rate = _rows_a_second(out, writers)
        lines.append((f"rows a second on disk, {writers} processes", f"{rate:,.0f}", ""))
    with (out / "scale.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("what", "figure", "goal"), *lines])
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return 0


def _verdict(value: float, most: float | None) -> str:
    if most is None:
        return ""
    return f"at most {most}: {'met' if value <= most else 'missed'}"


def _measured(command: list[str]) -> tuple[float, float]:
    """Run a command; return its seconds, and its peak GiB, children included."""
    began, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile() as output:
        process = psutil.Popen(command, stdout=output, stderr=output)
        while process.poll() is None:
            with suppress(psutil.Error):
                family = [process, *process.children(recursive=True)]
                peak = max(peak, sum(member.memory_full_info().uss for member in family))
            time.sleep(0.25)
        seconds = time.perf_counter() - began
        if process.returncode:
            output.seek(0)
            sys.stderr.buffer.write(output.read())
            raise UserError(f"'{' '.join(command[1:3])}' failed with code {process.returncode}")
    return seconds, peak / 2**30


def _rows_a_second(out: Path, writers: int) -> float:
    """Rows a second that processes append to one folder, each flushed to disk."""
    with tempfile.TemporaryDirectory(dir=out, prefix="writers-") as place:
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(writers + 1)
        processes = [
            context.Process(target=_append, args=(place, number, barrier))
            for number in range(writers)
        ]
        for process in processes:
            process.start()
        barrier.wait()
        began = time.perf_counter()
        for process in processes:
            process.join()
        return writers * _APPENDS / (time.perf_counter() - began)


def _append(place: str, number: int, barrier: Any) -> None:
    store = RowStore(Path(place))
    store.prepare()
    rows = [_ROW | {"trial": digest([number, row])} for row in range(_APPENDS)]
    barrier.wait()
    for row in rows:
        store.append(row)


if __name__ == "__main__":
    sys.exit(guarded(main))
