"""`convtl.report`: what it takes. Rebuilding is tested with `convtl.run`, which leaves what it needs."""

from pathlib import Path

import pytest
from commands import Commands

from convtl.errors import UserError
from convtl.reporting.publishing import publish, published_figures


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


def test_publishing_keeps_what_the_report_shows(tmp_path) -> None:
    out, kept = tmp_path / "out", tmp_path / "kept"
    (out / "figures").mkdir(parents=True)
    (out / "rows").mkdir()
    text = "# a study\n\n![shown](figures/shown.png)\n\npython -m convtl.run depth=1{}\n"
    (out / "report.md").write_text(text.format(f" out={out}"))
    (out / "results.csv").write_text("study,trial,depth\n")
    (out / "gradients.csv").write_text(
        "probe,unit,replicate,value\nprofile,h1,0,1\nprofile,h1,1,3\n"
    )
    for name in ("shown", "of another report"):
        (out / "figures" / f"{name}.png").write_bytes(b"png")
    publish(out, kept)
    (kept / "figures" / "drawn by hand.png").write_bytes(b"mine")
    (out / "report.md").write_text((out / "report.md").read_text().replace("shown.png", "new.png"))
    (out / "figures" / "shown.png").rename(out / "figures" / "new.png")
    publish(out, kept)
    assert sorted(
        path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()
    ) == [
        "README.md",
        "figures/drawn by hand.png",
        "figures/new.png",
        "gradients.csv",
        "results.csv",
    ]
    assert (kept / "gradients.csv").read_text().splitlines()[1] == "profile,h1,2.0,1.414214,2"
    assert (kept / "README.md").read_text() == text.format("").replace("shown.png", "new.png")


@pytest.mark.parametrize("case", ["other files", "own folder", "linked figures", "other readme"])
def test_publishing_refuses_foreign_folders(case: str, tmp_path: Path) -> None:
    out, target = tmp_path / "out", tmp_path / "target"
    for path in (out, target, tmp_path / "elsewhere"):
        path.mkdir()
    precious = target / "thesis.png"
    if case == "own folder":
        target.rmdir()
        target.symlink_to(out)
    elif case == "linked figures":
        (target / "figures").symlink_to(tmp_path / "elsewhere")
    elif case == "other files":
        precious.write_bytes(b"png")
    else:
        (target / "README.md").write_text("# mine")
        (target / "results.csv").write_text("a,b\n")
    with pytest.raises(UserError, match=r"publish: got .*accepted: a new or empty folder"):
        published_figures(out, target)
    assert case != "other files" or precious.exists()


def test_publishing_to_an_address_is_refused(commands, tmp_path: Path) -> None:
    assert "no address" in commands.report("out=gs://bucket/study").line
