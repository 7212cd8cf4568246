"""Synthetic finished trials for the cells that declared claims need, at exactly given logit accuracies."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from convtl.analysis.contrasts import SHIFTS
from convtl.analysis.declared import Claim
from convtl.analysis.needs import Need, needs

MAIN = ("cyrillic", "armenian")
Score = Callable[[Need, str, int], float]
"""(cell, target, replicate) -> logit accuracy"""

_N = 10**7


def accuracy(z: float) -> float:
    """The accuracy on so many test images that its logit is z to seven digits."""
    return ((_N + 1) / (1 + np.exp(-z)) - 0.5) / _N


def cells_of(claims: Iterable[Claim]) -> list[Need]:
    """Every cell that any of the claims needs on any of its schedules."""
    return sorted(
        {need for claim in claims for updates in claim.schedules for need in needs(claim, updates)}
    )


def row(need: Need, target: str, replicate: int, z: float, **other: Any) -> dict[str, Any]:
    source, _, share = need.source.partition("@")
    content = {
        "trial": f"{need} {target} {replicate}",
        "config": "c",
        "model": "lenet5",
        "regime": need.regime or "fine_tune",
        "source": source,
        "similarity": float(share) if share else None,
        "target": target,
        "depth": need.depth,
        "n_per_class": need.n_per_class,
        "n_train": 12 * need.n_per_class,
        "updates": need.updates,
        "replicate": replicate,
        "val_accuracy": 0.5,
        "test_accuracy": accuracy(z),
        "n_test": _N,
        "frozen_ok": True,
        "status": "done",
        "axes": {
            "upper_init": need.upper,
            **{f"shift.{kind}": kind == need.shift for kind in SHIFTS},
        },
    }
    return {**content, **other}


def rows(
    cells: Iterable[Need],
    score: Score,
    *,
    targets: Iterable[str] = MAIN,
    replicates: int = 12,
    **other: Any,
) -> list[dict[str, Any]]:
    return [
        row(need, target, replicate, score(need, target, replicate), **other)
        for need in cells
        for target in ([need.target] if need.target else targets)
        for replicate in range(replicates)
    ]
