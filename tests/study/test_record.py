"""What was asked for, beside the results."""

import os

import pytest
import yaml

from convtl.cli import compose
from convtl.errors import UserError
from convtl.study.grid import expand
from convtl.study.record import commit, make_record, newest_record, versions, write_record


def test_a_record_can_be_run_again(tmp_path) -> None:
    content = compose(["+experiment=finetune_depth", "question=Почему?"])
    path = write_record(tmp_path, make_record(content, (), "python -m convtl.run", "2 x cpu"))
    assert path.parent == tmp_path / "configs"
    record = newest_record(tmp_path)
    assert record["config"] == content
    assert record["command"] == "python -m convtl.run"
    assert record["device"] == "2 x cpu"
    assert [trial.id for trial in expand(record["config"])[1]] == [trial.id for trial in expand(content)[1]]
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
    assert found is None or (len(found) == 40 and int(found, 16) >= 0)


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
