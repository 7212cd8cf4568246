"""A small study that was never run, with effects that a test sets: its rows, and the frame of them."""

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from convtl.analysis.conditions import Conditions
from convtl.analysis.frame import read_rows
from convtl.keys import digest
from convtl.study.rows import line_of
from convtl.training.probes import COLUMNS

UNITS = ("conv1", "conv2", "fc3", "fc4", "fc5")
N_TEST = 1200
Row = dict[str, Any]


def logit(
    source: str, n_per_class: int, depth: int, updates: int, similarity: float | None
) -> float:
    """Mean logit accuracy by default.

    With u = log2(n / 10): D = 0.6 + 0.2 u - 0.8 s, where s is the similarity (latin 1, noise 0); G of the whole
    net = 1.2 s; L (300 to 1200 updates) = 0.2 + 0.1 u of every net. Depths in between lie on a line.
    """
    u = math.log2(n_per_class / 10)
    s = {"latin": 1.0, "noise": 0.0}.get(source, 0.5) if similarity is None else similarity
    whole = 0.5 * u + (0.2 + 0.1 * u) * math.log(updates / 300, 4)
    if source == "scratch":
        return whole
    benefit = 0.6 + 0.2 * u - 0.8 * s
    return whole + 1.2 * s - benefit * (5 - depth) / 4


def made_rows(
    logit: Callable[..., float] = logit,
    *,
    sources: Sequence[str] = ("latin", "noise", "scratch"),
    targets: Sequence[str] = ("cyrillic", "greek"),
    sizes: Sequence[int] = (2, 10, 50),
    depths: Sequence[int] = (1, 2, 3, 4, 5),
    schedules: Sequence[int] = (300, 1200),
    similarities: Sequence[float | None] = (None,),
    replicates: int = 6,
    classes: int = 12,
    sd: float = 0.1,
    shared_sd: float = 0.3,
    seed: int = 0,
    change: Callable[[Row], Mapping[str, Any]] = lambda row: {},
) -> list[Row]:
    """Finished rows of a product of axes; of `scratch` the whole net only.

    Args:
      logit: mean logit accuracy of a (source, n_per_class, depth, updates, similarity), on every target.
      similarities: of the sources whose name begins with `mixture`.
      sd: of a row about its mean, besides `shared_sd` of a (target, replicate), which all its rows share.
      change: fields to be set in a row; {"axes": ...} and {"status": "failed"} too.
    """
    draw = np.random.default_rng(seed)
    shared = {key: draw.normal(0, shared_sd) for key in product(targets, range(replicates))}
    rows = []
    for source, target, n, depth, updates in product(sources, targets, sizes, depths, schedules):
        if source == "scratch" and depth != len(UNITS):
            continue
        for s in similarities if source.startswith("mixture") else (None,):
            mean = logit(source, n, depth, updates, s)
            for replicate in range(replicates):
                z = mean + shared[target, replicate] + draw.normal(0, sd)
                place = {"source": source, "target": target, "n_per_class": n, "depth": depth}
                place |= {"updates": updates, "similarity": s, "replicate": replicate}
                row = row_of(place, z, z + draw.normal(0, sd), classes)
                row |= change(row)
                others = [row[key] for key in ("axes", "config", "model", "regime")]
                rows.append(row | {"trial": digest([place, others])})
    return rows


def row_of(place: Row, z: float, z_validation: float, classes: int) -> Row:
    """A finished row at coordinates, of this logit accuracy on test and on validation pictures."""
    n, depth, fresh = place["n_per_class"], place["depth"], place["source"] == "scratch"
    trained = {"depth_unit": UNITS[-depth], "trained_units": "+".join(UNITS[-depth:])}
    named = {"study": "made", "config": "c0ffee", "model": "lenet5", "regime": "fine_tune"}
    contents = {"model": "m", "regime": "r", "source": place["source"], "target": place["target"]}
    tried = {
        "lr": 0.003,
        "lr_at_edge": False,
        "n_rates": 3,
        "n_val": 20 * classes,
        "n_test": N_TEST,
    }
    of_source = (
        {} if fresh else {"source_accuracy": 0.8, "source_classes": 12, "source_images": 720}
    )
    return {
        **{**place, **named, **trained, **tried, **of_source},
        **{"axes": {}, "declared": [], "contents": contents, "status": "done", "frozen_ok": True},
        "n_train": n * classes,
        "n_units": len(UNITS),
        "validation": "beside",
        "test_accuracy": min(max(((N_TEST + 1) / (1 + math.exp(-z)) - 0.5) / N_TEST, 0.0), 1.0),
        "val_accuracy": 1 / (1 + math.exp(-z_validation)),
        "test_nll": math.log1p(math.exp(-z)),
        "trained_weights": (850, 11_014, 59_134, 61_550, 61_706)[depth - 1],
        "flops_per_update": 1_000_000 * depth,
        "seconds": 0.1 * depth,
    }


def write_rows(out: Path, rows: Iterable[Mapping[str, Any]], name: str = "made.jsonl") -> Path:
    """Write rows as `convtl.run` does, but all at once; fields that no row has (yet) are left out."""
    path = out / "rows" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(line_of(row) for row in rows))
    return path


def frame_of(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The frame of rows."""
    with tempfile.TemporaryDirectory(prefix="convtl-made-") as folder:
        write_rows(Path(folder), rows)
        return read_rows(Path(folder))


def made_conditions(*words: Any, main_targets: Sequence[str] = (), **axes: Any) -> Conditions:
    """Conditions of `made_rows(...)`."""
    return Conditions(frame_of(made_rows(*words, **axes)), main_targets=main_targets)


def made_gradients(
    lost: float = 0.5, slope: float = 0.1, cost: float = 0.3, replicates: int = 3
) -> pd.DataFrame:
    """A table of probes: sigmoid chains lose `lost` decades a unit; of a tanh LeNet-5, a unit arrives `slope` decades
    of updates later than the one above it, and costs `cost` logits more to freeze from update 50 on."""
    rows: list[tuple[Any, ...]] = []
    for r, hidden, kind in product(
        range(replicates), (5, 10), ("lecun_normal", "glorot_uniform", "he_normal")
    ):
        chain = ("profile", "plain", "sigmoid", kind, hidden, "sgd", r, 0)
        rows += [
            (*chain, f"fc{place}", place, "relative_gradient", -lost * (hidden - place))
            for place in range(1, hidden + 1)
        ]
    lenet = ("lenet5", "tanh", "lecun_normal", None, "sgd")
    for r, (place, unit) in product(range(replicates), enumerate(UNITS, 1)):
        rows.append(
            ("convergence", *lenet, r, 600, unit, place, "arrival", 100 * 10 ** (-slope * place))
        )
        rows.append(("freezing", *lenet, r, 50, unit, place, "test_logit", 2 - cost * (5 - place)))
    for r in range(replicates):
        rows.append(("freezing", *lenet, r, 300, None, None, "test_logit", 2.0))
        rows.append(("freezing", *lenet, r, 300, None, None, "test_accuracy", 0.88))
        rows.append(("convergence", *lenet, r, 600, None, None, "test_accuracy", 0.8))
        rows.append(("convergence", *lenet, r, 600, None, None, "chance", 1 / 12))
    return pd.DataFrame(rows, columns=list(COLUMNS))
