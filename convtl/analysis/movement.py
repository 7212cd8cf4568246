"""How far each unit of a net moved in fine-tuning, from rows."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from convtl.analysis.columns import Table

COLUMNS = ("trial", "unit", "position", "displacement", "cka", "trained")


def movement_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The movement that rows hold, a line for each trial and unit, with `COLUMNS`.

    `position` is a unit's place from the input (0, 1, ...), `trained` whether the trial trained it.
    """
    known = Table.of(rows).only("trial", "model", "moved", "trained_units")
    measured = (
        [row for row in known if isinstance(row.get("moved"), Mapping)]
        if "moved" in known.names
        else []
    )
    order = {
        model: _order([r for r in measured if r.get("model") == model])
        for model in _models(measured)
    }
    lines = []
    for row in measured:
        trained = str(row.get("trained_units", "")).split("+")
        for position, unit in enumerate(order[row.get("model")]):
            if unit in row["moved"]:
                displacement, cka = row["moved"][unit]
                lines.append((row["trial"], unit, position, displacement, cka, unit in trained))
    frame = pd.DataFrame(lines, columns=list(COLUMNS)).drop_duplicates(["trial", "unit"])
    for name in ("displacement", "cka"):
        frame[name] = pd.to_numeric(frame[name]).astype(float)
    return frame


def _models(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    return list(dict.fromkeys(row.get("model") for row in rows))


def _order(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Units from the input on: a row lists those it trained in order; lower ones by name, numbers as numbers."""
    units = dict.fromkeys(unit for row in rows for unit in row["moved"])
    trained = max((str(row.get("trained_units", "")).split("+") for row in rows), key=len)
    upper = [unit for unit in trained if unit in units]
    lower = [unit for unit in units if unit not in upper]
    return [*sorted(lower, key=_by_number), *upper]


def _by_number(name: str) -> list[Any]:
    """`fc2` before `fc10`."""
    return [
        (part.isdigit(), int(part) if part.isdigit() else part) for part in re.split(r"(\d+)", name)
    ]
