"""Files of rows read by processes side by side are what one process reads."""

from pathlib import Path

import pytest
from full_rows import row

from convtl.analysis import reading
from convtl.analysis.reading import read_files
from convtl.study.rows import line_of


def _file(path: Path, first: int, **fields: object) -> Path:
    rows = [row(f"{first + k}", seconds=0.1 * k, axes={"a": k}, **fields) for k in range(7)]
    path.write_bytes(b"".join(map(line_of, rows)) + b'{"trial": "to')
    return path


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """The second has a key of its own and repeats trials of the first, the third has another type."""
    fields: list[dict[str, object]] = [
        {},
        {"reason": "late", "commit": None},
        {"similarity": 0.5, "moved": {"a": [1.0]}},
    ]
    return [_file(tmp_path / f"{k}.jsonl", 4 * k, **own) for k, own in enumerate(fields)]


def test_processes_read_what_one_reads(paths, monkeypatch) -> None:
    alone = read_files(paths)
    for name, size in (("_ALONE", 0), ("_SHARE", 0)):
        monkeypatch.setattr(reading, name, size)
    monkeypatch.setattr(reading, "core_count", lambda: 2)
    together = read_files(paths)
    assert list(together) == list(alone)
    assert len(together) == 21
    paths[1].unlink()
    paths[1].mkdir()
    with pytest.raises(IsADirectoryError):  # as plain as when one process reads
        read_files(paths)
