"""Rows of a study of declared claims, with known effects: every cell that the claims look at."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
from synthetic_rows import FLOPS, RATES, WEIGHTS

from convtl.analysis.declared import claims_of
from convtl.analysis.needs import Need, needs
from convtl.keys import generator

MAIN = ("cyrillic", "armenian")
UNITS = {1: "fc5", 2: "fc4", 3: "fc3", 4: "conv2", 5: "conv1"}
DISTANCE = {
    "own": 0.0,
    "latin": 0.25,
    "georgian": 0.4,
    "hebrew": 0.5,
    "textures": 0.9,
    "noise": 1.0,
    "self": 0.1,
}
Truth = Callable[[Need], float]
"""Cell -> logit accuracy before noise."""


@cache
def cells(*names: str) -> tuple[Need, ...]:
    """Every cell that the claims of some principles need, on any of their schedules."""
    found = {
        need
        for claim in claims_of(names)
        for updates in claim.schedules
        for need in needs(claim, updates)
    }
    return tuple(sorted(found))


def distance(source: str) -> float:
    """0 (the target's own letters) to 1; weights without meaning are as far as can be."""
    base, _, share = source.partition("@")
    if share:
        return 1 - float(share)
    return 1.2 if ":" in source else DISTANCE.get(base, 0.3)


def truth(need: Need) -> float:
    """Transfer gains less from afar, and depth pays more the more labels there are and the farther the source."""
    size = np.log2(need.n_per_class) / 2
    scratch = -2 + size + (0.3 if need.updates > 300 else 0)
    if need.source == "scratch":
        return float(scratch)
    far = distance(need.source)
    benefit = -0.9 + 0.5 * size + 1.5 * far
    return float(scratch + 1.2 * max(0.0, 1 - far) - benefit * (5 - need.depth) / 4)


def row(need: Need, target: str, replicate: int, z: float, **other: Any) -> dict[str, Any]:
    """One finished trial whose test accuracy is as near to logit z as 1,200 images allow."""
    source, _, share = need.source.partition("@")
    accuracy = round(1201 / (1 + np.exp(-z)) - 0.5) / 1200
    far = distance(need.source)
    content = {
        "trial": f"{need} {target} {replicate} {sorted(other)}",
        "config": "c0ffee",
        "model": "lenet5",
        "regime": "fine_tune",
        "source": source,
        "similarity": float(share) if share else None,
        "target": target,
        "depth": need.depth,
        "depth_unit": UNITS[need.depth],
        "n_per_class": need.n_per_class,
        "n_train": 12 * need.n_per_class,
        "updates": need.updates,
        "replicate": replicate,
        "lr": RATES[need.depth],
        "lr_at_edge": need.depth == 1,
        "n_rates": 5,
        "n_val": 240,
        "val_accuracy": accuracy,
        "test_accuracy": accuracy,
        "n_test": 1200,
        "source_accuracy": 0.9,
        "trained_weights": WEIGHTS[need.depth],
        "flops_per_update": FLOPS[need.depth],
        "seconds": 0.1,
        "frozen_ok": True,
        "status": "done",
        "axes": {"upper_init": need.upper, "classes": 12},
    }
    if source != "scratch":
        content |= dict.fromkeys(("leep", "logme", "linear_probe"), -far)
        content |= {} if ":" in source else {"mmd2": 0.1 + far, "otdd": 50 + 10 * far}
    return {**content, **other}


def study(
    *names: str,
    replicates: int = 6,
    score: Truth = truth,
    noise: float = 0.05,
    needed: Iterable[Need] | None = None,
) -> list[dict[str, Any]]:
    """All trials of the claims of some principles; a replicate's shift is shared by its arms."""
    draw = generator(1, "principles", replicates)
    shared = draw.normal(0, 0.2, replicates)
    return [
        row(need, target, replicate, score(need) + shared[replicate] + draw.normal(0, noise))
        for need in (cells(*names) if needed is None else needed)
        for target in ([need.target] if need.target else MAIN)
        for replicate in range(replicates)
    ]
