"""Files of rows read by processes side by side are what one process reads."""

from pathlib import Path

import pytest

from convtl.study import reading
from convtl.study.reading import read_files
from convtl.study.store import RowStore, line_of


def _file(path: Path, first: int, **more: object) -> Path:
    rows = [
        {"trial": f"{first + k}", "status": "done", "lr": 0.1 * k, "axes": {"a": k}}
        for k in range(7)
    ]
    path.write_bytes(b"".join(line_of(row | more) for row in rows) + b'{"trial": "to')
    return path


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """The second has a key of its own and repeats trials of the first, the third has another type."""
    (tmp_path / "rows").mkdir()
    more: list[dict[str, object]] = [
        {},
        {"reason": "late", "commit": None},
        {"lr": None, "moved": {"a": [1]}},
    ]
    return [_file(tmp_path / "rows" / f"{k}.jsonl", 4 * k, **own) for k, own in enumerate(more)]


def test_processes_read_what_one_reads(paths, tmp_path, monkeypatch) -> None:
    alone, counts = read_files(paths)
    rows = dict(RowStore(tmp_path).read())
    for name, size in (("_ALONE", 0), ("_SHARE", 0)):
        monkeypatch.setattr(reading, name, size)
    monkeypatch.setattr(reading, "core_count", lambda: 2)
    together, own = read_files(paths)
    assert list(together) == list(alone)
    assert len(together) == 21
    assert own == counts == [7, 7, 7]
    assert dict(RowStore(tmp_path).read()) == rows
    paths[1].unlink()
    paths[1].mkdir()
    with pytest.raises(IsADirectoryError):  # as plain as when one process reads
        read_files(paths)
