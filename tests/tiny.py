"""A study so small that it runs in a second once its programs are compiled; every test shares them."""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.entry import options
from convtl.storage.cache import Cache, default_root
from convtl.study.grid import Trial, expand
from convtl.study.store import Row, RowStore
from convtl.study.study import Runner, Study
from convtl.study.watcher import CurvePoint, Watcher

_IMAGES = "{train: 16,validation: 4,test: 8}"

WORDS = (
    "source=latin",
    "target=cyrillic",
    "depth=1",
    "n_per_class=2",
    "replicates=1",
    "updates=6",
    "steps_per_call=6",
    "runs_per_device=2",
    "classes=4",
    "batch_size=4",
    "lr_extend=1",
    "pretrain={images_per_class: 12,updates: 6,lr: 3e-3,batch_size: 4}",
    "test_per_class=6",
    "validation_per_class=3",
    *(
        f"domains.{name}.{key}={value}"
        for name in ("latin", "cyrillic")
        for key, value in (("size", 16), ("per_class", _IMAGES))
    ),
)
"""Four letters of two scripts, 16x16 pixels, six updates; one trial unless more is asked for."""

MORE = (
    *(
        f"domains.{name}.{key}={value}"
        for name in ("armenian", "noise")
        for key, value in (("size", 16), ("per_class", _IMAGES))
    ),
)
"""A second target, and a source that is no script: for mixtures, and for rates from another target."""


def named(folder: str) -> list[Any]:
    """Names of a registry as parameters of a test: by default the first of each kind, the others slow."""
    first: dict[str, str] = {}
    for name, entry in compose([])[folder].items():
        first.setdefault(entry["kind"], name)
    assert set(options(folder)) == set(compose([])[folder])
    return [
        name if name in first.values() else pytest.param(name, marks=pytest.mark.slow)
        for name in options(folder)
    ]


def content(*words: str) -> dict[str, Any]:
    """Plain data of the tiny study, changed by `words`."""
    return deepcopy(_composed(Path.cwd(), words))


@cache
def _composed(folder: Path, words: Sequence[str]) -> dict[str, Any]:
    return compose([*WORDS, *words])


def trials(*words: str) -> list[Trial]:
    return expand(parse(content(*words)))[1]


class Witness(Watcher):
    """A watcher that keeps what it is told of."""

    follows = False

    def __init__(self, follows: bool = False) -> None:
        self.follows = follows
        self.rows: list[Row] = []
        self.curves: list[Sequence[CurvePoint]] = []
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)

    def curve(self, points: Sequence[CurvePoint]) -> None:
        self.curves.append(points)

    def trial(self, row: Row, flops: float) -> None:
        self.rows.append(row)


def run(
    out: Path, wanted: Iterable[Trial], watcher: Witness | None = None, nets: bool = False
) -> Runner:
    """Runs trials into `out`, with the cache that all tests share; keeps their nets if asked to."""
    points = list(wanted)
    study = Study(points[0].settings, points, out, Cache(default_root()))
    study.nets = out / "nets" if nets else None
    study.store.prepare()
    return study.run(watcher or Witness())


def table(out: Path) -> dict[str, Row]:
    """Trial id -> its row without its timing: what must be the same, bit for bit."""
    return {name: untimed(row) for name, row in RowStore(out).read().items()}


def untimed(row: Mapping[str, Any]) -> Row:
    return {key: value for key, value in row.items() if key != "seconds"}


def row_lines(out: Path) -> int:
    """Rows in all files of a folder, repeated ones counted as often as they are there."""
    return sum(len(path.read_bytes().splitlines()) for path in (out / "rows").glob("*.jsonl"))
