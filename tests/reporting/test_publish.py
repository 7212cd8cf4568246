"""Published folders: pages that are made again from their tables, and folders that are left alone."""

from dataclasses import replace
from pathlib import Path

import jinja2
import pytest
from made_rows import made_rows
from made_study import made_report

from convtl.errors import UserError
from convtl.reporting.publish import PAGE, RECORD, check_folder, page_of, publish, published
from convtl.reporting.report import Report, render

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    out = tmp_path_factory.mktemp("made")
    made = made_report(out, made_rows(targets=("cyrillic",), schedules=(300,)), "target=cyrillic")
    (out / "figures").mkdir()
    for name in ("accuracy_by_depth", "depth_benefit"):
        (out / "figures" / f"{name}.png").write_bytes(b"png")
    return replace(made, drawn=("accuracy_by_depth", "depth_benefit"))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "folder",
    sorted(path.parent for path in EXPERIMENTS.glob(f"*/{RECORD}")),
    ids=lambda path: path.name,
)
def test_every_published_page_is_made_of_its_tables(folder: Path) -> None:
    again = published(folder)
    assert page_of(again, folder) == (folder / "README.md").read_text(encoding="utf-8")
    assert render(again, "report.md.j2") == (folder / "report.md").read_text(encoding="utf-8")
    assert len((folder / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
    assert all(path.stat().st_size < 2**20 for path in (folder / "figures").iterdir())


def test_what_is_published_makes_the_same_pages_again(report, tmp_path: Path) -> None:
    page = publish(report, tmp_path / "kept")
    assert files(page.parent) == {
        *("README.md", "report.md", "results.csv", RECORD),
        *("figures/accuracy_by_depth.png", "figures/depth_benefit.png"),
    }
    again = published(page.parent)
    assert page_of(again, page.parent) == page.read_text(encoding="utf-8")
    assert again.verdicts[0].verdict == report.verdicts[0].verdict
    assert str(report.folder) not in "".join(
        path.read_text(encoding="utf-8") for path in page.parent.glob("*.*") if path.is_file()
    )


def test_a_study_may_have_a_page_of_its_own(report, tmp_path: Path) -> None:
    own = "# Mine\n{{ report.verdicts[0].verdict }}\n\n{{ table('answer') }}\n{{ figure('accuracy_by_depth') }}"
    (tmp_path / PAGE).write_text(own)
    text = publish(report, tmp_path).read_text(encoding="utf-8")
    assert text.startswith("# Mine\nsupported\n\n| source | n |")
    assert "![How many layers to train](figures/accuracy_by_depth.png)" in text
    assert (tmp_path / PAGE).read_text() == own


@pytest.mark.parametrize(
    "text", ["{{ nothing }}", "{{ table.func.__globals__ }}", "{{ report.nothing }}"]
)
def test_pages_with_faults_are_errors_and_leave_the_folder_alone(
    text: str, report, tmp_path: Path
) -> None:
    (tmp_path / PAGE).write_text(text)
    with pytest.raises((jinja2.UndefinedError, jinja2.exceptions.SecurityError)):
        publish(report, tmp_path)
    assert files(tmp_path) == {PAGE}


def test_publishing_again_removes_its_own_figures_only(report, tmp_path: Path) -> None:
    publish(report, tmp_path)
    (tmp_path / "figures" / "drawn by hand.png").write_bytes(b"mine")
    publish(replace(report, drawn=("depth_benefit",)), tmp_path)
    assert {name for name in files(tmp_path) if name.startswith("figures/")} == {
        *("figures/depth_benefit.png", "figures/drawn by hand.png"),
    }


def test_a_folder_of_the_first_version_is_published_over(report, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.png").write_bytes(b"png")
    (tmp_path / "README.md").write_text("![x](figures/old.png)")
    (tmp_path / "results.csv").write_text("trial,model\n")
    publish(report, tmp_path)
    assert "figures/old.png" not in files(tmp_path)


def test_two_seeds_are_published_together(report, tmp_path: Path) -> None:
    rows = made_rows(targets=("cyrillic",), schedules=(300,), seed=1)
    other = made_report(tmp_path / "other", rows, "target=cyrillic", "seed=1")
    publish(replace(report, replication=other), tmp_path / "kept")
    again = published(tmp_path / "kept")
    assert again.replication.config.seed == 1
    assert len(again.pairs) == 1
    assert "run again with seed 1" in (tmp_path / "kept" / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "case", ["other files", "own folder", "linked figures", "other readme", "other record"]
)
def test_foreign_folders_are_refused(case: str, tmp_path: Path) -> None:
    out, target = tmp_path / "out", tmp_path / "target"
    for path in (out, target, tmp_path / "elsewhere"):
        path.mkdir()
    if case == "own folder":
        target.rmdir()
        target.symlink_to(out)
    elif case == "linked figures":
        (target / "figures").symlink_to(tmp_path / "elsewhere")
    elif case == "other files":
        (target / "thesis.png").write_bytes(b"png")
    elif case == "other readme":
        (target / "README.md").write_text("# mine")
        (target / "results.csv").write_text("a,b\n")
    else:
        (target / RECORD).write_text("figures: [thesis]\n")
    with pytest.raises(UserError, match=r"publish: got .*accepted: a new or empty folder"):
        check_folder(out, target)


def test_a_folder_without_a_record_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"has no {RECORD}"):
        published(tmp_path)
