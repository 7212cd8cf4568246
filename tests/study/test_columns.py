"""Rows by column: the same rows and the same table as a plain reading and writing gives."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import full_rows
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convtl.analysis.columns import Gathering, Rows, Table
from convtl.analysis.reading import read_rows
from convtl.analysis.results import by_part, write_table
from convtl.study.rows import COLUMNS, FINAL, line_of
from convtl.study.store import RowStore

# --- a plain writer, a dictionary a row --------------------------------------------------------------


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


def exact(value: Any) -> str:
    """Told apart: 1, 1.0 and True, 0.0 and -0.0, a key that is None and one that is not there."""
    return json.dumps(value, sort_keys=True)


FATES = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(["done", "diverged", "failed", "interrupted"]),
        st.sampled_from([{}, {"moved": {"conv1": [0.5, None]}}]),
        st.booleans(),
    ),
    max_size=20,
)


@given(FATES)
def test_reports_read_the_rows_that_the_store_reads(tmp_path_factory, fates) -> None:
    out = tmp_path_factory.mktemp("rows")
    (out / "rows").mkdir()
    file, number = [], 0
    for depth, (trial, status, more, last) in enumerate(fates):
        file.append(
            line_of(full_rows.row(trial, status, depth=depth, **(more if status == "done" else {})))
        )
        if last:
            (out / "rows" / f"{number}.jsonl").write_bytes(b"".join(file) + b'{"trial": "to')
            file, number = [], number + 1
    store = RowStore(out)
    assert dict(read_rows(out)) == store.read()
    finished = {name for name, one in store.read().items() if one["status"] in FINAL}
    assert finished == store.finished()


@given(st.lists(ROWS, max_size=12, unique_by=lambda one: one["trial"]))
def test_the_table_is_that_of_a_plain_writer(tmp_path_factory, rows) -> None:
    out = tmp_path_factory.mktemp("table")
    expected = plain_table(rows)
    assert write_table(out, rows).read_bytes().decode() == expected
    assert write_table(out, Table.of(rows)).read_bytes().decode() == expected


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
