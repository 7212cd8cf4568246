"""What was asked for, beside the results."""

import json
import os
import re
from pathlib import Path

import pytest
import tiny
import yaml

from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.errors import UserError
from convtl.study import record
from convtl.study.grid import expand
from convtl.study.program import DIRTY, commit, short
from convtl.study.record import (
    commits_of,
    make_record,
    newest_record,
    versions,
    without_paths,
    write_record,
)
from convtl.study.store import RowStore


def test_a_record_can_be_run_again(tmp_path) -> None:
    content = compose(["+experiment=finetune_depth", "question=Почему?"])
    path = write_record(tmp_path, make_record(content, (), "python -m convtl.run", "2 x cpu"))
    assert path.parent == tmp_path / "configs"
    found = newest_record(tmp_path)
    assert found["config"] == content
    assert found["command"] == "python -m convtl.run"
    assert found["device"] == "2 x cpu"
    assert [trial.id for trial in expand(parse(found["config"]))[1]] == [
        trial.id for trial in expand(parse(content))[1]
    ]
    assert "Почему?" in path.read_text(encoding="utf-8")


def test_one_record_for_each_distinct_config_and_the_last_invocation_counts(tmp_path) -> None:
    one, other = {"seed": 1}, {"seed": 2}
    first = write_record(tmp_path, make_record(one, (), "a", "d"))
    second = write_record(tmp_path, make_record(other, (), "b", "d"))
    os.utime(first, ns=(1, 1))
    assert newest_record(tmp_path)["command"] == "b"
    assert write_record(tmp_path, make_record(one, (), "c", "d")) == first
    os.utime(second, ns=(2, 2))
    assert newest_record(tmp_path)["command"] == "c"
    assert sorted((tmp_path / "configs").iterdir()) == sorted([first, second])


def test_versions_name_python_and_the_packages() -> None:
    assert {"python", "jax", "flax", "optax", "numpy"} <= set(versions())


def test_a_commit_is_forty_digits_or_nothing() -> None:
    found = commit()
    assert found is None or re.fullmatch(rf"[0-9a-f]{{40}}({DIRTY})?", found)
    assert short("0123456789abcdef") == "0123456789"
    assert short(f"0123456789abcdef{DIRTY}") == f"0123456789{DIRTY}"


# --- which program made which row -------------------------------------------------------------------


def planned(out: Path, commit: str | None, *trials: str, when: int, **config: int) -> None:
    """A record of an invocation, written at a time of its own."""
    kept = {
        "commit": commit,
        "config": config,
        "points": [{"trial": trial} for trial in trials],
        "contents": {},
    }
    os.utime(write_record(out, kept), ns=(when, when))


def rows_of(out: Path, **files: list[dict]) -> dict[str, str | None]:
    (out / "rows").mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        (out / "rows" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return commits_of(RowStore(out))


def unsigned(*trials: str) -> list[dict]:
    return [{"trial": trial, "status": "done"} for trial in trials]


def test_rows_say_which_program_made_them(tmp_path) -> None:
    """Without a record: it is not asked."""
    signed = [{"trial": "a", "commit": "1" * 40}, {"trial": "b", "commit": None}]
    assert rows_of(tmp_path, one=signed) == {"a": "1" * 40, "b": None}


def test_rows_from_before_they_were_signed_are_of_the_invocation_that_planned_their_file(
    tmp_path,
) -> None:
    planned(tmp_path, "old", "a", "b", when=1, n=1)
    planned(tmp_path, "new", "a", "b", "c", when=2, n=2)
    found = rows_of(
        tmp_path,
        one=unsigned("a", "b", "tuning"),
        two=unsigned("c", "more tuning"),
        three=unsigned("t"),
    )
    assert found == {
        "a": "old",
        "b": "old",
        "tuning": "old",
        "c": "new",
        "more tuning": "new",
        "t": None,
    }


def test_a_study_that_goes_on_under_another_commit_keeps_the_first(tmp_path) -> None:
    for when, name in enumerate(("old", "new", "newest")):
        planned(tmp_path, name, "a", "b", when=when)
    found = newest_record(tmp_path)
    assert (found["commit"], found["first_commit"]) == ("newest", "old")
    assert rows_of(tmp_path, one=unsigned("a"), two=[{"trial": "b", "commit": "new"}]) == {
        "a": "old",
        "b": "new",
    }


def test_commands_lose_their_folders() -> None:
    command = "python -m convtl.run +experiment=e 'out=/my results' depth=1 cache=/c"
    assert without_paths(command) == "python -m convtl.run +experiment=e depth=1"
    assert (
        without_paths("`python -m convtl.report out=/a replication=/b` it was")
        == "`python -m convtl.report` it was"
    )


def test_the_places_of_many_trials_are_a_table_beside_the_record(tmp_path, monkeypatch) -> None:
    content = tiny.content(
        "source=[latin,scratch]", "axes={pretrain.updates:[4,6]}", "replicates=3"
    )
    points = expand(parse(content))[1]
    made = make_record(content, points, "python -m convtl.run", "2 x cpu")
    write_record(tmp_path / "few", made)
    monkeypatch.setattr(record, "_IN_RECORD", 2)
    path = write_record(tmp_path / "many", made)
    beside = path.with_name(f"{path.stem}.points.csv")
    assert beside.name in path.read_text()
    few, many = (newest_record(tmp_path / name)["points"] for name in ("few", "many"))
    assert len(few) == 12
    assert list(many) == few
    beside.unlink()
    with pytest.raises(UserError, match="out: cannot read"):
        newest_record(tmp_path / "many")


@pytest.mark.parametrize(
    "text", ["", "trial\n1\n", "trial,config,source,similarity,axes\n1,2,3,x,y\n"]
)
def test_a_foreign_table_of_places_is_one_line(tmp_path, monkeypatch, text) -> None:
    monkeypatch.setattr(record, "_IN_RECORD", 0)
    content = tiny.content()
    path = write_record(tmp_path, make_record(content, expand(parse(content))[1], "", ""))
    path.with_name(f"{path.stem}.points.csv").write_text(text)
    with pytest.raises(UserError, match="is no record of a run"):
        newest_record(tmp_path)


@pytest.mark.parametrize("text", [None, "- 1", "a: [", "seed: 1", "\x00", ""])
def test_a_foreign_folder_is_one_line(tmp_path, text) -> None:
    if text is not None:
        (tmp_path / "configs").mkdir()
        (tmp_path / "configs" / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=r"^out: ") as error:
        newest_record(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_are_one_line(tmp_path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "x.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match="is no record of a run"):
        newest_record(tmp_path)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path) -> None:
    (tmp_path / "configs").write_text("")
    with pytest.raises(UserError, match="out: cannot write in"):
        write_record(tmp_path, make_record({}, (), "", ""))
    assert yaml.safe_load((tmp_path / "configs").read_text()) is None


def test_a_record_from_before_there_was_a_key_is_the_same_study(tmp_path) -> None:
    content = compose(["+experiment=finetune_depth"])
    later = ("class_balance", "norm_mode", "augment", "precision")
    old = {name: value for name, value in content.items() if name not in later}
    write_record(tmp_path, make_record(old, (), "python -m convtl.run", "2 x cpu"))
    found = newest_record(tmp_path)["config"]
    assert found == content
    assert parse(found)
