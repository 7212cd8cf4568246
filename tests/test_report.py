"""`convtl.report`: what it takes. Rebuilding is tested with `convtl.run`, which leaves what it needs."""

from pathlib import Path

import pytest
from commands import Commands

from convtl.report import publish


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
    said = commands.report(*words).line
    accepted = "out=DIR, a folder that convtl.run has written, and publish=DIR, replication=DIR"
    assert said == f"got '{' '.join(words)}'; accepted: {accepted}"


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


def test_help(commands) -> None:
    done = commands.report("--help")
    assert done.code == 0
    assert "out=DIR" in done.out


def test_publishing_keeps_what_the_report_shows(tmp_path) -> None:
    out, kept = tmp_path / "out", tmp_path / "kept"
    (out / "figures").mkdir(parents=True)
    (out / "rows").mkdir()
    text = "# a study\n\n![shown](figures/shown.png)\n\npython -m convtl.run depth=1{}\n"
    (out / "report.md").write_text(text.format(f" out={out}"))
    (out / "results.csv").write_text("study\n")
    (out / "gradients.csv").write_text(
        "probe,unit,replicate,value\nprofile,h1,0,1\nprofile,h1,1,3\n"
    )
    for name in ("shown", "of another report"):
        (out / "figures" / f"{name}.png").write_bytes(b"png")
    (kept / "figures").mkdir(parents=True)
    (kept / "figures" / "old.png").write_bytes(b"old")
    publish(out, kept)
    assert sorted(
        path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()
    ) == [
        "README.md",
        "figures/shown.png",
        "gradients.csv",
        "results.csv",
    ]
    assert (kept / "gradients.csv").read_text().splitlines()[1] == "profile,h1,2.0,1.414214,2"
    assert (kept / "README.md").read_text() == text.format("")
