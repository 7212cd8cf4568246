"""Results of probes on disk: a part for each configuration, written whole, and the table made of them."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from convtl.errors import StorageError, UserError
from convtl.keys import digest
from convtl.storage.files import written

TABLE = "gradients.csv"
COLUMNS = (
    "probe",
    "model",
    "activation",
    "initialiser",
    "hidden",
    "optimiser",
    "replicate",
    "update",
    "unit",
    "position",
    "quantity",
    "value",
)
"""Of gradients.csv: one line a number. What does not apply, or is not defined, is empty."""

_FOLDER = "probes"

Numbers = Iterable[tuple[int, str | None, int | None, str, np.ndarray]]
"""(update, unit, position, quantity, one number a replicate)"""


class Parts:
    """The finished configurations of one `out` folder: out/probes/<probe>-<digest>.jsonl."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._expected: list[Path] = []

    def path(self, probe: str, content: Mapping[str, Any]) -> Path:
        """Where the rows of a configuration are, by all that they depend on."""
        return self.out / _FOLDER / f"{probe}-{digest(content)}.jsonl"

    def expect(self, probe: str, content: Mapping[str, Any]) -> bool:
        """Names a part of the table; True if it is there already."""
        path = self.path(probe, content)
        self._expected.append(path)
        return path.exists()

    def write(
        self, probe: str, content: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]
    ) -> None:
        """Publishes the rows of one configuration, by one rename.

        Raises:
          UserError: the folder cannot be written to.
        """
        lines = [json.dumps(row, sort_keys=True, allow_nan=False) for row in rows]
        _publish(self.path(probe, content), "".join(f"{line}\n" for line in lines))

    def write_table(self) -> Path:
        """Writes gradients.csv from the parts that were expected and are there."""
        there = [path for path in self._expected if path.exists()]
        rows = [
            json.loads(line)
            for path in there
            for line in path.read_text(encoding="utf-8").splitlines()
        ]
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        for column in ("hidden", "replicate", "update", "position"):
            frame[column] = frame[column].astype("Int64")
        path = self.out / TABLE
        _publish(path, frame.to_csv(index=False))
        return path


def rows_of(setting: Mapping[str, Any], numbers: Numbers) -> list[dict[str, Any]]:
    """Rows of the table: those of `setting` (probe, model, ...) with each number of each replicate."""
    return [
        {
            **setting,
            "replicate": replicate,
            "update": update,
            "unit": unit,
            "position": position,
            "quantity": quantity,
            "value": _plain(value),
        }
        for update, unit, position, quantity, values in numbers
        for replicate, value in enumerate(values)
    ]


def read_gradients(out: Path) -> pd.DataFrame:
    """The table of `out`, with `COLUMNS`.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    path = out / TABLE
    try:
        frame = pd.read_csv(path, keep_default_na=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"out: cannot read '{path}': {reason}") from None
    if missing := [column for column in COLUMNS if column not in frame]:
        raise UserError(f"out: '{path}' has no column {', '.join(missing)}")
    return frame


def _plain(value: float) -> float | None:
    """Six digits are more than the measurement has; what is not a number is left empty."""
    return float(f"{float(value):.6g}") if math.isfinite(value) else None


def _publish(path: Path, text: str) -> None:
    try:
        with written(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise StorageError(
            f"out: cannot write in '{path.parent}': {error.strerror or error}"
        ) from None
