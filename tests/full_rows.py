"""Rows with every field that a finished trial has."""

from typing import Any


def row(trial: str, status: str = "done", **fields: Any) -> dict[str, Any]:
    """A row as `convtl.study` writes it, but for its commit and version."""
    content = {
        "study": "s",
        "trial": trial,
        "config": "c0ffee",
        "contents": {"model": "m", "regime": "r", "source": "s", "target": "t"},
        "model": "lenet5",
        "source": "латиница",
        "target": "cyrillic",
        "regime": "fine_tune",
        "depth": 1,
        "depth_unit": "fc5",
        "n_units": 5,
        "trained_units": "fc5",
        "n_per_class": 2,
        "updates": 300,
        "validation": "beside",
        "similarity": None,
        "replicate": 0,
        "axes": {},
        "declared": [],
        "status": status,
    }
    if status == "done":
        content |= {
            "n_test": 120,
            "lr": 0.01,
            "n_rates": 1,
            "scores": [[0.01, 0.5, 1.2, 0.0]],
            "val_accuracy": 0.5,
            "test_accuracy": 0.25,
            "frozen_ok": True,
            "seconds": 0.5,
        }
    return content | fields
