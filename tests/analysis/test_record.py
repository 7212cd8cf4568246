"""What was asked for, beside the results."""

import os
import re

import pandas as pd
import pytest
import tiny
import yaml
from pandas.testing import assert_frame_equal

from convtl.analysis.record import newest_record, without_paths
from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.errors import UserError
from convtl.study.grid import expand
from convtl.study.rows import DIRTY, commit, short
from convtl.study.store import make_record, planned, versions, write_record


def test_a_record_can_be_run_again(tmp_path) -> None:
    content = compose(["+experiment=finetune_depth", "question=Почему?"])
    path = write_record(tmp_path, make_record(content, (), "python -m convtl.run", "2 x cpu"))
    assert path.parent == tmp_path / "configs"
    record = newest_record(tmp_path)
    assert record["config"] == content
    assert record["command"] == "python -m convtl.run"
    assert record["device"] == "2 x cpu"
    assert [trial.id for trial in expand(parse(record["config"]))[1]] == [
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
    assert sorted((tmp_path / "configs").glob("*.yaml")) == sorted([first, second])


def test_versions_name_python_and_the_packages() -> None:
    assert {"python", "jax", "flax", "optax", "numpy"} <= set(versions())


def test_a_commit_is_forty_digits_or_nothing() -> None:
    found = commit()
    assert found is None or re.fullmatch(rf"[0-9a-f]{{40}}({DIRTY})?", found)
    assert short("0123456789abcdef") == "0123456789"
    assert short(f"0123456789abcdef{DIRTY}") == f"0123456789{DIRTY}"


def test_commands_lose_their_folders() -> None:
    command = "python -m convtl.run +experiment=e 'out=/my results' depth=1 cache=/c"
    assert without_paths(command) == "python -m convtl.run +experiment=e depth=1"
    assert (
        without_paths("`python -m convtl.report out=/a replication=/b` it was")
        == "`python -m convtl.report` it was"
    )


def test_the_places_of_the_trials_come_back(tmp_path) -> None:
    content = tiny.content(
        "source=[latin,scratch]", "axes={pretrain.updates:[4,6]}", "replicates=3"
    )
    points = expand(parse(content))[1]
    path = write_record(tmp_path, make_record(content, points, "", ""))
    expected = pd.DataFrame(planned(points)).astype({"similarity": "float64"})
    assert_frame_equal(newest_record(tmp_path)["points"], expected)
    assert len(points) == 12
    path.with_suffix(".points.csv").unlink()
    with pytest.raises(UserError, match="out: cannot read"):
        newest_record(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "trial\n1\n", "trial,config,source,similarity,axes\n1,2,3,x,y\n"]
)
def test_a_foreign_table_of_places_is_one_line(tmp_path, text) -> None:
    content = tiny.content()
    path = write_record(tmp_path, make_record(content, expand(parse(content))[1], "", ""))
    path.with_suffix(".points.csv").write_text(text)
    with pytest.raises(UserError, match="is no record of a run"):
        newest_record(tmp_path)


@pytest.mark.parametrize("version", [None, 3])
def test_a_record_of_another_version_is_refused_in_one_line(tmp_path, version) -> None:
    record = make_record({"seed": 1}, (), "", "") | {"results_version": version, "commit": "0123ab"}
    write_record(tmp_path, record)
    with pytest.raises(UserError, match="another version of convtl; commit 0123ab reads it"):
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
    assert parse(newest_record(tmp_path)["config"]) == parse(content)
