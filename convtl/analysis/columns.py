"""Rows by column: what a million of them take in memory is what differs between them.

A dictionary a row takes some five times as much as the text on disk; here numbers are arrays, equal words are
one object, and what is nested is kept packed until somebody asks for it.
"""

import marshal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from typing import Any

import numpy as np

Row = dict[str, Any]

_PART = 500
"""Rows that are turned into columns at once: few enough to lie in the processor's cache."""


class _Absent:
    """A key that a row does not have; not the same as one that is None."""

    def __repr__(self) -> str:
        return "ABSENT"

    def __reduce__(self) -> str:
        return "ABSENT"  # the one of this module, in other processes too


ABSENT = _Absent()
_THERE, _NONE, _LACKING = 0, 1, 2
_WORDS = {str, bytes, bool, type(None), _Absent}
"""Types of values that are often equal, and never equal to one of another of these types."""
_NUMBERS = {float: np.dtype(np.float64), int: np.dtype(np.int64)}


@dataclass(frozen=True)
class Column:
    """The values of one key.

    Attributes:
      values: float64, int64 or objects; nested values as packed bytes.
      kinds: of numbers, whether each is there, None or absent; None where all are there.
    """

    values: np.ndarray
    kinds: np.ndarray | None = None

    def take(self, positions: np.ndarray | slice) -> "Column":
        return Column(self.values[positions], None if self.kinds is None else self.kinds[positions])

    def objects(self) -> list[Any]:
        """What was in the rows, `ABSENT` where nothing was; nested values still packed."""
        found = self.values.tolist()
        if self.kinds is not None:
            for place in np.flatnonzero(self.kinds).tolist():
                found[place] = None if self.kinds[place] == _NONE else ABSENT
        return found

    def at(self, place: int) -> Any:
        """One of the values, as the row had it, or `ABSENT`."""
        if self.kinds is not None and self.kinds[place] != _THERE:
            return None if self.kinds[place] == _NONE else ABSENT
        value = self.values[place]
        return value.item() if self.values.dtype != object else unpacked(value)

    def floats(self) -> np.ndarray | None:
        """Numbers with NaN where there is none; None if this is no column of numbers."""
        if self.values.dtype == object:
            return None
        return (
            self.values
            if self.kinds is None
            else np.where(self.kinds == _THERE, self.values, np.nan)
        )


def unpacked(value: Any) -> Any:
    """A value as the row had it: nested ones are kept as bytes."""
    return marshal.loads(value) if isinstance(value, bytes) else value


def column_of(
    values: Sequence[Any], known: dict[Any, Any] | None = None, *, pack: bool = False
) -> Column:
    """A column of values of JSON (and `ABSENT`).

    Args:
      known: words and packed values so far, so that equal ones are one object.
      pack: whether lists and dictionaries become bytes; only of what comes from JSON.
    """
    kinds = set(map(type, values))
    numbers = kinds - {type(None), _Absent}
    if len(numbers) == 1 and (dtype := _NUMBERS.get(next(iter(numbers)))) is not None:
        try:
            if kinds == numbers:
                return Column(np.array(values, dtype))
            there = [
                _NONE if value is None else _LACKING if value is ABSENT else _THERE
                for value in values
            ]
            filled = [0 if kind else value for value, kind in zip(values, there, strict=True)]
            return Column(np.array(filled, dtype), np.array(there, np.uint8))
        except OverflowError:  # a number of more than 64 bits stays as it is
            pass
    if pack and kinds & {list, dict}:
        values = [
            marshal.dumps(value, 2) if isinstance(value, list | dict) else value for value in values
        ]
        kinds = kinds - {list, dict} | {bytes}
    if known is not None and kinds <= _WORDS:
        words = set(values)
        if 2 * len(words) < len(values):
            own = {word: known.setdefault(word, word) for word in words}
            values = list(map(own.__getitem__, values))
    found = np.empty(len(values), object)
    found[:] = values
    return Column(found)


_values = methodcaller("values")


