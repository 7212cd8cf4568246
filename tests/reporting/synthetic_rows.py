"""Rows with known effects, as a finished study would leave them."""

from typing import Any

import numpy as np

from convtl.config.schema import ClaimConfig
from convtl.keys import generator

UNITS = {1: "out", 2: "fc4", 3: "fc3", 4: "conv2", 5: "conv1"}
WEIGHTS = {1: 850, 2: 11_014, 3: 59_134, 4: 61_550, 5: 61_706}
RATES = {1: 1e-2, 2: 1e-2, 3: 3.1623e-3, 4: 3.1623e-3, 5: 1e-3}
FLOPS = {1: 0.11e6, 2: 1.9e6, 3: 7.9e6, 4: 27e6, 5: 75e6}
TRUTH = {
    # logits at depths 1..5; the sources differ in where they peak
    ("latin", 2): (-0.40, -0.55, -0.90, -0.95, -0.90),
    ("latin", 10): (0.36, 0.45, 0.16, 0.14, 0.13),
    ("latin", 50): (0.69, 0.92, 1.30, 1.00, 0.88),
    ("textures", 2): (-1.95, -1.75, -1.60, -1.60, -1.60),
    ("textures", 10): (-1.25, -0.95, -0.80, -0.75, -0.72),
    ("textures", 50): (-0.85, -0.25, 0.15, 0.18, 0.21),
    ("scratch", 2): (-1.60,),
    ("scratch", 10): (-0.90,),
    ("scratch", 50): (0.10,),
}
CLAIM = ClaimConfig(
    statement="With more data, deeper fine-tuning pays more (similar source)",
    source="latin",
    n_low=2,
    n_high=50,
)


def row(source: str, n: int, depth: int, replicate: int, z: float, **other: Any) -> dict[str, Any]:
    """One finished trial whose test accuracy is as near to logit z as 1,200 images allow."""
    correct = round(1201 / (1 + np.exp(-z)) - 0.5)
    validation = 1 / (1 + np.exp(-z))
    content = {
        "study": "synthetic",
        "trial": f"{source}-{n}-{depth}-{replicate}-{sorted(other.items())}",
        "config": "c0ffee",
        "model": "lenet5",
        "source": source,
        "target": "cyrillic",
        "regime": "fine_tune",
        "depth": depth,
        "depth_unit": UNITS[depth],
        "n_per_class": n,
        "n_train": 12 * n,
        "replicate": replicate,
        "lr": RATES[depth],
        "lr_at_edge": depth == 1 and replicate == 0,
        "n_rates": 4 if depth == 1 else 3,
        "updates": 300,
        "n_val": 240,
        "val_accuracy": validation,
        "test_accuracy": correct / 1200,
        "test_nll": 1 + 0.1 * depth - 0.3 * z,
        "test_ece": 0.02 * depth + 0.01 * (replicate % 3),
        "n_test": 1200,
        "source_accuracy": 0.93,
        "trained_weights": WEIGHTS[depth],
        "flops_per_update": FLOPS[depth],
        "seconds": 0.4 * depth,
        "frozen_ok": True,
        "subset_digest": f"s{n}{replicate}",
        "status": "done",
    }
    return {**content, **other}


def study(
    replicates: int = 6,
    *,
    truth: dict[tuple[str, int], tuple[float, ...]] = TRUTH,
    noise: float = 0.08,
    **other: Any,
) -> list[dict[str, Any]]:
    """All trials of a study; replicates share a shift (so pairing matters), arms add noise of their own."""
    draw = generator(
        1, "synthetic", replicates, *(f"{key}{value}" for key, value in sorted(other.items()))
    )
    shared = draw.normal(0, 0.3, replicates)
    rows = []
    for (source, n), curve in truth.items():
        depths = (5,) if source == "scratch" else range(1, len(curve) + 1)
        for depth, z in zip(depths, curve, strict=True):
            for replicate in range(replicates):
                value = z + shared[replicate] + draw.normal(0, noise)
                rows.append(row(source, n, depth, replicate, value, **other))
    return rows


def pictures(count: int = 12) -> dict[str, tuple[np.ndarray, list[str]]]:
    """Noise with a bar, and labels in scripts that the figures can and cannot draw."""
    draw = generator(1, "pictures")
    images = draw.integers(0, 60, (count, 28, 28)).astype(np.uint8)
    images[:, 6:22, 12:16] = 230
    return {
        "cyrillic": (images, list("ЖЗЭЮДЛЯФЦЩЪ漢"[:count])),
        "latin": (images[::-1], list("ABCDEFGHIJKL"[:count])),
    }
