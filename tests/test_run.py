"""`convtl.run`: from words to rows, table and report."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from commands import Commands

from convtl.errors import UserError
from convtl.reporting.samples import read_samples
from convtl.study.group import Group
from convtl.study.store import RowStore
from convtl.training.loop import Trainer


@pytest.fixture
def commands(monkeypatch, capfd, tmp_path) -> Commands:
    """Commands that are typed in an empty folder."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return Commands(monkeypatch, capfd)


def lines(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def here() -> list[str]:
    return sorted(path.name for path in Path.cwd().iterdir())


def test_a_study_leaves_rows_a_table_a_report_and_nothing_else(commands) -> None:
    words = (
        "source=[latin,scratch]",
        "depth=[1,5]",
        "replicates=2",
        "out=my results/~[1], it's",
        "question=Why?",
    )
    done = commands.tiny(*words)
    out = Path("my results/~[1], it's")
    assert done.code == 0, done.err
    assert here() == ["my results"]
    names = {path.name for path in out.iterdir()}
    assert {
        "rows",
        ".locks",
        "configs",
        "results.csv",
        "report.md",
        "report.html",
        "figures",
    } <= names
    assert names <= {
        "rows",
        ".locks",
        "configs",
        "results.csv",
        "report.md",
        "report.html",
        "figures",
        "samples.npz",
    }
    assert list((out / "figures").glob("*.png"))
    table = lines(out)
    assert [line["status"] for line in table] == ["done"] * 6
    assert {line["frozen_ok"] for line in table} == {"True"}
    assert "6 trials run, 0 were there" in done.out
    assert str(out / "report.html") in done.out
    assert "Why?" in (out / "report.md").read_text(encoding="utf-8")

    again = commands.without_reports().tiny(*words)
    assert again.code == 0
    assert "0 trials run, 6 were there" in again.out
    assert lines(out) == table

    (out / "results.csv").unlink()
    for path in (out / "figures").iterdir():
        path.unlink()
    (out / "report.md").unlink()
    rebuilt = commands.report(f"out={out}")
    assert rebuilt.code == 0, rebuilt.err
    assert lines(out) == table
    assert list((out / "figures").glob("*.png"))
    assert "Why?" in (out / "report.md").read_text(encoding="utf-8")
    assert here() == ["my results"]


def test_pictures_are_of_the_whole_study_whoever_ran_its_parts(commands) -> None:
    for source in ("latin", "scratch"):
        assert commands.tiny(f"source={source}", "out=o").code == 0
    assert "0 trials run, 2 were there" in commands.tiny("source=[latin,scratch]", "out=o").out
    assert read_samples(Path("o")).keys() == {"latin", "cyrillic"}


def test_without_out_the_results_are_named_after_the_study(commands) -> None:
    commands.without_reports()
    done = commands.tiny("study=letters", "source=random", "lr=1e-2")
    assert done.code == 0, done.err
    assert here() == ["outputs"]
    assert len(lines(Path("outputs/letters"))) == 1


def test_home_is_understood_in_paths(commands, monkeypatch, tmp_path) -> None:
    commands.without_reports()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert commands.tiny("out=~/res ults", "source=random", "lr=1e-2").code == 0
    assert len(lines(tmp_path / "home" / "res ults")) == 1
    assert here() == []


@pytest.mark.parametrize("key", ["out", "cache"])
def test_nobodys_home_is_one_line(commands, key) -> None:
    said = commands.tiny(f"{key}=~nobody-of-this-name/x", "source=random").line
    assert said == f"{key}: got '~nobody-of-this-name/x'; there is no such home folder"


# --- what cannot be written -------------------------------------------------------------------------


def test_an_out_below_a_file_is_one_line(commands) -> None:
    Path("file").write_text("")
    for out in ("file", "file/below"):
        assert commands.tiny(f"out={out}", "source=random").line.startswith("out: cannot ")
    assert here() == ["file"]


def test_a_cache_below_a_file_is_one_line(commands) -> None:
    Path("file").write_text("")
    for cache in ("file", "file/below"):
        said = commands.tiny(
            f"cache={cache}", "source=random", "out=o", "domains.cyrillic.jitter.noise=0.31"
        )
        assert said.code == 2
        (line,) = [line for line in said.err.splitlines() if line.startswith("convtl: ")]
        assert line.startswith("convtl: cache: cannot write in")
        assert "Traceback" not in said.err
    assert here() == ["file"], "nothing is written for a study that cannot be run"


def test_data_that_do_not_suffice_leave_nothing_behind(commands) -> None:
    done = commands.tiny("n_per_class=1000", "out=o")
    assert done.line.startswith("n_per_class: got 1000; accepted: 1 to 16")
    assert here() == []


def test_a_disk_that_is_full_in_the_middle_is_one_line(commands, monkeypatch) -> None:
    def full(self, row):
        raise UserError("out: cannot write in 'o': No space left on device")

    monkeypatch.setattr(RowStore, "append", full)
    done = commands.tiny("out=o", "source=random", "lr=1e-2")
    assert done.code == 2
    assert done.err.splitlines()[-1] == "convtl: out: cannot write in 'o': No space left on device"
    assert "Traceback" not in done.err


# --- what goes wrong in training --------------------------------------------------------------------


def test_a_rate_that_explodes_is_a_row_and_no_failure(commands) -> None:
    commands.without_reports()
    done = commands.tiny("out=o", "source=scratch", "axes={lr:[1e38,1e-3]}")
    assert done.code == 0, done.err
    assert sorted(line["status"] for line in lines(Path("o"))) == ["diverged", "done"]
    assert "Traceback" not in done.err
    assert (
        "0 trials run, 2 were there"
        in commands.tiny("out=o", "source=scratch", "axes={lr:[1e38,1e-3]}").out
    )


def test_a_failure_is_told_and_is_the_exit_code(commands, monkeypatch) -> None:
    commands.without_reports()

    def broken(self, *args, **keywords):
        raise RuntimeError("device lost")

    words = ("out=o", "source=random", "lr=1e-2", "n_per_class=[2,4]")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", broken)
        done = commands.tiny(*words)
    assert done.code == 1
    assert "convtl: 2 trials failed: RuntimeError: device lost" in done.err
    assert {(line["status"], line["reason"]) for line in lines(Path("o"))} == {
        ("failed", "RuntimeError: device lost")
    }
    again = commands.tiny(*words)
    assert again.code == 0
    assert {line["status"] for line in lines(Path("o"))} == {"done"}


def test_control_c_keeps_what_is_done_and_says_how_to_go_on(commands, monkeypatch) -> None:
    commands.without_reports()

    def stopped(self, *args, **keywords):
        raise KeyboardInterrupt

    words = ("out=o", "source=random", "lr=1e-2")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", stopped)
        done = commands.tiny(*words)
    assert done.code == 130
    assert done.err.splitlines()[-1] == "convtl: stopped; the same command goes on where it stopped"
    assert [line["status"] for line in lines(Path("o"))] == ["interrupted"]
    assert commands.tiny(*words).code == 0
    assert [line["status"] for line in lines(Path("o"))] == ["done"]


# --- around -----------------------------------------------------------------------------------------


def test_dry_run_tells_and_writes_nothing(commands) -> None:
    commands.without_reports()
    words = ("source=[latin,scratch]", "depth=[1,5]", "n_per_class=[2,4]")
    done = commands.tiny(*words, "dry_run=true", "out=o")
    assert done.code == 0, done.err
    assert "6 trials: 0 done, 6 to run" in done.out
    assert "2 compiled programs, 18 training runs at least" in done.out
    assert "1 source nets" in done.out
    assert "min at" in done.out
    done = commands.tiny("source=random", "dry_run=true", "devices=batch", "batch_size=5")
    assert (
        done.line
        == "batch_size: got 5 with devices.split=batch on 2 devices; accepted: a multiple of 2"
    )
    assert here() == []
    assert commands.tiny("source=random", "lr=1e-2", "out=o").code == 0
    done = commands.tiny("source=random", "lr=1e-2", "n_per_class=[2,4]", "out=o", "dry_run=true")
    assert "2 trials: 1 done, 1 to run" in done.out
    assert "measured in this folder's rows" in done.out


def test_help_names_what_there_is(commands) -> None:
    for word in ("--help", "-h"):
        done = commands.run(word)
        assert done.code == 0
        for name in ("finetune_depth", "cyrillic", "lenet5", "lp_ft", "n_per_class"):
            assert name in done.out
    assert here() == []


def test_tuned_nets_are_saved_on_request(commands) -> None:
    commands.without_reports()
    from convtl.study.nets import load_net

    assert commands.tiny("out=o", "source=random", "lr=1e-2", "save=best").code == 0
    (saved,) = Path("o/nets").iterdir()
    assert "fc5" in load_net(saved).variables


def test_a_sweep_runs_all_points_into_one_folder(commands) -> None:
    words = ("-m", *tiny.WORDS, "source=random", "lr=1e-2")
    commands.without_reports()
    done = commands.run(*words, "target=cyrillic,latin", "n_per_class=[2,4]", "out=a 'b'")
    assert done.code == 0, done.err
    assert here() == ["a 'b'"]
    table = lines(Path("a 'b'"))
    assert {(line["target"], line["n_per_class"]) for line in table} == {
        ("cyrillic", "2"),
        ("cyrillic", "4"),
        ("latin", "2"),
        ("latin", "4"),
    }
    assert {line["status"] for line in table} == {"done"}


def test_a_failing_point_is_the_exit_code_of_the_sweep(commands, monkeypatch) -> None:
    row = Group._row

    def broken(self, active):
        if active.trial.n_per_class == 2:
            raise RuntimeError("device lost")
        return row(self, active)

    monkeypatch.setattr(Group, "_row", broken)
    commands.without_reports()
    done = commands.run("-m", *tiny.WORDS, "source=random", "lr=1e-2", "n_per_class=2,4", "out=o")
    assert done.code == 1
    assert sorted((line["status"], line["reason"]) for line in lines(Path("o"))) == [
        ("done", ""),
        ("failed", "RuntimeError: device lost"),
    ]


def test_the_command_itself_in_a_process_of_its_own(tmp_path) -> None:
    (tmp_path / "conf" / "domains").mkdir(parents=True)
    (tmp_path / "conf" / "experiment").mkdir()
    (tmp_path / "conf" / "domains" / "runes.yaml").write_text(
        "kind: typed_script\nscript: greek\nsize: 16\nper_class: {train: 8, validation: 4, test: 8}\n"
    )
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nstudy: mine\nsource: random\ntarget: runes\ndepth: 1\nn_per_class: 2\nlr: 1e-2\n"
    )
    words = [
        word
        for word in tiny.WORDS
        if not word.startswith(("source", "target", "depth", "n_per", "domains"))
    ]
    done = subprocess.run(
        [sys.executable, "-m", "convtl.run", "+experiment=mine", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf", "outputs"]
    assert len(lines(tmp_path / "outputs" / "mine")) == 1
    assert "Warning" not in done.stderr
