"""Lines of rows: what is written is read, and whatever is damaged is left out."""

import json
import re
from collections.abc import Callable
from typing import Any

import commands
import pytest
import tiny
from full_rows import row
from hypothesis import given
from hypothesis import strategies as st

from convtl.study import rows
from convtl.study.rows import COLUMNS, OtherVersionError, Row, line_of, parse_line
from convtl.study.store import RowStore


def sealed(**fields: Any) -> bytes:
    """A line with a right checksum, whatever it holds."""
    return line_of(row("a") | fields)


@given(
    st.floats(0, 1),
    st.floats(),
    st.none() | st.floats(0, 1),
    st.dictionaries(st.sampled_from(["seed", "optim.clip"]), st.integers() | st.text()),
)
def test_what_is_written_is_read_to_the_bit(accuracy, nll, similarity, axes) -> None:
    written = row("a", test_accuracy=accuracy, test_nll=nll, similarity=similarity, axes=axes)
    read = parse_line(line_of(written))
    assert json.dumps(read | written, sort_keys=True) == json.dumps(read, sort_keys=True)
    assert set(read) - set(written) == {"commit", "version"}


def test_every_column_is_a_field() -> None:
    assert set(COLUMNS) < set(Row.__annotations__)
    assert COLUMNS[:2] == ("study", "trial")


WRONG = {
    "accuracy of 5.0": {"test_accuracy": 5.0},
    "accuracy below 0": {"val_accuracy": -1.0},
    "accuracy that is no number": {"test_accuracy": float("nan")},
    "infinite accuracy": {"test_accuracy": float("inf")},
    "text for a number": {"test_accuracy": "0.5"},
    "flag for a count": {"n_test": True},
    "fraction for a count": {"depth": 1.5},
    "list for a name": {"source": ["latin"]},
    "status of no kind": {"status": "finished"},
    "rate that was not tried": {"lr": 0.5},
    "score without a loss": {"scores": [[0.01, 0.5]]},
    "score without an error": {"scores": [[0.01, 0.5, 1.2]]},
    "validation of no kind": {"validation": "none"},
    "unknown field": {"acuracy": 0.5},
    "null": {"trained_units": None},
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_refused_when_written_and_when_read(tmp_path, fields) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_line(sealed(**fields))
    store = RowStore(tmp_path)
    store.prepare()
    with pytest.raises(ValueError, match=r"."):
        store.append(row("a") | fields)
    assert store.read() == {}


@pytest.mark.parametrize("key", sorted(Row.__required_keys__ - {"version"} | rows._OF_DONE))
def test_a_finished_row_lacks_no_field(key) -> None:
    fields = row("a")
    del fields[key]
    with pytest.raises(ValueError, match=key):
        parse_line(line_of(fields))


def edited(pattern: str, replacement: str) -> Callable[[bytes], bytes]:
    def edit(line: bytes) -> bytes:
        text, count = re.subn(pattern, replacement, line.decode(), count=1)
        assert count == 1
        return text.encode()

    return edit


ACCURACY = r'"test_accuracy": [0-9.]+'
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "changed digit": edited(r'("test_accuracy": 0\.)\d', r"\g<1>9"),
    "another rate": edited(r'"lr": [0-9.]+', '"lr": 0.5'),
    "text": edited(ACCURACY, '"test_accuracy": "high"'),
    "NaN": edited(ACCURACY, '"test_accuracy": NaN'),
    "5.0": edited(ACCURACY, '"test_accuracy": 5.0'),
    "missing key": edited(ACCURACY + ", ", ""),
    "duplicate key": edited(ACCURACY, '"test_accuracy": 0.5, "test_accuracy": 0.9'),
    "missing checksum": edited(r', "checksum": "\w+"', ""),
    "other status": edited('"status": "done"', '"status": "finished"'),
    "truncated in the middle": lambda line: line[: len(line) // 2] + b"\n",
    "torn": lambda line: line[: len(line) // 2],
    "binary": lambda line: bytes(range(11, 256)) + b"\n",
    "another kind of JSON": lambda line: b"[1, 2]\n",
    "empty line": lambda line: b"\n",
    "empty file": lambda line: b"",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Any:
    """A finished tiny study of two trials: folder, and its lines."""
    out = tmp_path_factory.mktemp("finished")
    tiny.run(out, tiny.trials("source=[latin,scratch]"))
    (path,) = (out / "rows").iterdir()
    return path, path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_row_is_left_out_and_run_again(tmp_path, finished, damage, capsys) -> None:
    path, (first, second) = finished
    (tmp_path / "rows").mkdir()
    damaged = damage(first)
    torn = not damaged.endswith(b"\n")
    (tmp_path / "rows" / path.name).write_bytes(second + damaged)
    intact = parse_line(second)["trial"]
    store = RowStore(tmp_path)
    assert store.finished().keys() == {intact}
    assert set(store.read()) == {intact}
    line = "convtl: out: damaged rows left out of"
    assert capsys.readouterr().err.count(line) == (0 if torn else 1)
    assert tiny.run(tmp_path, tiny.trials("source=[latin,scratch]")).ran == 1
    assert tiny.table(tmp_path) == tiny.table(path.parent.parent)


def test_no_damage_ends_in_a_traceback(tmp_path, finished, monkeypatch, capfd) -> None:
    """All damages in one file: run and report leave them out."""
    command = commands.Commands(monkeypatch, capfd)
    words = (*tiny.WORDS, "source=[latin,scratch]", f"out={tmp_path}")
    assert command.run(*words).code == 0
    (path,) = (tmp_path / "rows").iterdir()
    first, second = path.read_bytes().splitlines(keepends=True)
    damaged = [damage(first) for damage in DAMAGE.values()]
    path.write_bytes(second + b"".join(line for line in damaged if line.endswith(b"\n")))
    for name, done in (
        ("report", command.report(f"out={tmp_path}")),
        ("run", command.run(*words)),
    ):
        assert done.code == 0, (name, done.err)
        assert "Traceback" not in done.err
        assert done.err.count("damaged rows left out of") <= 1  # once a process
    assert "1 trials run, 1 were there" in done.out


def test_rows_of_the_first_version_are_refused_in_one_line(tmp_path, monkeypatch, capfd) -> None:
    old = row("a") | {"commit": "0123456789abcdef"}
    with pytest.raises(OtherVersionError, match="0123456789abcdef"):
        parse_line(json.dumps(old).encode() + b"\n")
    monkeypatch.setattr(rows, "RESULTS_VERSION", 99)
    other = line_of(old)
    monkeypatch.undo()
    with pytest.raises(OtherVersionError):
        parse_line(other)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_bytes(json.dumps(old).encode() + b"\n")
    line = commands.Commands(monkeypatch, capfd).tiny(f"out={tmp_path}").line
    assert line.startswith(
        f"out: '{tmp_path}' was written by another version of convtl; commit 0123"
    )
