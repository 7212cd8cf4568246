"""Images in a `.npy` file that is written row by row, so that it never has to fit into memory."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True)
class Rows:
    """A `.npy` file of `count` images of one shape (uint8), in any order of writing and by many processes.

    It is written as a file and not through a memory map: a full disk is then an error and not a signal, and
    written rows do not count as memory of this process.
    """

    path: Path
    count: int
    shape: tuple[int, int, int]
    """height, width, channels"""

    @property
    def row_bytes(self) -> int:
        return prod(self.shape)

    def create(self) -> "Rows":
        """Makes the file, with rows of zeros; returns itself."""
        with self.path.open("wb") as file:
            file.write(self._header)
            file.truncate(len(self._header) + self.count * self.row_bytes)
        return self

    def write(self, row: int, image: UInt8[np.ndarray, "height width channels"]) -> None:
        with self.path.open("r+b") as file:
            file.seek(len(self._header) + row * self.row_bytes)
            file.write(np.ascontiguousarray(image, np.uint8).tobytes())

    def take(self, rows: Sequence[int], path: Path) -> None:
        """Writes these rows, in this order, to a file of their own; moves this one where it has no others."""
        if list(rows) == list(range(self.count)):
            self.path.rename(path)
            return
        chosen = Rows(path, len(rows), self.shape)
        with self.path.open("rb") as all_rows, path.open("wb") as file:
            file.write(chosen._header)
            for row in rows:
                all_rows.seek(len(self._header) + row * self.row_bytes)
                file.write(all_rows.read(self.row_bytes))

    @property
    def _header(self) -> bytes:
        header = io.BytesIO()
        content = {"descr": "|u1", "fortran_order": False, "shape": (self.count, *self.shape)}
        np.lib.format.write_array_header_1_0(header, content)
        return header.getvalue()
