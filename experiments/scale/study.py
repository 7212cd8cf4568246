"""A study as large as is asked for, and made-up rows of it: real in keys and sizes, so that every step is real work.

The config is that of the default study on a larger grid; trials are expanded, described and written as those
of any study. Only what training would have measured is drawn.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.keys import generator
from convtl.study.grid import Trial, distinct, expand
from convtl.study.rows import describe
from convtl.study.store import Row

_TARGETS = ("cyrillic", "greek", "armenian", "georgian", "hebrew", "lao", "lisu", "old_italic")
_SOURCES = (
    "latin",
    "textures",
    "scratch",
    "noise",
    "digits",
    "own",
    "latin:shuffled",
    "latin:statistics",
    "random",
)
_REGIMES = ("fine_tune", "lp_ft", "l2_sp")
_COUNTS, _SCHEDULES = (1, 2, 5, 10, 20, 50), (300, 1200)
_WIDE = 100_000
"""From so many trials on the study has many settings (48) and not only many replicates."""
_CLASSES, _TEST, _VALIDATION = 12, 1200, 240
_ODD = {"not run": 0.001, "diverged": 0.002, "interrupted": 0.01, "repeated": 0.02}
"""Shares of the trials with these fates; a repeated one was finished by two processes."""


def words_for(rows: int) -> list[str]:
    """Words for `convtl.run` of a study with about so many trials, in whole replicates."""
    wide = rows >= _WIDE
    axes = {
        "target": _TARGETS if wide else _TARGETS[:2],
        "source": _SOURCES if wide else _SOURCES[:3],
        "regime": _REGIMES if wide else _REGIMES[:1],
        "n_per_class": _COUNTS if wide else _COUNTS[1:4],
        "updates": _SCHEDULES if wide else _SCHEDULES[:1],
    }
    grid = [f"{name}=[{','.join(map(str, values))}]" for name, values in axes.items()]
    base = ["+experiment=finetune_depth", "study=scale", *grid]
    claim = "statement: deeper pays with more data,estimand: depth_benefit_growth,source: latin,n_low: 2,n_high: 10"
    base.append(f"claims=[{{{claim}}}]")
    one = len(distinct(expand(parse(compose([*base, "replicates=1"])))[1]))
    return [*base, f"replicates={max(2, round(rows / one))}"]


def lines_of(trials: Sequence[Trial], commit: str) -> Iterator[tuple[int, bool, Row]]:
    """Rows of all trials, as `_ODD` says; interrupted and repeated trials have two.

    Yields:
      The trial's place, whether this is the second row, and the row.
    """
    draw = generator(0, "scale", len(trials))
    fates = draw.choice([*_ODD, "done"], len(trials), p=[*_ODD.values(), 1 - sum(_ODD.values())])
    levels: dict[str, float] = {}
    noise = draw.normal(0, 0.25, (len(trials), 6))
    for place, (trial, fate, drawn) in enumerate(zip(trials, fates.tolist(), noise, strict=True)):
        if fate == "not run":
            continue
        known = describe(trial) | {"commit": commit}
        if fate == "interrupted":
            yield place, False, known | {"status": "interrupted", "reason": "stopped from outside"}
        level = levels.setdefault(
            trial.source, float(generator(0, "source", trial.source).normal(0, 0.4))
        )
        row = known | _measured(trial, level, drawn, fate == "diverged")
        yield place, fate == "interrupted", row
        if fate == "repeated":
            yield place, True, row | {"seconds": row["seconds"] * 1.25}


def _measured(trial: Trial, level: float, drawn: np.ndarray, diverged: bool) -> Row:
    """What `convtl.study.group` would have measured."""
    need = 0.15 * trial.depth * np.log2(trial.n_per_class) / 5
    z = -0.8 + level + 0.5 * np.log2(trial.n_per_class) + need + 0.05 * (trial.updates > 300)
    pretrained = trial.source not in ("scratch", "random")
    rates = [0.001, 0.0031623, 0.01, 0.03162][: 3 + (trial.replicate % 2)]
    scores = [
        [
            rate,
            _share(z - 0.1 * place + 0.3 * float(drawn[place]), _VALIDATION),
            float(1.5 - z / 3 + drawn[place]),
        ]
        for place, rate in enumerate(rates)
    ]
    best = max(scores, key=lambda score: score[1])
    measured: dict[str, Any] = {
        "n_train": trial.n_per_class * _CLASSES,
        "lr": best[0],
        "lr_at_edge": best[0] == rates[-1],
        "n_rates": len(rates),
        "scores": scores,
        "val_regime": "oracle",
        "n_val": _VALIDATION,
        "n_test": _TEST,
        "source_accuracy": _share(2.5 + level, 960) if pretrained else None,
        "source_classes": _CLASSES if pretrained else None,
        "source_images": 3600 if pretrained else None,
        "trained_weights": 1020 * 3**trial.depth,
        "flops_per_update": 129_024 * 3**trial.depth,
        "subset_digest": f"{hash_of(trial.target, trial.n_per_class, trial.replicate):016x}",
        "classes": [chr(0x410 + (trial.replicate + place) % 64) for place in range(_CLASSES)],
        "source_accuracy_by_part": [_share(2.5 + level, 960)] if pretrained else [],
    }
    seconds = {"seconds": float(0.04 * trial.depth * np.exp(drawn[5]))}
    if diverged:
        reason = "loss or weights were not finite at any learning rate"
        return measured | seconds | {"lr": None, "status": "diverged", "reason": reason}
    return (
        measured
        | seconds
        | {
            "val_accuracy": best[1],
            "test_accuracy": _share(z + float(drawn[4]), _TEST),
            "test_nll": float(1.6 - z / 3 + 0.2 * drawn[4]),
            "test_ece": float(abs(0.1 * drawn[3]) + 0.01),
            "frozen_ok": True,
            "status": "done",
        }
    )


def hash_of(*words: str | int) -> int:
    """A number of 64 bits, the same in each process."""
    found = 0xCBF29CE484222325
    for byte in "/".join(map(str, words)).encode():
        found = (found ^ byte) * 0x100000001B3 % 2**64
    return found


def _share(z: float, of: int) -> float:
    """An accuracy as it is counted: a number of images, of so many."""
    return float(round(of / (1 + np.exp(-z))) / of)
