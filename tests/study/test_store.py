"""Rows on disk: what survives, what counts, what the table looks like."""

import errno
import gzip
import os
import resource
from pathlib import Path

import pytest
from full_rows import row
from hypothesis import given
from hypothesis import strategies as st
from made_rows import frame_of

from convtl.analysis.frame import write_results
from convtl.config.schema import RESULTS_VERSION
from convtl.errors import StorageError, UserError
from convtl.study.rows import commit, line_of
from convtl.study.store import RowStore


def files(out: Path, **contents: list[dict]) -> RowStore:
    """A folder with one file of rows for each keyword."""
    (out / "rows").mkdir(parents=True)
    for name, rows in contents.items():
        (out / "rows" / f"{name}.jsonl").write_bytes(b"".join(map(line_of, rows)))
    return RowStore(out)


def test_rows_come_back_as_they_were(tmp_path) -> None:
    store = RowStore(tmp_path / "deep" / "out")
    store.prepare()
    rows = [
        row("a", test_accuracy=0.1 + 0.2, axes={"k": [1]}),
        row("b", "failed", reason='Ж "\n'),
    ]
    for one in rows:
        store.append(one)
    made_by = {"commit": commit(), "version": RESULTS_VERSION}
    assert RowStore(store.out).read() == {one["trial"]: one | made_by for one in rows}
    assert store.finished().keys() == {"a"}
    assert not list(store.out.glob(".probe*"))


def test_a_line_torn_at_any_byte_is_skipped_and_the_others_stay(tmp_path) -> None:
    store = RowStore(tmp_path)
    store.prepare()
    store.append(row("first"))
    store.append(row("second", reason="ж\r\n{}"))
    (path,) = (tmp_path / "rows").iterdir()
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        fresh = RowStore(tmp_path)
        assert set(fresh.read()) == {"first"} == fresh.finished().keys(), end
    path.write_bytes(whole)
    assert set(RowStore(tmp_path).read()) == {"first", "second"}


def test_who_watches_sees_a_line_as_soon_as_it_is_whole(tmp_path) -> None:
    store = files(tmp_path, a=[row("one")])
    path = tmp_path / "rows" / "a.jsonl"
    line = line_of(row("two"))
    assert store.finished().keys() == {"one"}
    with path.open("ab") as file:
        for piece in (line[:5], line[5:-1]):
            file.write(piece)
            file.flush()
            assert store.finished().keys() == {"one"}
        file.write(line[-1:])
    assert store.finished().keys() == {"one", "two"}


def test_the_first_final_row_by_file_and_line_counts(tmp_path) -> None:
    store = files(
        tmp_path,
        a=[row("x", "failed", depth=1), row("x", depth=2), row("x", depth=3)],
        b=[row("x", depth=5), row("y", "interrupted", depth=4), row("z", "failed", depth=7)],
        c=[row("y", "diverged", depth=6), row("y", depth=8), row("z", "interrupted", depth=9)],
    )
    assert {name: one["depth"] for name, one in store.read().items()} == {"x": 2, "y": 6, "z": 9}
    assert store.finished().keys() == {"x", "y"}
    assert store.finished()["y"] == "diverged"


@given(
    st.lists(st.sampled_from(["done", "diverged", "failed", "interrupted"]), min_size=1, max_size=6)
)
def test_a_final_row_is_never_covered_by_another(tmp_path_factory, statuses) -> None:
    rows = [row("x", status, depth=index) for index, status in enumerate(statuses)]
    store = files(tmp_path_factory.mktemp("rows"), a=rows)
    final = [index for index, status in enumerate(statuses) if status in ("done", "diverged")]
    assert store.read()["x"]["depth"] == (final[0] if final else len(rows) - 1)
    assert bool(store.finished()) == bool(final)


def test_two_stores_write_two_files(tmp_path) -> None:
    for name in ("one", "two"):
        store = RowStore(tmp_path)
        store.prepare()
        store.append(row(name))
    assert len(list((tmp_path / "rows").glob("*.jsonl"))) == 2
    assert set(RowStore(tmp_path).read()) == {"one", "two"}


