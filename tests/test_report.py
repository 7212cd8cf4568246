"""`convtl.report`: what it takes. Rebuilding is tested with `convtl.run`, which leaves what it needs."""

from pathlib import Path

import pytest
from commands import Commands

from convtl.cli import compose


@pytest.fixture
def commands(monkeypatch, capfd, tmp_path) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(monkeypatch, capfd)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["out="],
        ["results"],
        ["out=a", "out=b"],
        ["+out=a"],
        ["depth=1"],
        ["publish=b"],
        ["out=a", "publish="],
        ["replication=a"],
    ],
)
def test_it_takes_a_folder_and_nothing_else(commands, words) -> None:
    line = commands.report(*words).line
    assert line.startswith(f"got '{' '.join(words)}'; accepted: out=DIR")


@pytest.mark.parametrize("folder", [".", "nowhere", "a file", "~nobody-of-this-name"])
def test_a_foreign_folder_is_one_line(commands, folder) -> None:
    Path("a file").write_text("")
    Path("rows").mkdir()
    assert commands.report(f"out={folder}").line.startswith("out: ")
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["a file", "rows"]


def test_records_of_something_else_are_one_line(commands) -> None:
    Path("configs").mkdir()
    for text in ("x: [", "database: {host: h}", "config: 5", "config: {seed: 1}"):
        Path("configs/app.yaml").write_text(text)
        assert commands.report("out=.").line.startswith("out: ")


def test_a_study_whose_keys_are_gone_says_where_it_is(commands, monkeypatch) -> None:
    record = {"config": {**compose([]), "gone": 1}}
    monkeypatch.setattr("convtl.analysis.record.newest_record", lambda out: record)
    line = commands.report("out=.").line
    assert line.startswith(f"out: the study in '{Path.cwd()}' cannot be reported again: gone: ")


def test_publishing_to_an_address_is_refused(commands, tmp_path: Path) -> None:
    assert "no address" in commands.report("out=gs://bucket/study").line