class Table:
    """Rows in an order, by column; a row is made when it is asked for."""

    def __init__(self, columns: Mapping[str, Column], length: int) -> None:
        self._columns, self._length = dict(columns), length

    @staticmethod
    def of(rows: Iterable[Mapping[str, Any]]) -> "Table":
        if isinstance(rows, Table):
            return rows
        gathered = Gathering()
        for row in rows:
            gathered.add(row)
        return gathered.table()

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), _PART):
            part = self.take(slice(start, start + _PART))
            columns = {
                name: [unpacked(v) for v in column.objects()]
                for name, column in part._columns.items()
            }
            for place in range(len(part)):
                yield {
                    name: values[place]
                    for name, values in columns.items()
                    if values[place] is not ABSENT
                }

    def __getitem__(self, place: int) -> Row:
        cells = {name: column.at(place) for name, column in self._columns.items()}
        return {name: value for name, value in cells.items() if value is not ABSENT}

    @property
    def names(self) -> list[str]:
        """Keys that some row may have, in the order in which they appeared."""
        return list(self._columns)

    def column(self, name: str) -> Column:
        """One column; of a key that no row has, all `ABSENT`."""
        if name in self._columns:
            return self._columns[name]
        found = np.empty(len(self), object)
        found[:] = ABSENT
        return Column(found)

    def objects(self, name: str, default: Any = None) -> list[Any]:
        """`row.get(name, default)` of each row; equal nested values may be one object."""
        if self.column(name).values.dtype == object:
            return self.mapped(name, lambda value: value, default)
        return [default if value is ABSENT else value for value in self.column(name).objects()]

    def mapped(self, name: str, change: Callable[[Any], Any], default: Any = None) -> list[Any]:
        """`change(row.get(name, default))` of each row, computed once for equal words and nested values."""
        found = self.column(name).objects()
        if set(map(type, found)) <= _WORDS:
            own = {v: change(default if v is ABSENT else unpacked(v)) for v in set(found)}
            return list(map(own.__getitem__, found))
        return [change(default if value is ABSENT else unpacked(value)) for value in found]

    def keys(self, name: str) -> list[Any]:
        """Something hashable for each row's value, the same for equal values of one type."""
        found = self.column(name).objects()
        return [(type(value), value if value.__hash__ else repr(value)) for value in found]

    def distinct(self, name: str, default: Any = None) -> list[Any]:
        """The values of a key, each once, in order of appearance."""
        found = self.column(name).objects()
        seen = dict(zip(self.keys(name), found, strict=True))
        return [default if value is ABSENT else unpacked(value) for value in seen.values()]

    def take(self, positions: np.ndarray | slice) -> "Table":
        """These rows, in this order."""
        columns = {name: column.take(positions) for name, column in self._columns.items()}
        length = (
            len(range(*positions.indices(len(self))))
            if isinstance(positions, slice)
            else len(positions)
        )
        return Table(columns, length)

    def only(self, *names: str) -> "Table":
        """The same rows with no keys but these."""
        return Table(
            {name: self._columns[name] for name in names if name in self._columns}, len(self)
        )

    def with_columns(self, columns: Mapping[str, Column]) -> "Table":
        """The same rows with some keys set anew."""
        return Table({**self._columns, **columns}, len(self))


class Gathering:
    """Turns rows into columns as they come.

    Args:
      pack: whether what is nested is packed: only in rows that were read from JSON.
    """

    def __init__(self, pack: bool = False) -> None:
        self._pack = pack
        self._open: list[Mapping[str, Any]] = []
        self._parts: list[tuple[int, dict[str, Column]]] = []
        self._names: dict[str, None] = {}
        self._known: dict[Any, Any] = {}
        self._closed = 0

    def __len__(self) -> int:
        return self._closed + len(self._open)

    def add(self, row: Mapping[str, Any]) -> None:
        self._open.append(row)
        if len(self._open) == _PART:
            self._close()

    def extend(self, table: Table) -> None:
        """Adds rows that are columns already."""
        if self._open:
            self._close()
        self._names.update(dict.fromkeys(table.names))
        self._parts.append((len(table), {name: table.column(name) for name in table.names}))
        self._closed += len(table)

    def _close(self) -> None:
        blank = dict.fromkeys(self._names, ABSENT)
        rows: list[Row] = [{**blank, **row} for row in self._open]
        if any(len(row) > len(blank) for row in rows):
            self._names.update({name: None for row in rows for name in row})
            blank = dict.fromkeys(self._names, ABSENT)
            rows = [{**blank, **row} for row in self._open]
        columns = {
            name: column_of(values, self._known, pack=self._pack)
            for name, values in zip(self._names, zip(*map(_values, rows), strict=True), strict=True)
        }
        self._parts.append((len(rows), columns))
        self._closed += len(rows)
        self._open = []

    def table(self) -> Table:
        """All rows that were added."""
        if self._open:
            self._close()
        return Table({name: self._joined(name) for name in self._names}, len(self))

    def _joined(self, name: str) -> Column:
        parts = [
            columns.pop(name) if name in columns else column_of([ABSENT] * length)
            for length, columns in self._parts
        ]
        kinds = {part.values.dtype for part in parts}
        if len(kinds) > 1:  # of several types, or not there at first
            values = [value for part in parts for value in part.objects()]
            return column_of(values)
        masks = [part.kinds for part in parts]
        if all(mask is None for mask in masks):
            return Column(np.concatenate([part.values for part in parts]))
        filled = [
            np.zeros(len(part.values), np.uint8) if mask is None else mask
            for part, mask in zip(parts, masks, strict=True)
        ]
        return Column(np.concatenate([part.values for part in parts]), np.concatenate(filled))


class Rows(Mapping[str, Row]):
    """Trial id -> its row.

    Attributes:
      table: the rows by column, in the order of the ids.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self._places = {trial: place for place, trial in enumerate(table.objects("trial"))}

    def __getitem__(self, trial: str) -> Row:
        return self.table[self._places[trial]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, trial: object) -> bool:
        return trial in self._places

    @staticmethod
    def of(rows: Mapping[str, Mapping[str, Any]]) -> "Rows":
        return rows if isinstance(rows, Rows) else Rows(Table.of(rows.values()))

    def places(self, trials: Iterable[str]) -> np.ndarray:
        """Where the rows of these trials are in the table; -1 for a trial without one."""
        return np.array([self._places.get(trial, -1) for trial in trials], np.int64)