def test_compressed_rows_seed_a_folder_that_goes_on(tmp_path) -> None:
    store = files(tmp_path, b=[row("x", depth=2), row("z")])
    packed = tmp_path / "rows" / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(b"".join(map(line_of, [row("x", depth=1), row("y")]))))
    assert store.finished().keys() == {"x", "y", "z"}
    assert store.read()["x"]["depth"] == 1  # of the first file by name
    before = packed.read_bytes()
    store.append(row("new"))
    assert store.finished().keys() == {"x", "y", "z", "new"}
    assert packed.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-9],
        lambda content: b"no gzip",
        lambda content: content[:9] + b"x" * 90,
    ],
)
def test_a_damaged_compressed_file_is_reported_and_left_out(tmp_path, damage, capsys) -> None:
    store = files(tmp_path, b=[row("z")])
    content = gzip.compress(b"".join(map(line_of, [row("x"), row("y")])))
    (tmp_path / "rows" / "a.jsonl.gz").write_bytes(damage(content))
    assert store.finished().keys() >= {"z"}
    assert store.read().keys() == store.finished().keys()
    assert capsys.readouterr().err.count("damaged rows left out of") == 1


def test_an_empty_folder_has_no_rows(tmp_path) -> None:
    store = RowStore(tmp_path / "nowhere")
    assert store.read() == {}
    assert store.finished().keys() == set()


# --- what the file system refuses -------------------------------------------------------------------


@pytest.mark.parametrize("where", ["", "below", "rows"])
def test_a_file_in_the_place_of_a_folder_is_one_line(tmp_path, where) -> None:
    out = tmp_path / "out"
    if where == "rows":
        out.mkdir()
        (out / "rows").write_text("")
    else:
        out.write_text("")
        out = out / where if where else out
    with pytest.raises(
        UserError, match=r"^out: cannot write in '.*out.*': (File exists|Not a directory)$"
    ):
        RowStore(out).prepare()


def refuse(monkeypatch, code: int) -> None:
    def refused(*_args, **_kwargs):
        raise OSError(code, os.strerror(code))

    for name in ("open", "mkdir"):
        monkeypatch.setattr(Path, name, refused)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_full_or_forbidden_disk_is_one_line(tmp_path, monkeypatch, code) -> None:
    store = RowStore(tmp_path)
    with monkeypatch.context() as patch:
        refuse(patch, code)
        with pytest.raises(
            UserError, match=f"out: cannot write in '{tmp_path}': {os.strerror(code)}"
        ):
            store.prepare()
    store.prepare()
    table = frame_of([row("x")])
    with monkeypatch.context() as patch:
        refuse(patch, code)
        with pytest.raises(UserError, match=os.strerror(code)):
            store.append(row("x"))
        with pytest.raises(UserError, match=os.strerror(code)):
            write_results(tmp_path, table)
    assert not list(tmp_path.glob(".results*"))


def test_a_disk_that_is_full_when_the_row_is_flushed_is_one_line(tmp_path) -> None:
    store = RowStore(tmp_path)
    store.prepare()
    store.append(row("x"))
    (path,) = (tmp_path / "rows").iterdir()
    path.unlink()
    path.symlink_to("/dev/full")
    with pytest.raises(
        UserError, match=f"out: cannot write in '{tmp_path}': No space left on device"
    ):
        store.append(row("y"))


def test_an_unreadable_row_file_is_one_line(tmp_path) -> None:
    store = files(tmp_path)
    (tmp_path / "rows" / "a.jsonl").mkdir()
    for read in (store.read, store.finished):
        with pytest.raises(UserError, match=f"out: cannot read '{tmp_path}': Is a directory"):
            read()


def test_a_row_that_fits_only_in_part_is_skipped(tmp_path) -> None:
    store = RowStore(tmp_path)
    store.prepare()
    store.append(row("x"))
    (path,) = (tmp_path / "rows").iterdir()
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
    try:
        with pytest.raises(StorageError, match="File too large"):
            store.append(row("y"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    store.append(row("z"))
    assert set(store.read()) == {"x", "z"}


def test_a_folder_that_goes_away_is_missed_and_not_made_anew(tmp_path) -> None:
    store = RowStore(tmp_path / "out")
    store.prepare()
    store.append(row("x"))
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    for ask in (store.read, store.finished):
        with pytest.raises(
            StorageError, match=r"^out: '.*out' is gone, and what was saved in it; once it is back"
        ):
            ask()
    with pytest.raises(
        StorageError, match=r"^out: cannot write in '.*out': No such file or directory"
    ):
        store.append(row("y"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "elsewhere").rename(tmp_path / "out")
    store.append(row("y"))
    assert set(store.read()) == {"x", "y"}
