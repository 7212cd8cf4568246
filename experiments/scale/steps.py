"""What is measured, each in a process of its own, so that its time and its memory are nobody else's.

`python experiments/scale/steps.py NAME ARGUMENTS` runs one and prints its figures as JSON.
"""

import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from measuring import Figures, measure
from study import hash_of, lines_of, words_for

from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.models.registry import build_network
from convtl.storage import checkpoint
from convtl.study.grid import distinct, expand
from convtl.study.record import make_record, write_record
from convtl.study.store import RowStore, line_of
from convtl.training.devices import device_line

_TORN = b'{"axes": {}, "trial": "torn by a ki'


def plan(rows: str, out: str) -> Figures:
    """Axes to trials, and the record of them."""
    content = compose([*words_for(int(rows)), f"out={out}"])
    began = time.perf_counter()
    _, points = expand(parse(content))
    expanded = time.perf_counter() - began
    began = time.perf_counter()
    path = write_record(
        Path(out), make_record(content, points, "python experiments/scale/run.py", device_line())
    )
    kept = sum(file.stat().st_size for file in path.parent.iterdir())
    return {
        "trials": len(distinct(points)),
        "expand": expanded,
        "record": time.perf_counter() - began,
        "size": kept,
    }


def generate(rows: str, out: str, writers: str) -> Figures:
    """Rows of many writers: repeated, interrupted, diverged and torn ones among them."""
    trials = distinct(expand(parse(compose(words_for(int(rows)))))[1])
    folder, count, written = Path(out) / "rows", int(writers), 0
    folder.mkdir(parents=True)
    share = len(trials) / count
    total, number = 0, 0
    own: list[bytes] = []
    taken_over: list[bytes] = []  # what the next writer does again, or goes on with
    for place, again, row in lines_of(trials, "0" * 40):
        total += 1
        if place >= (number + 1) * share and number < count - 1:
            written += _flush(folder, number, own)
            number, own, taken_over = number + 1, taken_over, []
        (taken_over if again else own).append(line_of(row))
    written += _flush(folder, number, own + taken_over)
    return {"files": number + 1, "rows": total, "size": written}


def _flush(folder: Path, number: int, lines: list[bytes]) -> int:
    """One writer's file; each tenth was killed in the middle of a line."""
    path = folder / f"node{number % 64:03d}-{4000 + number}-{hash_of(number) % 2**32:08x}.jsonl"
    content = b"".join([*lines, *([_TORN] if number % 10 == 0 else [])])
    path.write_bytes(content)
    return len(content)


def consolidate(out: str) -> Figures:
    """Row files to results.csv."""
    store = RowStore(Path(out))
    began = time.perf_counter()
    rows = store.read()
    read = time.perf_counter() - began
    table = store.write_table(rows.table)
    return {
        "trials": len(rows),
        "read": read,
        "all": time.perf_counter() - began,
        "size": table.stat().st_size,
    }


def look(out: str) -> Figures:
    """How a process learns what is finished: at its start, and at each look after that."""
    store = RowStore(Path(out))
    began = time.perf_counter()
    found = len(store.finished())
    first = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(20):
        store.finished()
    return {"finished": found, "first": first, "again": (time.perf_counter() - began) / 20}


def cache(_: str) -> Figures:
    """What entries of the cache weigh: nets as they are saved, features by their shape."""
    settings = parse(compose([]))
    found: Figures = {}
    sides = {"lenet5": (28, 28, 1), "efficientnet_lite0": (224, 224, 3), "resnet50": (224, 224, 3)}
    with tempfile.TemporaryDirectory(prefix="convtl-scale-") as folder:
        for name, shape in sides.items():
            network = build_network(settings.models[name], shape, 12)
            variables = jax.tree.map(
                lambda leaf: np.random.default_rng(0).random(leaf.shape, np.float32),
                dict(network.abstract_variables),
            )
            path = Path(folder) / name
            checkpoint.save(path, variables, {})
            found[name] = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            head = network.names.index(network.weighted[-1])
            found[f"{name} features"] = 4 * int(np.prod(network.shape_before(head)))
    return found


if __name__ == "__main__":
    measure([plan, generate, consolidate, look, cache])
