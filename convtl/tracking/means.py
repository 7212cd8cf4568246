"""What a sweep may optimise, from rows and curves; nothing of the test split, which is read after every choice."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from convtl.tracking.tracker import CurvePoint


class Means:
    """Validation accuracy over the trials that were begun, as it is now.

    A finished trial counts with the accuracy of its chosen rate; one in flight with that which its best rate has
    reached; one that diverged, or has not been looked at yet, not at all.
    """

    def __init__(self) -> None:
        self._finished: dict[str, float] = {}
        self._diverged: set[str] = set()
        self._in_flight: dict[str, dict[float, float]] = {}

    @property
    def done(self) -> int:
        """Trials with a row."""
        return len(self._finished) + len(self._diverged)

    def add_row(self, row: Mapping[str, Any]) -> None:
        trial = str(row.get("trial"))
        self._in_flight.pop(trial, None)
        accuracy = plain(row.get("val_accuracy"))
        if row.get("status") == "diverged":
            self._diverged.add(trial)
        elif isinstance(accuracy, float | int) and math.isfinite(accuracy):
            self._finished[trial] = accuracy

    def add_points(self, points: Iterable[CurvePoint]) -> None:
        for point in points:
            if point.trial not in self._finished and math.isfinite(point.val_accuracy):
                self._in_flight.setdefault(point.trial, {})[point.rate] = point.val_accuracy

    def values(self) -> dict[str, float]:
        """Names under which they are told -> numbers."""
        now = [
            *self._finished.values(),
            *(max(rates.values()) for rates in self._in_flight.values()),
        ]
        found: dict[str, float] = {"study/trials": self.done, "study/diverged": len(self._diverged)}
        if now:
            found["study/mean_val_accuracy"] = math.fsum(now) / len(now)
            found["study/best_val_accuracy"] = max(now)
            found["study/worst_val_accuracy"] = min(now)
        return found


def curve_values(points: Sequence[CurvePoint]) -> dict[str, float]:
    """Means over the training runs in flight, at the update where they are."""
    found: dict[str, float] = {
        "curve/runs": len(points),
        "curve/update": max(p.update for p in points),
    }
    for name in ("loss", "val_accuracy"):
        finite = [value for p in points if math.isfinite(value := float(getattr(p, name)))]
        if finite:
            found[f"curve/{name}"] = math.fsum(finite) / len(finite)
    return found


def plain(value: Any) -> float | int | bool | str | None:
    """A number or text as Python's own type; None for what is neither."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    return value if isinstance(value, float | int | bool | str) else None
