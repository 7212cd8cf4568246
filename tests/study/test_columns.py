"""Rows by column: the same rows, the same table and the same signatures as a plain reading of the files gives."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convtl.study.columns import Gathering, Rows, Table
from convtl.study.record import commits_of
from convtl.study.results import COLUMNS, by_part
from convtl.study.store import FINAL, RowStore, line_of

# --- a plain reader and writer, a dictionary a row ----------------------------------------------------


def plain_rows(out: Path) -> list[list[dict]]:
    found = []
    for path in sorted((out / "rows").glob("*.jsonl")):
        lines = [
            line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")
        ]
        found.append([row for line in lines if (row := parsed(line)) is not None])
    return found


def parsed(line: bytes) -> dict | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "trial" in row else None


def plain_read(out: Path) -> dict[str, dict]:
    rows: dict[str, dict] = {}
    for row in (row for file in plain_rows(out) for row in file):
        known = rows.get(row["trial"])
        again = bool(row.get("moved")) and known is not None and not known.get("moved")
        if known is None or known.get("status") not in FINAL or again:
            rows[row["trial"]] = {"commit": None, **row}
    return rows


def plain_order(row: Mapping[str, Any]) -> tuple:
    names = tuple(str(row.get(key, "")) for key in ("study", "model", "regime", "target", "source"))
    numbers = tuple(
        int(row.get(key) or 0) for key in ("depth", "n_per_class", "updates", "replicate")
    )
    return (*names, *numbers, json.dumps(row.get("axes", {}), sort_keys=True), row["trial"])


def plain_table(rows: list[dict]) -> str:
    listed = sorted(rows, key=plain_order)
    extra = sorted({key for row in listed for key in row.get("axes", {})})
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*COLUMNS, *extra])
    for row in listed:
        flat = {**row, "source_accuracy_by_part": by_part(row)}
        cells = [flat.get(key) for key in COLUMNS] + [row.get("axes", {}).get(key) for key in extra]
        writer.writerow(
            [json.dumps(c, ensure_ascii=False) if isinstance(c, dict) else c for c in cells]
        )
    return text.getvalue()


# --- rows of every kind ---------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.none(),
    st.floats(allow_nan=False),
    st.integers(-5, 10**6),
    st.sampled_from([2**63, -(2**70), 1e-300, -0.0]),
)
WORDS = st.sampled_from(["", "latin", "латиница", 'a "quoted", one', "two\nlines", "True"])
OPTIONAL: dict[str, st.SearchStrategy] = {
    "study": WORDS,
    "model": st.one_of(st.none(), WORDS),
    "source": WORDS,
    "depth": st.one_of(st.none(), st.integers(0, 12)),
    "n_per_class": st.one_of(st.integers(0, 60), st.floats(0, 60)),
    "lr": NUMBERS,
    "test_accuracy": st.floats(0, 1),
    "seconds": NUMBERS,
    "frozen_ok": st.sampled_from([True, False, None]),
    "reason": WORDS,
    "commit": st.one_of(st.none(), st.sampled_from(["1" * 40, "2" * 40])),
    "moved": st.one_of(
        st.none(), st.just({}), st.dictionaries(st.sampled_from(["a", "b"]), st.just([0.5, None]))
    ),
    "axes": st.dictionaries(
        st.sampled_from(["seed", "optim.clip"]), st.one_of(NUMBERS, WORDS, st.just([1, 2]))
    ),
    "source_accuracy_by_part": st.lists(st.floats(0, 1), max_size=2),
    "scores": st.lists(st.tuples(st.floats(0, 1), st.none()), max_size=2),
    "n_test": st.one_of(st.booleans(), st.integers(0, 3)),
}
ROWS = st.fixed_dictionaries(
    {
        "trial": st.sampled_from([f"{number:x}" for number in range(12)]),
        "status": st.sampled_from(["done", "diverged", "failed", "interrupted"]),
    },
    optional=OPTIONAL,
)
FILES = st.lists(
    st.tuples(st.lists(ROWS, max_size=8), st.sampled_from([b"", b"null\n", b'{"trial": "to'])),
    max_size=4,
)


def exact(value: Any) -> str:
    """Told apart: 1, 1.0 and True, 0.0 and -0.0, a key that is None and one that is not there."""
    return json.dumps(value, sort_keys=True)


@given(FILES)
def test_what_is_read_and_written_is_what_a_plain_reading_gives(tmp_path_factory, files) -> None:
    out = tmp_path_factory.mktemp("rows")
    (out / "rows").mkdir()
    for number, (rows, last) in enumerate(files):
        (out / "rows" / f"{number}.jsonl").write_bytes(b"".join(map(line_of, rows)) + last)
    store, expected = RowStore(out), plain_read(out)
    found = store.read()
    assert list(found) == list(expected)
    assert exact(list(found.values())) == exact(list(expected.values()))
    assert exact(list(found.table)) == exact(list(expected.values()))
    assert store.write_table(found.table).read_bytes().decode() == plain_table(
        list(expected.values())
    )
    assert store.write_table(expected.values()).read_bytes().decode() == plain_table(
        list(expected.values())
    )
    signed = {r["trial"]: r["commit"] for file in plain_rows(out) for r in file if "commit" in r}
    assert {name: own for name, own in commits_of(store, found).items() if own is not None} == {
        name: own for name, own in signed.items() if own is not None
    }
    final = {r["trial"] for file in plain_rows(out) for r in file if r["status"] in FINAL}
    assert store.finished() == final


@given(st.lists(ROWS, max_size=30))
def test_rows_in_memory_come_back_as_they_were(rows) -> None:
    table = Table.of(rows)
    assert exact(list(table)) == exact(rows)
    assert exact([table[place] for place in range(len(rows))]) == exact(rows)
    for name in ("seconds", "axes", "moved", "nothing"):
        assert exact(table.objects(name, "-")) == exact([row.get(name, "-") for row in rows])


def test_columns_are_joined_whatever_comes_late() -> None:
    """Keys, types and gaps that appear after many rows."""
    rows: list[dict] = [{"trial": f"{n}", "n": n} for n in range(1200)]
    rows += [
        {"trial": "a", "n": 0.5},
        {"trial": "b", "n": None, "late": "x"},
        {"trial": "c", "late": [1]},
    ]
    gathered = Gathering(pack=True)
    for row in rows:
        gathered.add(row)
    assert exact(list(gathered.table())) == exact(rows)


def test_rows_of_other_trials_have_no_place() -> None:
    rows = Rows.of({"a": {"trial": "a"}, "b": {"trial": "b"}})
    assert rows.places(["b", "c", "a"]).tolist() == [1, -1, 0]
    assert "c" not in rows
    with pytest.raises(KeyError):
        rows["c"]
